use std::collections::{BTreeMap, BTreeSet};

use super::entry::Lease;
use crate::{LeaseId, Moment};

/// The kept leases, and which of them has something to do next.
#[derive(Debug, Default)]
pub(super) struct Table {
    leases: BTreeMap<LeaseId, Lease>,
    /// Each lease once, under its `timer`.
    timers: BTreeSet<(Moment, LeaseId)>,
}

impl Table {
    pub(super) fn insert(&mut self, id: LeaseId, lease: Lease) {
        self.timers.insert((lease.timer, id));
        self.leases.insert(id, lease);
    }

    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.timers.remove(&(lease.timer, id));
        Some(lease)
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// Whoever changes a lease through this must [`arm`](Self::arm) it afterwards.
    pub(super) fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.leases.get_mut(&id)
    }

    /// Sets the timer of a lease by how it stands now.
    pub(super) fn arm(&mut self, id: LeaseId, stream_open: bool) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let instant = lease.next_instant(stream_open);
        if instant != lease.timer {
            self.timers.remove(&(lease.timer, id));
            self.timers.insert((instant, id));
            lease.timer = instant;
        }
    }

    /// The lease whose timer is first, and when.
    pub(super) fn next(&self) -> Option<(Moment, LeaseId)> {
        self.timers.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }
}
