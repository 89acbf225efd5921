//! Leases: who must be renewed by when, and which keys go with whom. Pure: the time comes in.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    refusal::{self, Refusal},
    settings::MAX_TTL,
};

#[derive(Debug)]
struct Lease {
    ttl: i64,
    /// When it ends; never, while it is frozen.
    due: Option<Instant>,
    keys: BTreeSet<Bytes>,
}

/// What is to be told about one lease.
#[derive(Debug)]
pub(crate) struct Remaining {
    pub(crate) granted: i64,
    pub(crate) left: i64,
}

#[derive(Debug)]
pub(crate) struct Leases {
    all: HashMap<i64, Lease>,
    due: BTreeSet<(Instant, i64)>,
    min_ttl: i64,
    renewals: u64,
}

impl Leases {
    /// A lease shorter than `min_ttl` seconds is made that long.
    pub(crate) fn new(min_ttl: i64) -> Self {
        Self { all: HashMap::new(), due: BTreeSet::new(), min_ttl, renewals: 0 }
    }

    /// Grants a lease, and says how long it is. An id of 0 asks for `free_id`.
    pub(crate) fn grant(
        &mut self,
        id: i64,
        ttl: i64,
        free_id: impl FnMut() -> i64,
        now: Instant,
    ) -> Result<(i64, i64), Refusal> {
        if ttl > MAX_TTL {
            return Err(refusal::LEASE_TTL_TOO_LARGE);
        }
        let mut free_ids = std::iter::repeat_with(free_id);
        let id = match id {
            0 => free_ids.find(|id| *id != 0 && !self.has(*id)).unwrap_or_default(),
            id => id,
        };
        if self.has(id) {
            return Err(refusal::LEASE_EXISTS);
        }
        let ttl = ttl.max(self.min_ttl);
        self.all.insert(id, Lease { ttl, due: None, keys: BTreeSet::new() });
        self.begin(id, now);
        Ok((id, ttl))
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn has(&self, id: i64) -> bool {
        self.all.contains_key(&id)
    }

    /// Starts its time again, and says how long that is.
    pub(crate) fn renew(&mut self, id: i64, now: Instant) -> Option<i64> {
        let ttl = self.begin(id, now)?;
        self.renewals += 1;
        Some(ttl)
    }

    /// How often a lease was renewed.
    pub(crate) fn renewals(&self) -> u64 {
        self.renewals
    }

    /// Takes the lease away, and says which keys went with it, in their order.
    pub(crate) fn revoke(&mut self, id: i64) -> Option<BTreeSet<Bytes>> {
        self.end_at(id, None);
        self.all.remove(&id).map(|lease| lease.keys)
    }

    pub(crate) fn remaining(&self, id: i64, now: Instant) -> Option<Remaining> {
        let lease = self.all.get(&id)?;
        let left = lease.due.map_or(lease.ttl, |due| {
            i64::try_from(due.saturating_duration_since(now).as_secs()).unwrap_or(i64::MAX)
        });
        Some(Remaining { granted: lease.ttl, left })
    }

    pub(crate) fn keys(&self, id: i64) -> impl Iterator<Item = &Bytes> {
        self.all.get(&id).into_iter().flat_map(|lease| &lease.keys)
    }

    /// All ids, those that end first first.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let frozen = self.all.iter().filter(|(_, lease)| lease.due.is_none()).map(|(id, _)| *id);
        self.due.iter().map(|(_, id)| *id).chain(frozen).collect()
    }

    pub(crate) fn attach(&mut self, id: i64, key: &Bytes) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
    }

    pub(crate) fn detach(&mut self, id: i64, key: &Bytes) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// When the first of them ends.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// One that should have ended by now.
    pub(crate) fn overdue(&self, now: Instant) -> Option<i64> {
        self.due.first().filter(|(due, _)| *due <= now).map(|(_, id)| *id)
    }

    /// Gives each its whole time again, as a new leader does.
    pub(crate) fn renew_all(&mut self, now: Instant) {
        for id in self.due.iter().map(|(_, id)| *id).collect::<Vec<_>>() {
            self.begin(id, now);
        }
    }

    pub(crate) fn is_frozen(&self, id: i64) -> bool {
        self.all.get(&id).is_some_and(|lease| lease.due.is_none())
    }

    /// Lets it neither end nor come nearer to its end until it is renewed.
    pub(crate) fn freeze(&mut self, id: i64) -> bool {
        self.end_at(id, None);
        self.has(id)
    }

    fn begin(&mut self, id: i64, now: Instant) -> Option<i64> {
        let ttl = self.all.get(&id)?.ttl;
        self.end_at(id, Some(now + seconds(ttl)));
        Some(ttl)
    }

    fn end_at(&mut self, id: i64, due: Option<Instant>) {
        let Some(lease) = self.all.get_mut(&id) else { return };
        if let Some(due) = std::mem::replace(&mut lease.due, due) {
            self.due.remove(&(due, id));
        }
        if let Some(due) = due {
            self.due.insert((due, id));
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::{Duration, Instant};

    use super::{Leases, refusal};

    #[test]
    fn the_one_that_ends_first_is_first_and_a_renewal_moves_it() {
        let now = Instant::now();
        let mut leases = Leases::new(2);
        assert_eq!(leases.grant(7, 60, || 0, now).unwrap(), (7, 60));
        assert_eq!(leases.grant(8, 1, || 0, now).unwrap(), (8, 2));
        assert_eq!(leases.ids(), [8, 7]);
        let later = now + Duration::from_secs(2);
        assert_eq!(leases.overdue(later), Some(8));
        assert_eq!(leases.renew(8, later), Some(2));
        assert_eq!(leases.overdue(later), None);
        assert_eq!(leases.remaining(7, later).unwrap().left, 58);
    }

    #[test]
    fn a_frozen_lease_never_ends_and_thaws_when_renewed() {
        let now = Instant::now();
        let mut leases = Leases::new(2);
        leases.grant(7, 2, || 0, now).unwrap();
        assert!(leases.freeze(7));
        assert_eq!(leases.next_due(), None);
        leases.renew(7, now);
        assert_eq!(leases.next_due(), Some(now + Duration::from_secs(2)));
    }

    #[test]
    fn a_lease_takes_its_keys_with_it() {
        let now = Instant::now();
        let mut leases = Leases::new(2);
        leases.grant(7, 2, || 0, now).unwrap();
        for key in ["b", "a", "c"] {
            leases.attach(7, &Bytes::from(key));
        }
        leases.detach(7, &Bytes::from("c"));
        let keys = leases.revoke(7).unwrap();
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(leases.revoke(7), None);
        assert_eq!(leases.next_due(), None);
    }

    #[test]
    fn an_id_is_granted_once_and_a_free_one_on_request() {
        let now = Instant::now();
        let mut leases = Leases::new(2);
        leases.grant(7, 2, || 0, now).unwrap();
        assert_eq!(leases.grant(7, 2, || 0, now), Err(refusal::LEASE_EXISTS));
        let mut ids = [0, 7, 9].into_iter();
        assert_eq!(leases.grant(0, 2, || ids.next().unwrap(), now).unwrap(), (9, 2));
        let too_long = leases.grant(1, 9_000_000_001, || 0, now);
        assert_eq!(too_long, Err(refusal::LEASE_TTL_TOO_LARGE));
    }
}
