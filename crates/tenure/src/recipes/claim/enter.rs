//! The transactions that put the keys of a claim.

use std::sync::{Arc, Weak, atomic::Ordering};

use tenure_core::{KeyValue, Revision};

use super::{Claim, WHAT, persist::persist};
use crate::{
    client::{Before, Waiter, listing},
    error::{Error, LossReason, Result},
    ops::{
        Compare, Count, Get, GetResponse, Header, Op, OpResponse, Put, SortBy, Txn, TxnResponse,
    },
    session::Inherited,
};

/// So many of the oldest keys tell whether a queue is long.
const OLDEST: u32 = 34;

/// Whether to stand in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Wait,
    /// Only if nobody else is there.
    Try,
}

/// What the transaction that puts the keys looks at besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nobody may be there.
    Nowhere,
    /// How many there are. Who they are the standing watch tells; for the server that is much
    /// less work, in the middle of a hand-over.
    Count,
    /// Who was first, and who was last.
    List,
}

impl Claim {
    /// Puts the keys, and enters the queues; false if it was only tried, and somebody is there.
    pub(super) async fn enter(self: &Arc<Self>, value: &str, patience: Patience) -> Result<bool> {
        if patience == Patience::Wait {
            for place in &self.places {
                place.queue.expect();
            }
        }
        loop {
            let guard = self.life.guard();
            let look = match patience {
                Patience::Try => Look::Nowhere,
                Patience::Wait if self.places.iter().all(|place| place.queue.knows_all()) => {
                    Look::Count
                }
                Patience::Wait => Look::List,
            };
            let txn = self.entering(value, look, guard);
            let answer = persist(self.client(), &txn, &self.unanswered, |_| true).await?;
            self.check_cluster(&answer)?;
            let revision = answer.header.revision;
            if answer.succeeded {
                self.is_created(revision, revision);
                let before = self.seen_before(answer, look)?;
                self.take_places(before);
                return Ok(true);
            }
            let found = Found::of(answer, self.places.len())?;
            self.life.guard_was_found(found.guard.as_ref());
            self.check_life()?;
            if let Some(own) = found.own {
                // An earlier copy put them, all at once; what was put again is not ours any more.
                if own.mod_revision != own.create_revision {
                    return Err(Error::lost(WHAT, LossReason::TakenOver));
                }
                self.is_created(own.create_revision, own.mod_revision);
                let before = self.look_around().await?;
                self.take_places(before);
                return Ok(true);
            }
            if found.guard.map_or(Revision::NONE, |kv| kv.mod_revision) == guard {
                // Nothing but somebody else can have kept it from succeeding.
                return match patience {
                    Patience::Try => Ok(false),
                    Patience::Wait => Err(crate::ops::other_kind()),
                };
            }
        }
    }

    /// Takes the place of a key that an earlier process of the session left; false, and leaves it
    /// as it is, if it was only tried, and somebody is ahead.
    pub(super) async fn inherit(
        self: &Arc<Self>,
        left: &Inherited,
        patience: Patience,
    ) -> Result<bool> {
        self.is_created(left.created, left.modified);
        let before = self.look_around().await?;
        let mut ahead =
            before.iter().flat_map(|before| before.listing.iter().flat_map(|all| &all.keys));
        if patience == Patience::Try && ahead.any(|key| key.create_revision < left.created) {
            self.is_created(Revision::NONE, Revision::NONE);
            self.life.inherit([left.clone()]);
            return Ok(false);
        }
        self.take_places(before);
        Ok(true)
    }

    fn entering(&self, value: &str, look: Look, guard: Revision) -> Txn {
        let life = &self.life;
        let fresh = self.places.iter().map(|place| match look {
            Look::Nowhere => Compare::missing(place.queue.range()),
            Look::List | Look::Count => Compare::missing(place.key.clone()),
        });
        let no_late_copy = Compare::mod_revision(life.guard_key()).equal(guard);
        let alone = self.places.len() == 1;
        let mut ops: Vec<Op> = Vec::new();
        for place in &self.places {
            let range = place.queue.range();
            match look {
                Look::Nowhere => {}
                Look::Count => ops.push(Count::new(range).into()),
                Look::List if alone => {
                    ops.extend([oldest(range.clone()), youngest(range)].map(Op::from))
                }
                Look::List => ops.push(oldest(range).into()),
            }
            ops.push(Put::new(place.key.clone(), value).lease(life.lease).into());
        }
        let own = self.places.iter().map(|place| Get::new(place.key.clone()).keys_only());
        let guard = Get::new(life.guard_key());
        Txn::new().when(fresh.chain([no_late_copy])).and_then(ops).or_else(own.chain([guard]))
    }

