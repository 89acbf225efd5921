use std::sync::Arc;

use bytes::Bytes;
use tenure_core::{
    LeaseId,
    name::{claim_key, place_key},
    wait_queue::Rule,
};

use crate::client::Queue;

/// A key to be put, and the queue that it stands in.
#[derive(Clone)]
pub(crate) struct Stand {
    pub(crate) queue: Arc<Queue>,
    /// The prefix of the key: the queue's, or below it.
    pub(crate) home: Bytes,
    pub(crate) naming: Naming,
    pub(crate) rule: Rule,
}

/// How keys are called behind their prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// A process that resumes the session takes the key over, and puts it again.
    TakenOver,
    /// Whoever else reads the queue looks when a key was put last: it is never put again.
    PutOnce,
    /// The prefix is the key, and whoever puts it first has it. The value says who that is: no other
    /// is like it.
    Shared,
}

/// A key to be put, whether in a queue or not.
#[derive(Clone)]
pub(super) struct Spot {
    /// None if whoever asks for the key tells what becomes of it.
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) home: Bytes,
    pub(super) naming: Naming,
    pub(super) rule: Rule,
}

impl From<Stand> for Spot {
    fn from(Stand { queue, home, naming, rule }: Stand) -> Self {
        Self { queue: Some(queue), home, naming, rule }
    }
}

impl Stand {
    /// In a queue whose oldest key holds.
    pub(crate) fn in_line(queue: Arc<Queue>) -> Self {
        let home = queue.prefix().clone();
        Self { queue, home, naming: Naming::TakenOver, rule: Rule::Everybody }
    }
}

impl Spot {
    pub(super) fn alone(home: Bytes, naming: Naming) -> Self {
        Self { queue: None, home, naming, rule: Rule::Nobody }
    }

    pub(super) fn key(&self, lease: LeaseId, nonce: u32) -> Bytes {
        let key = match self.naming {
            Naming::TakenOver => claim_key,
            Naming::PutOnce => place_key,
            Naming::Shared => return self.home.clone(),
        };
        key(self.home.clone(), lease, nonce).into_bytes()
    }
}
