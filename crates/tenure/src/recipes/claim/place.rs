use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize},
};

use bytes::Bytes;
use tenure_core::{KeyRange, wait_queue::Rule};

use super::stand::Spot;
use crate::{
    client::Queue,
    ops::{Compare, Get},
};

/// One key, and the queue it is in, if it is in any.
pub(super) struct Place {
    pub(super) key: Bytes,
    /// What it says, if others put keys of this name.
    pub(super) mark: Option<Bytes>,
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) rule: Rule,
    pub(super) ahead: AtomicUsize,
    pub(super) has_turn: AtomicBool,
    /// It was given up, and the others are held on.
    pub(super) given_up: AtomicBool,
}

impl Place {
    pub(super) fn new(key: Bytes, mark: Option<Bytes>, spot: &Spot) -> Self {
        Self {
            key,
            mark,
            queue: spot.queue.clone(),
            rule: spot.rule.clone(),
            ahead: AtomicUsize::new(usize::MAX),
            has_turn: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
        }
    }

    /// Where those are that it may have to wait for.
    pub(super) fn range(&self) -> KeyRange {
        self.queue.as_ref().map_or_else(|| KeyRange::key(&self.key), |queue| queue.range())
    }

    /// Where the number of permits is written, if its queue gives any.
    pub(super) fn room_key(&self) -> Bytes {
        self.queue.as_ref().map_or_else(|| self.key.clone(), |queue| queue.room_key())
    }

    /// Asks whether it is there, and whose it is.
    pub(super) fn get(&self) -> Get {
        let get = Get::new(self.key.clone());
        if self.mark.is_some() { get } else { get.keys_only() }
    }

    /// What holds once a copy has put it, whenever that was.
    pub(super) fn is_put(&self) -> Compare {
        match &self.mark {
            Some(mark) => Compare::value(self.key.clone()).equal(mark.clone()),
            None => Compare::exists(self.key.clone()),
        }
    }

    pub(super) fn leave_queue(&self) {
        if let Some(queue) = &self.queue {
            queue.leave(self.key.clone());
        }
    }
}
