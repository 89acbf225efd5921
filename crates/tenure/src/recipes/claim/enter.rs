//! The transactions that put the keys of a claim.

use std::sync::{Arc, Weak, atomic::Ordering};

use bytes::Bytes;
use tenure_core::{
    KeyRange, KeyValue, Revision,
    wait_queue::{Listed, Rule},
};

use super::{Claim, Place, persist};
use crate::{
    client::{Ahead, Before, Own, Queue, Waiter, listing, room_of},
    error::{Error, LossReason, Result},
    ops::{
        Compare, Count, Get, GetResponse, Header, Op, OpResponse, Put, SortBy, Txn, TxnResponse,
    },
    session::Inherited,
};

/// So many of the oldest keys tell whether a queue is long.
const OLDEST: u32 = 34;
/// And so many tell how many permits are taken.
const HOLDERS: u32 = 250;

/// Whether to stand in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Wait,
    /// Only if there is nobody to wait for.
    Try,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It was only tried, and somebody is ahead. Nothing is left behind.
    No,
    /// The keys are there.
    Stands {
        /// Whether the answer itself showed that nobody is ahead.
        at_once: bool,
    },
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
    /// Puts the keys, and enters the queues.
    pub(super) async fn enter(
        self: &Arc<Self>,
        value: &Bytes,
        patience: Patience,
    ) -> Result<Entered> {
        if patience == Patience::Wait {
            let followed = self.places.iter().filter(|place| !place.one_by_one);
            followed.filter_map(|place| place.queue.as_deref()).for_each(Queue::expect);
        }
        loop {
            let guard = self.life.guard();
            let look = match patience {
                Patience::Try => Look::Nowhere,
                Patience::Wait if self.may_count() => Look::Count,
                Patience::Wait => Look::List,
            };
            let mut txn = self.entering(value, look, guard);
            if patience == Patience::Try {
                match self.nobody_ahead().await? {
                    Some(nobody) => txn = txn.when(nobody),
                    None => return Ok(Entered::No),
                }
            }
            let answer = persist(self.client(), &txn, &self.unanswered, |_| true).await?;
            self.check_cluster(&answer)?;
            let revision = answer.header.revision;
            if answer.succeeded {
                self.is_created(revision, revision);
                let before = self.seen_before(answer, look)?;
                self.check_room(&before)?;
                let at_once = self.is_first(&before);
                self.take_places(before);
                return Ok(Entered::Stands { at_once });
            }
            let found = Found::of(answer, self.places.len())?;
            self.life.guard_was_found(found.guard.as_ref(), revision);
            self.check_life()?;
            if let Some(own) = found.own.filter(|own| self.may_be_ours(own)) {
                // An earlier copy put them, all at once; what was put again is not ours any more.
                if own.mod_revision != own.create_revision {
                    return Err(Error::lost(self.what, LossReason::TakenOver));
                }
                self.is_created(own.create_revision, own.mod_revision);
                let mut before = self.look_around().await?;
                if patience == Patience::Try {
                    // So it was when they were put.
                    before.iter_mut().for_each(|before| before.ahead = Ahead::Nobody);
                }
                self.check_room(&before)?;
                self.take_places(before);
                // Others may have seen it wait since it was put: it has to say that it does not.
                return Ok(Entered::Stands { at_once: patience == Patience::Try });
            }
            if found.guard.map_or(Revision::NONE, |kv| kv.mod_revision) == guard {
                // Nothing but somebody else can have kept it from succeeding.
                match patience {
                    // Somebody took a permit; there may be more.
                    Patience::Try if self.wants_permits() => {}
                    Patience::Try => return Ok(Entered::No),
                    Patience::Wait => return Err(crate::ops::other_kind()),
                }
            }
        }
    }

    /// Takes the place of a key that an earlier process of the session left, or leaves it as it is,
    /// if it was only tried, and somebody is ahead.
    pub(super) async fn inherit(
        self: &Arc<Self>,
        left: &Inherited,
        patience: Patience,
    ) -> Result<Entered> {
        self.is_created(left.created, left.modified);
        let before = self.look_around().await?;
        let at_once = self.is_first(&before);
        if patience == Patience::Try && !at_once {
            self.is_created(Revision::NONE, Revision::NONE);
            self.life.inherit([left.clone()]);
            return Ok(Entered::No);
        }
        self.take_places(before);
        Ok(Entered::Stands { at_once })
    }

    fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.places.iter().filter_map(|place| place.queue.as_deref())
    }

    /// Whether a key was put by a copy of ours. Most names nobody else uses.
    fn may_be_ours(&self, own: &KeyValue) -> bool {
        let place = self.place(&own.key);
        place.and_then(|place| place.mark.as_ref()).is_none_or(|mark| own.value == *mark)
    }

    pub(super) fn wants_permits(&self) -> bool {
        self.places.iter().any(|place| matches!(place.rule, Rule::Room { .. }))
    }

    /// Whether the standing watches tell who is there, so that it need not be read.
    fn may_count(&self) -> bool {
        !self.wants_permits() && self.queues().all(Queue::knows_all)
    }

    /// Whether what was seen shows that all places have their turn.
    fn is_first(&self, before: &[Before]) -> bool {
        self.places.iter().zip(before).all(|(place, before)| before.admits(&self.own(place)))
    }

    fn own(&self, place: &Place) -> Own {
        Own {
            key: place.key.clone(),
            created: self.created(),
            rule: place.rule.clone(),
            one_by_one: place.one_by_one,
        }
    }

    /// What must hold so that the keys would have to wait for nobody; none if they would.
    async fn nobody_ahead(&self) -> Result<Option<Vec<Compare>>> {
        let mut nobody = Vec::new();
        for place in &self.places {
            match &place.rule {
                Rule::Nobody => {}
                Rule::Everybody => nobody.push(Compare::missing(place.range())),
                Rule::Under(prefix) => {
                    nobody.push(Compare::missing(KeyRange::prefix(prefix.clone())));
                }
                Rule::Room { under, .. } => match self.room_is_left(place, under).await? {
                    Some(unchanged) => nobody.extend(unchanged),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(nobody))
    }

    /// Reads whether permits are left; if so, what must not change meanwhile.
    async fn room_is_left(&self, place: &Place, under: &Bytes) -> Result<Option<[Compare; 2]>> {
        let all = KeyRange::prefix(under.clone());
        let limit = place.room_key();
        let reads = [Get::new(limit.clone()), Get::new(all.clone()).keys_only()];
        let answer = self.client().txn().and_then(reads).await?;
        self.check_cluster(&answer)?;
        let newer = Revision(answer.header.revision.0 + 1);
        let mut read = answer.responses.into_iter().filter_map(OpResponse::into_get);
        let room = read.next().and_then(GetResponse::into_kv);
        let since = room.as_ref().map_or(Revision::NONE, |kv| kv.mod_revision);
        let room = room.and_then(|kv| room_of(&kv.value));
        let taken = read.next().map(|get| get.kvs).unwrap_or_default();
        let is_left = place.rule.admits(taken.iter().map(|kv| &kv.key), room);
        Ok(is_left.then(|| {
            let nobody_came = Compare::create_revision(all).less(newer);
            [nobody_came, Compare::mod_revision(limit).equal(since)]
        }))
    }

    fn entering(&self, value: &Bytes, look: Look, guard: Revision) -> Txn {
        let life = &self.life;
        let fresh = self.places.iter().map(|place| Compare::missing(place.key.clone()));
        let no_late_copy = Compare::mod_revision(life.guard_key()).equal(guard);
        let when = fresh.chain([no_late_copy]).chain(self.errand.when());
        // All reads stand before all puts: who is there without us.
        let mut ops: Vec<Op> =
            self.places.iter().flat_map(|place| self.reads(place, look)).collect();
        ops.extend(
            self.places.iter().map(|place| {
                Op::from(Put::new(place.key.clone(), value.clone()).lease(life.lease))
            }),
        );
        ops.extend(self.errand.on_entering());
        let own = self.places.iter().map(Place::get);
        let guard = Get::new(life.guard_key());
        Txn::new().when(when).and_then(ops).or_else(own.chain([guard]))
    }

    /// What to read of the queue of a place: who is there, and the last one to wait for.
    fn reads(&self, place: &Place, look: Look) -> Vec<Op> {
        let range = place.range();
        let reads = match (look, &place.rule) {
            (Look::Nowhere, _) | (_, Rule::Nobody) => vec![],
            (Look::Count, _) => return vec![Count::new(range).into()],
            (Look::List, Rule::Everybody) if self.is_alone() => {
                vec![oldest(range.clone()), youngest(range)]
            }
            (Look::List, Rule::Everybody) => vec![oldest(range)],
            (Look::List, Rule::Under(prefix)) => {
                vec![oldest(range), youngest(KeyRange::prefix(prefix.clone()))]
            }
            (Look::List, Rule::Room { .. }) => {
                vec![oldest(range).limit(HOLDERS), Get::new(place.room_key())]
            }
        };
        reads.into_iter().map(Op::from).collect()
    }

    /// Whether it waits in one queue only. A transaction has no room for more than one question
    /// about each of many.
    fn is_alone(&self) -> bool {
        self.places.iter().filter(|place| place.rule != Rule::Nobody).count() == 1
    }

    /// Refuses to wait for more permits than there are: all who come later would wait, too.
    fn check_room(&self, before: &[Before]) -> Result<()> {
        for (place, before) in self.places.iter().zip(before) {
            if let (Rule::Room { needs, .. }, Some(room)) = (&place.rule, before.room)
                && room < u64::from(*needs)
            {
                let rule = format!("{needs} permits are asked for, and there are {room}");
                return Err(Error::invalid(self.what, rule));
            }
        }
        Ok(())
    }

    /// What stood in each queue just before the keys were put, and those that were put together.
    fn seen_before(&self, answer: TxnResponse, look: Look) -> Result<Vec<Before>> {
        let created = answer.header.revision;
        let before = Revision(answer.header.revision.0 - 1);
        let cluster = answer.header.cluster_id;
        let mut responses = answer.responses.into_iter().filter_map(OpResponse::into_get);
        let mut next = || responses.next().ok_or_else(crate::ops::other_kind);
        let one = |place: &Place| {
            let questions = self.reads(place, look).len();
            let mut seen = match (questions, look) {
                // That there is nobody to wait for was compared.
                (0, _) => nothing(cluster, Ahead::Nobody),
                (_, Look::Count) => {
                    let count = next()?;
                    // Nobody at all is a listing, too.
                    if count.count == 0 {
                        seen(&count, before, cluster)
                    } else {
                        Before { count: count.count, ..nothing(cluster, Ahead::NotAsked) }
                    }
                }
                _ => seen(&next()?, before, cluster),
            };
            if let Some(listing) = &mut seen.listing {
                let same = |other: &&Place| other.is_beside(place);
                let ours = self.places.iter().filter(same).map(|place| Listed {
                    key: place.key.clone(),
                    create_revision: created,
                    mod_revision: created,
                });
                listing.keys.extend(ours);
            }
            if questions == 2 {
                let second = next()?.into_kv();
                match (&place.rule, second) {
                    (Rule::Room { .. }, room) => seen.room = room.and_then(|kv| room_of(&kv.value)),
                    (_, Some(last)) => seen.ahead = Ahead::Key(last.key),
                    (_, None) => seen.ahead = Ahead::Nobody,
                }
            }
            Ok(seen)
        };
        self.places.iter().map(one).collect()
    }

    /// Reads the queues, the keys being in them. Each for itself, until it is answered.
    async fn look_around(&self) -> Result<Vec<Before>> {
        let mut all = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let answer = loop {
                let range = place.range();
                let most = if self.wants_permits() { HOLDERS } else { OLDEST };
                let get = self.client().get(range).first(SortBy::CreateRevision).limit(most);
                match get.keys_only().await {
                    Ok(answer) => break answer,
                    Err(error) => read_again(error)?,
                }
            };
            let Header { revision, cluster_id, .. } = answer.header;
            self.life.check_cluster(cluster_id);
            self.check_life()?;
            let mut seen = seen(&answer, revision, cluster_id);
            if matches!(place.rule, Rule::Room { .. }) {
                let room = loop {
                    match self.client().get(place.room_key()).await {
                        Ok(answer) => break answer.into_kv(),
                        Err(error) => read_again(error)?,
                    }
                };
                seen.room = room.and_then(|kv| room_of(&kv.value));
            }
            all.push(seen);
        }
        Ok(all)
    }

    fn take_places(self: &Arc<Self>, before: Vec<Before>) {
        let waiter: Weak<dyn Waiter> = Arc::downgrade(self) as Weak<dyn Waiter>;
        for (place, before) in self.places.iter().zip(before) {
            if let Some(queue) = &place.queue {
                queue.enter(self.own(place), before, waiter.clone());
            }
        }
    }

    pub(super) fn is_created(&self, created: Revision, modified: Revision) {
        self.created.store(created.0, Ordering::Release);
        self.modified.store(modified.0, Ordering::Release);
    }

    fn check_cluster(&self, answer: &TxnResponse) -> Result<()> {
        self.life.check_cluster(answer.header.cluster_id);
        self.check_life()
    }

    pub(super) fn check_life(&self) -> Result<()> {
        match self.life.loss(self.now()) {
            Some(reason) => Err(Error::lost(self.what, reason)),
            None => Ok(()),
        }
    }
}

/// A read took its time already, so that there is no pause.
fn read_again(error: Error) -> Result<()> {
    match error.is_retryable() {
        true => tracing::debug!(%error, "a queue is read again"),
        false => return Err(error),
    }
    Ok(())
}

fn oldest(range: KeyRange) -> Get {
    Get::new(range).first(SortBy::CreateRevision).limit(OLDEST).keys_only()
}

fn youngest(range: KeyRange) -> Get {
    Get::new(range).last(SortBy::CreateRevision).keys_only()
}

fn seen(oldest: &GetResponse, revision: Revision, cluster_id: u64) -> Before {
    Before {
        listing: Some(listing(&oldest.kvs, revision)),
        complete: !oldest.more,
        count: oldest.count,
        ..nothing(cluster_id, Ahead::NotAsked)
    }
}

fn nothing(cluster_id: u64, ahead: Ahead) -> Before {
    Before { cluster_id, listing: None, complete: false, count: 0, ahead, room: None }
}

/// Why the keys were not put.
pub(super) struct Found {
    pub(super) own: Option<KeyValue>,
    pub(super) guard: Option<KeyValue>,
}

impl Found {
    pub(super) fn of(answer: TxnResponse, places: usize) -> Result<Self> {
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
