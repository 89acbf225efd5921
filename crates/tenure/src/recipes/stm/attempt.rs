//! One run of a transaction's closure: what it read, what it will write, and how it is committed.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure_core::{
    KeyRange, KeyValue, Revision,
    stm::{Reads, Snapshot},
};

use super::Isolation;
use crate::{
    client::Turn,
    error::{Error, Result},
    ops::{Delete, GetResponse, Op, Put, PutLease},
};

/// What a transaction does to a key in the end.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Put(Bytes, PutLease),
    Delete,
}

impl Write {
    pub(super) fn op(&self, key: &Bytes) -> Op {
        match self {
            Self::Put(value, lease) => {
                let mut put = Put::new(key, value);
                put.lease = *lease;
                put.into()
            }
            Self::Delete => Delete::new(key).into(),
        }
    }

    /// The key after this was committed.
    pub(super) fn after(
        &self,
        key: &Bytes,
        before: Option<&KeyValue>,
        at: Revision,
    ) -> Option<KeyValue> {
        let Self::Put(value, lease) = self else { return None };
        Some(KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: before.map_or(at, |kv| kv.create_revision),
            mod_revision: at,
            version: before.map_or(1, |kv| kv.version + 1),
            lease: match lease {
                PutLease::None => None,
                PutLease::Attach(lease) => Some(*lease),
                PutLease::Keep => before.and_then(|kv| kv.lease),
            },
        })
    }
}

/// The turns that a transaction has, by key.
pub(super) type Turns = BTreeMap<Bytes, Turn>;

#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) isolation: Isolation,
    /// The revision that everything is read at, once there is one; none at the levels that have no
    /// snapshot.
    pub(super) at: Revision,
    /// What is known without asking: of that revision, if there is one.
    ahead: Snapshot,
    /// That comes from another transaction, so it may have been old when this one began: only a
    /// commit proves that it was not.
    pub(super) remembered: bool,
    pub(super) reads: Reads,
    pub(super) writes: BTreeMap<Bytes, Write>,
    pub(super) turns: Turns,
    /// It was looked whether there is a turn to wait for.
    queued: bool,
    /// What it reads is compacted away.
    pub(super) compacted: Option<Error>,
    over: bool,
}

impl Attempt {
    /// One that has these turns.
    pub(super) fn new(isolation: Isolation, turns: Turns) -> Self {
        let queued = !turns.is_empty() || !isolation.checks_reads();
        Self { isolation, turns, queued, ..Self::default() }
    }

    /// Begins with what is known of the store.
    pub(super) fn know(&mut self, snapshot: Snapshot, remembered: bool) {
        if self.isolation.has_snapshot() {
            self.at = snapshot.revision;
        }
        self.ahead = snapshot;
        self.remembered = remembered;
    }

    /// Has a turn, and begins with what the one before left, unless it knows better.
    pub(super) fn take_turn(&mut self, key: Bytes, turn: Turn) {
        let left = turn.snapshot().filter(|left| left.revision > self.ahead.revision);
        if let Some(left) = left.filter(|_| self.reads.is_empty()) {
            self.know((*left).clone(), true);
        }
        self.turns.insert(key, turn);
    }

    /// Ends it. Whoever still has a view of it cannot use it any more.
    pub(super) fn end(&mut self) -> Self {
        std::mem::replace(self, Self { over: true, ..Self::default() })
    }

    pub(super) fn check_open(&self) -> Result<()> {
        match self.over {
            true => Err(Error::invalid("transaction", "this view is of one that is over")),
            false => Ok(()),
        }
    }

    /// Whether this is the first read. It alone may wait for a turn, since nothing is kept from
    /// others meanwhile.
    pub(super) fn may_queue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// The value as this transaction will leave it, if it writes the key.
    pub(super) fn written(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.writes.get(key).map(|write| match write {
            Write::Put(value, _) => Some(value.clone()),
            Write::Delete => None,
        })
    }

    /// The value as this transaction sees it, of a key that it read or wrote.
    pub(super) fn value(&self, key: &[u8]) -> Option<Bytes> {
        let read = || self.reads.key(key).flatten().map(|kv| kv.value.clone());
        self.written(key).unwrap_or_else(read)
    }

    /// The keys and values of a range that was read, as this transaction sees them.
    pub(super) fn values(&self, range: &KeyRange) -> Vec<(Bytes, Bytes)> {
        let read = self.reads.range(range).into_iter().flat_map(|read| &read.kvs);
        let mut seen: BTreeMap<_, _> =
            read.map(|kv| (kv.key.clone(), Some(kv.value.clone()))).collect();
        for key in self.writes.keys().filter(|key| range.contains(key)) {
            seen.insert(key.clone(), self.value(key));
        }
        seen.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    pub(super) fn put(&mut self, put: Put) -> Result<()> {
        let Some(value) = put.value.0 else {
            return Err(Error::invalid("put", "a transaction gets a value to keep it"));
        };
        let lease = match (put.lease, self.writes.get(&put.key)) {
            (PutLease::Keep, Some(Write::Put(_, lease))) => *lease,
            (PutLease::Keep, Some(Write::Delete)) => PutLease::None,
            (lease, _) => lease,
        };
        self.writes.insert(put.key, Write::Put(value, lease));
        Ok(())
    }

    pub(super) fn delete(&mut self, key: Bytes) {
        self.writes.insert(key, Write::Delete);
    }

    /// What is still to be asked for, of all that is wanted; so much of it at once.
    pub(super) fn missing(&mut self, wanted: &[KeyRange], limit: usize) -> Vec<KeyRange> {
        let mut missing = Vec::new();
        for want in wanted {
            let known = self.reads.knows(want) || self.reads.adopt(want, &self.ahead.reads);
            if !known && missing.len() < limit && !missing.contains(want) {
                missing.push(want.clone());
            }
        }
        missing
    }

    /// Takes in the answers to what was asked for at a revision, or at none yet. They come from
    /// the state of the store at `seen`.
    pub(super) fn learn(
        &mut self,
        at: Revision,
        seen: Revision,
        answers: impl IntoIterator<Item = (KeyRange, GetResponse)>,
    ) {
        // Another read was first, and decided about the revision.
        if self.at != at {
            return;
        }
        if self.isolation.has_snapshot() && at == Revision::NONE {
            self.at = seen;
        }
        let revision = if at == Revision::NONE { seen } else { at };
        for (range, answer) in answers {
            // What was read stays.
            if !self.reads.knows(&range) {
                self.reads.add(range, revision, answer.kvs);
            }
        }
    }

    /// Whether this is no ground for an answer: what it saw may have been old.
    pub(super) fn proves_nothing(&self, failed: bool) -> bool {
        self.compacted.is_some() || self.remembered && (failed || self.writes.is_empty())
    }
}
