use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize},
};

use bytes::Bytes;
use tenure_core::{KeyRange, wait_queue::Rule};

use super::Stand;
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
    /// It follows its predecessor, and nobody else.
    pub(super) one_by_one: bool,
    pub(super) ahead: AtomicUsize,
    pub(super) has_turn: AtomicBool,
    /// It was given up, and the others are held on.
    pub(super) given_up: AtomicBool,
}

impl Place {
    pub(super) fn new(key: Bytes, mark: Option<Bytes>, stand: &Stand) -> Self {
        Self {
            key,
            mark,
            queue: stand.queue.clone(),
            rule: stand.rule.clone(),
            one_by_one: stand.one_by_one,
            ahead: AtomicUsize::new(usize::MAX),
            has_turn: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
        }
    }

    /// Whether both are in one queue.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        let queues = self.queue.as_ref().zip(other.queue.as_ref());
        queues.is_some_and(|(one, another)| Arc::ptr_eq(one, another))
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
