use std::sync::Arc;

use bytes::Bytes;
use tenure_core::{
    LeaseId,
    name::{claim_key, place_key},
    wait_queue::Rule,
};

use crate::client::Queue;

/// A key to be put, and the queue that it stands in, if it stands in any.
#[derive(Clone)]
pub(crate) struct Stand {
    /// None if whoever asks for the key tells what becomes of it.
    pub(crate) queue: Option<Arc<Queue>>,
    /// The prefix of the key: the queue's, or below it.
    pub(crate) home: Bytes,
    pub(crate) naming: Naming,
    pub(crate) rule: Rule,
    /// Whatever happens in the queue is to wake one contender, and not all of them.
    pub(crate) one_by_one: bool,
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

impl Stand {
    /// In a queue whose oldest key holds.
    pub(crate) fn in_line(queue: Arc<Queue>) -> Self {
        let home = queue.prefix().clone();
        let (naming, rule) = (Naming::TakenOver, Rule::Everybody);
        Self { queue: Some(queue), home, naming, rule, one_by_one: false }
    }

    pub(super) fn alone(home: Bytes, naming: Naming) -> Self {
        Self { queue: None, home, naming, rule: Rule::Nobody, one_by_one: false }
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
