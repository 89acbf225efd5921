//! What else the transactions do that put the keys of a claim and delete them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::ops::{Compare, Op};

/// Done together with the key of a claim, or not at all. A claim with several keys has none.
#[derive(Default)]
pub(crate) struct Errand {
    /// The keys are put only if this holds.
    when: Vec<Compare>,
    on_entering: Vec<Op>,
    on_leaving: Mutex<Vec<Op>>,
    /// The same, for a key whose name is not known before.
    along_with: Option<AlongWith>,
}

type AlongWith = Box<dyn Fn(&Bytes) -> Vec<Op> + Send + Sync>;

impl Errand {
    /// What is done when the keys are put must be such that it can be done only once.
    pub(crate) fn new(when: Vec<Compare>, on_entering: Vec<Op>) -> Self {
        Self { when, on_entering, ..Self::default() }
    }

    /// What is done when the key is deleted, which is called like this.
    pub(crate) fn along_with(leaving: impl Fn(&Bytes) -> Vec<Op> + Send + Sync + 'static) -> Self {
        Self { along_with: Some(Box::new(leaving)), ..Self::default() }
    }

    pub(super) fn when(&self) -> Vec<Compare> {
        self.when.clone()
    }

    pub(super) fn on_entering(&self) -> Vec<Op> {
        self.on_entering.clone()
    }

    pub(super) fn on_leaving(&self, key: &Bytes) -> Vec<Op> {
        let mut leaving = self.leaving().clone();
        leaving.extend(self.along_with.iter().flat_map(|along| along(key)));
        leaving
    }

    /// From now on this is done when the keys are deleted.
    pub(crate) fn leave_with(&self, ops: Vec<Op>) {
        *self.leaving() = ops;
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Op>> {
        // Nothing in here can panic while it is held.
        self.on_leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