    /// What stood in each queue just before the keys were put.
    fn seen_before(&self, answer: TxnResponse, look: Look) -> Result<Vec<Before>> {
        let before = Revision(answer.header.revision.0 - 1);
        let cluster = answer.header.cluster_id;
        if look == Look::Nowhere {
            let nobody = GetResponse::default();
            return Ok(self.places.iter().map(|_| seen(&nobody, None, before, cluster)).collect());
        }
        let lists_youngest = look == Look::List && self.places.len() == 1;
        let mut responses = answer.responses.into_iter().filter_map(OpResponse::into_get);
        let mut next = || responses.next().ok_or_else(crate::ops::other_kind);
        self.places
            .iter()
            .map(|_| {
                let oldest = next()?;
                let youngest = if lists_youngest { next()?.into_kv() } else { None };
                let mut seen = seen(&oldest, youngest, before, cluster);
                if look == Look::Count && seen.count > 0 {
                    (seen.listing, seen.complete) = (None, false);
                }
                Ok(seen)
            })
            .collect()
    }

    /// Reads the queues, the keys being in them. Each for itself, until it is answered.
    async fn look_around(&self) -> Result<Vec<Before>> {
        let mut all = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let answer = loop {
                let range = place.queue.range();
                let get = self.client().get(range).first(SortBy::CreateRevision).limit(OLDEST);
                match get.keys_only().await {
                    Ok(answer) => break answer,
                    Err(error) if error.is_retryable() => {
                        tracing::debug!(%error, "a queue is read again");
                    }
                    Err(error) => return Err(error),
                }
            };
            let Header { revision, cluster_id, .. } = answer.header;
            self.life.check_cluster(cluster_id);
            self.check_life()?;
            all.push(seen(&answer, None, revision, cluster_id));
        }
        Ok(all)
    }

    fn take_places(self: &Arc<Self>, before: Vec<Before>) {
        let waiter: Weak<dyn Waiter> = Arc::downgrade(self) as Weak<dyn Waiter>;
        for (place, before) in self.places.iter().zip(before) {
            place.queue.enter(place.key.clone(), self.created(), before, waiter.clone());
        }
    }

    fn is_created(&self, created: Revision, modified: Revision) {
        self.created.store(created.0, Ordering::Release);
        self.modified.store(modified.0, Ordering::Release);
    }

    fn check_cluster(&self, answer: &TxnResponse) -> Result<()> {
        self.life.check_cluster(answer.header.cluster_id);
        self.check_life()
    }

    fn check_life(&self) -> Result<()> {
        match self.life.loss(self.now()) {
            Some(reason) => Err(Error::lost(WHAT, reason)),
            None => Ok(()),
        }
    }
}

fn oldest(range: tenure_core::KeyRange) -> Get {
    Get::new(range).first(SortBy::CreateRevision).limit(OLDEST).keys_only()
}

fn youngest(range: tenure_core::KeyRange) -> Get {
    Get::new(range).last(SortBy::CreateRevision).keys_only()
}

fn seen(
    oldest: &GetResponse,
    youngest: Option<KeyValue>,
    revision: Revision,
    cluster_id: u64,
) -> Before {
    Before {
        cluster_id,
        listing: Some(listing(&oldest.kvs, revision)),
        complete: !oldest.more,
        count: oldest.count,
        predecessor: youngest.map(|kv| kv.key),
    }
}

/// Why the keys were not put.
struct Found {
    own: Option<KeyValue>,
    guard: Option<KeyValue>,
}

impl Found {
    fn of(answer: TxnResponse, places: usize) -> Result<Self> {
        let mut found: Vec<_> = answer
            .responses
            .into_iter()
            .map(|response| response.into_get().map(GetResponse::into_kv))
            .collect::<Option<_>>()
            .ok_or_else(crate::ops::other_kind)?;
        if found.len() != places + 1 {
            return Err(crate::ops::other_kind());
        }
        let guard = found.pop().flatten();
        Ok(Self { own: found.into_iter().flatten().next(), guard })
    }
}
