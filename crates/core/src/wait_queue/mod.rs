//! Who holds a lock and who waits for it, from what one standing watch tells. It is the same for
//! all that has an order of arrival: only [whom](Rule) a key waits for differs.
//!
//! etcd orders a queue by itself: each contender puts a key of its own under the lock's prefix,
//! and the one created first holds. A [`WaitQueue`] keeps that order from a single watch on the
//! prefix, opened before it is needed, so that a hand-over costs one event and no question. Etcd
//! serves a watch that starts in the past only every 100 ms; one that was there before is told at
//! once.
//!
//! Everything rests on one fact: create revisions only grow. Whoever is the oldest at some
//! revision has nobody older at any later one, and a key older than that is gone for good.

mod listing;
mod rule;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    mem,
};

use bytes::Bytes;

pub use self::{
    listing::{Listed, Listing},
    rule::Rule,
};
use crate::{Event, EventKind, Revision};

/// Something that the owner of a key has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nobody is ahead whom the key waits for: whoever put it holds the lock. Said once.
    Turn(Bytes),
    /// The key was put again, at `mod_revision`: by its owner, or by somebody who took it over.
    /// Of several such puts that were seen together, maybe only the last.
    Rewritten {
        /// The key.
        key: Bytes,
        /// The revision of that put, greater than of any told before.
        mod_revision: Revision,
    },
    /// The key is gone, and its owner did not delete it. The last that is said of it.
    Deleted(Bytes),
}

/// How many events may wait for the listing they follow; more, and another listing is cheaper.
const BACKLOG: usize = 4096;

/// The place of a key in the queue: keys that one transaction created go by name.
type Place = (Revision, Bytes);

/// The keys under one prefix, some of them ours.
///
/// Say what happens through the methods, then empty [`poll`](Self::poll). It answers from what
/// the store was at one revision at a time, never from a mixture: events count only from the
/// revision on that a listing, taken while the watch stood, was of. The answers of transactions
/// and the events that tell the same may come in either order.
///
/// Permits are given elsewhere: the key of a semaphore has no turn here.
///
/// One queue is for one cluster: where revisions may have gone back, begin a new one.
#[derive(Debug, Default)]
pub struct WaitQueue {
    /// The keys that are not ours, as of `known`.
    foreign: Foreign,
    /// The revision that `foreign` is of, and up to which deletions of our keys were heard; none
    /// while there is a gap.
    known: Option<Revision>,
    /// The watch tells everything after this revision.
    watching: Option<Revision>,
    backlog: Vec<Event>,
    /// The newest whole listing, if it is of a later revision than what is known.
    recent: Option<Listing>,
    own: HashMap<Bytes, Own>,
    /// The places of `own`.
    places: BTreeSet<Place>,
    /// No key with a place before this one exists, or ever will.
    floor: Place,
    notices: VecDeque<Notice>,
}

/// A key of ours that exists, as far as was heard.
#[derive(Debug)]
struct Own {
    created: Revision,
    /// The newest put that its owner knows of.
    modified: Revision,
    rule: Rule,
    has_turn: bool,
}

/// Keys of others, by name and by place.
#[derive(Debug, Default)]
struct Foreign {
    keys: HashMap<Bytes, Listed>,
    places: BTreeSet<Place>,
}

impl Foreign {
    fn insert(&mut self, listed: Listed) {
        self.remove(&listed.key);
        self.places.insert((listed.create_revision, listed.key.clone()));
        self.keys.insert(listed.key.clone(), listed);
    }

    fn remove(&mut self, key: &Bytes) -> Option<Listed> {
        let listed = self.keys.remove(key)?;
        self.places.remove(&(listed.create_revision, listed.key.clone()));
        Some(listed)
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.places.clear();
    }
}

impl WaitQueue {
    /// Nobody waits, and nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// A key of ours was put, created at `created`, and waits by this rule.
    ///
    /// `before` is what the same transaction saw, if it looked: all keys if `complete`, else at
    /// least the oldest one if there is any. Whether the own key is among them does not matter;
    /// other keys that the same transaction put must be.
    /// Usually it is of the revision before `created`; where the transaction found that the key
    /// had been put already, it is of a later one, at which the key existed.
    ///
    /// A complete one counts as a [listing](Self::handle_listing) if the watch tells everything
    /// after it, whether that was opened already or is heard of later.
    pub fn enter(
        &mut self,
        key: Bytes,
        created: Revision,
        rule: Rule,
        before: Option<Listing>,
        complete: bool,
    ) {
        let place = (created, key.clone());
        let rule_is_none = rule == Rule::Nobody;
        if self.own.get(&key).is_none_or(|own| own.created != created) {
            self.leave(&key);
            // An earlier key of that name stays until the watch tells that it is gone.
            let is_it = self.foreign.keys.get(&key).filter(|seen| seen.create_revision == created);
            let seen = is_it.is_some().then(|| self.foreign.remove(&key)).flatten();
            let is_gone = seen.is_none() && self.known.is_some_and(|known| known >= created);
            let is_gone = is_gone || self.recent.as_ref().is_some_and(|all| all.lacks(&place));
            if is_gone {
                return self.notices.push_back(Notice::Deleted(key));
            }
            let own = Own { created, modified: created, rule, has_turn: false };
            self.own.insert(key.clone(), own);
            self.places.insert(place.clone());
            seen.into_iter().for_each(|seen| self.see(seen));
        }
        if rule_is_none {
            self.give_turn(&key);
        }
        if let Some(before) = before {
            let all = before.keys.iter().map(Listed::place);
            let oldest = all.clone().chain([place.clone()]).min();
            let older: Vec<_> = all.filter(|other| *other < place).collect();
            if complete {
                self.bury(&before);
            }
            if complete {
                self.remember(before.with(key.clone(), created));
                self.adopt_recent();
            }
            oldest.into_iter().for_each(|oldest| self.raise(oldest));
            if complete {
                self.consider(&key, older.iter().map(|(_, key)| key));
            }
        }
        self.look();
    }

    /// A key of ours is about to be deleted by us, or nobody cares for it any longer. Nothing more
    /// is said of it; others wait for it until the watch tells that it is gone. To be said before
    /// the deletion is sent: its event would be taken for somebody else's deed.
    pub fn leave(&mut self, key: &Bytes) {
        self.give_up(key);
        self.notices.retain(|notice| notice.key() != key);
    }

    /// The watch stands, and tells everything after `revision`.
    pub fn watch_opened(&mut self, revision: Revision) {
        self.watch_lost();
        self.watching = Some(revision);
        self.adopt_recent();
        self.look();
    }

    /// The watch is gone, or has left something out: what is known is of the past.
    pub fn watch_lost(&mut self) {
        self.watching = None;
        self.known = None;
        self.foreign.clear();
        self.backlog.clear();
    }

    /// Whether a listing of the prefix is needed, taken now: the watch stands, somebody of ours
    /// depends on it, and what came before it is not known.
    pub fn wants_listing(&self) -> bool {
        self.watching.is_some() && self.known.is_none() && !self.own.is_empty()
    }

    /// The listing that was wanted. One that is older than the watch changes nothing.
    pub fn handle_listing(&mut self, listing: Listing) {
        if self.known.is_none() {
            self.remember(listing);
            self.adopt_recent();
            self.look();
        }
    }

    /// What the watch told, in its order; all events of a revision together.
    pub fn handle_events(&mut self, events: Vec<Event>) {
        if self.known.is_some() {
            self.follow(events);
            self.look();
        } else if self.watching.is_some() {
            self.backlog.extend(events);
            if self.backlog.len() > BACKLOG
                && let Some(last) = self.backlog.last().map(|event| event.kv.mod_revision)
            {
                // Whoever lists now lists all that these said.
                self.watching = Some(last);
                self.backlog.clear();
            }
        }
    }

    /// What somebody has to know; call until `None`.
    pub fn poll(&mut self) -> Option<Notice> {
        while let Some(notice) = self.notices.pop_front() {
            // What was to be said of a key before it was deleted is of no use any more.
            if matches!(notice, Notice::Deleted(_)) || self.own.contains_key(notice.key()) {
                return Some(notice);
            }
        }
        None
    }

    /// How many keys this one of ours waits for; `None` while that is not known. Takes as
    /// long as there are such keys.
    pub fn ahead(&self, key: &Bytes) -> Option<usize> {
        let own = self.own.get(key)?;
        if own.has_turn {
            return Some(0);
        }
        self.known?;
        let place = (own.created, key.clone());
        Some(self.older(&place).filter(|older| own.rule.waits_for(older)).count())
    }

    /// Whether every key is known, and all that happens to them heard of.
    pub fn knows_all(&self) -> bool {
        self.known.is_some()
    }

    /// How many keys there are, as far as is known.
    pub fn len(&self) -> usize {
        self.foreign.keys.len() + self.own.len()
    }

    /// Whether there is no key, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether none of the keys is ours.
    pub fn is_idle(&self) -> bool {
        self.own.is_empty()
    }

    /// A key is not ours any more. For those that are behind it, it stays until the watch has told
    /// that it is gone: what is known is of one revision.
    fn give_up(&mut self, key: &Bytes) {
        if let Some(own) = self.drop_own(key)
            && self.known.is_some_and(|known| known >= own.created)
        {
            self.foreign.insert(Listed {
                key: key.clone(),
                create_revision: own.created,
                mod_revision: own.modified,
            });
        }
    }

    fn drop_own(&mut self, key: &Bytes) -> Option<Own> {
        let own = self.own.remove(key)?;
        self.places.remove(&(own.created, key.clone()));
        Some(own)
    }

    fn remember(&mut self, listing: Listing) {
        let newest = self.recent.as_ref().map(|recent| recent.revision).max(self.known);
        if newest.is_none_or(|newest| newest < listing.revision) {
            self.recent = Some(listing);
        }
    }

    /// Begins with the newest listing, if the watch tells everything after it.
    fn adopt_recent(&mut self) {
        if let (Some(watching), None) = (self.watching, self.known)
            && let Some(listing) = self.recent.take_if(|recent| watching <= recent.revision)
        {
            self.adopt(listing);
        }
    }

    /// Our keys that a listing of all does not have are gone.
    fn bury(&mut self, listing: &Listing) {
        let lives: HashSet<Place> = listing.keys.iter().map(Listed::place).collect();
        let gone: Vec<_> = self
            .places
            .range(..(listing.revision.next(), Bytes::new()))
            .filter(|place| !lives.contains(place))
            .map(|(_, key)| key.clone())
            .collect();
        gone.into_iter().for_each(|key| self.is_gone(key));
    }

    fn adopt(&mut self, listing: Listing) {
        self.bury(&listing);
        listing.keys.into_iter().for_each(|listed| self.see(listed));
        self.known = Some(listing.revision);
        let backlog = mem::take(&mut self.backlog);
        self.follow(backlog);
    }

    /// Applies what happened after the revision that is known.
    fn follow(&mut self, events: Vec<Event>) {
        let Some(known) = self.known else { return };
        for event in events.into_iter().filter(|event| event.kv.mod_revision > known) {
            self.known = Some(event.kv.mod_revision);
            self.apply(event);
        }
        self.recent.take_if(|recent| self.known >= Some(recent.revision));
    }

    fn apply(&mut self, event: Event) {
        let Event { kind, kv, .. } = event;
        match kind {
            EventKind::Put => self.see(Listed::from(&kv)),
            EventKind::Delete => {
                self.foreign.remove(&kv.key);
                if self.own.get(&kv.key).is_some_and(|own| own.created < kv.mod_revision) {
                    self.deleted(kv.key);
                }
            }
        }
    }

    /// A key as it is, or was just put.
    fn see(&mut self, listed: Listed) {
        match self.own.get_mut(&listed.key) {
            Some(own) if own.created == listed.create_revision => {
                if own.modified < listed.mod_revision {
                    own.modified = listed.mod_revision;
                    let Listed { key, mod_revision, .. } = listed;
                    self.notices.push_back(Notice::Rewritten { key, mod_revision });
                }
            }
            Some(own) if own.created < listed.create_revision => {
                self.deleted(listed.key.clone());
                self.foreign.insert(listed);
            }
            _ => self.foreign.insert(listed),
        }
    }

    /// A key of ours is gone at a revision that the watch may not have told of yet.
    fn is_gone(&mut self, key: Bytes) {
        self.give_up(&key);
        self.notices.push_back(Notice::Deleted(key));
    }

    fn deleted(&mut self, key: Bytes) {
        self.drop_own(&key);
        self.notices.push_back(Notice::Deleted(key));
    }

    /// All keys there are with a place before this one.
    fn older(&self, place: &Place) -> impl Iterator<Item = &Bytes> {
        let foreign = self.foreign.places.range(..place.clone());
        foreign.chain(self.places.range(..place.clone())).map(|(_, key)| key)
    }

    /// Looks whose turn it is at the revision that is known.
    fn look(&mut self) {
        let Some(known) = self.known else { return };
        let unknown = (known.next(), Bytes::new());
        let (foreign, own) = (self.foreign.places.first(), self.places.first());
        let oldest = foreign.into_iter().chain(own).min().filter(|first| **first < unknown);
        let oldest = oldest.cloned().unwrap_or_else(|| unknown.clone());
        self.raise(oldest);
        while let Some(place) = self.next_admitted(&unknown) {
            self.give_turn(&place.1);
        }
    }

    /// The oldest of ours that waits, if it need not any more. Whoever is behind it waits, too.
    fn next_admitted(&self, unknown: &Place) -> Option<Place> {
        let mut waiting = self.places.range(..unknown.clone()).filter_map(|place| {
            let own = self.own.get(&place.1)?;
            (!own.has_turn).then_some((place, &own.rule))
        });
        let (place, rule) = waiting.next()?;
        rule.admits(self.older(place), None).then(|| place.clone())
    }

    /// Takes in that nothing exists before this place. Our keys that were there are gone, and if
    /// the first of them is at the place, it has its turn.
    fn raise(&mut self, oldest: Place) {
        if self.floor < oldest {
            self.floor = oldest;
        }
        while let Some((_, key)) = self.places.first().filter(|first| **first < self.floor) {
            let key = key.clone();
            self.is_gone(key);
        }
        if let Some(first) = self.places.first().filter(|first| **first == self.floor) {
            let key = first.1.clone();
            self.consider(&key, std::iter::empty());
        }
    }

    /// Gives a key of ours its turn, if it waits for none of these, which are all that are older.
    fn consider<'a>(&mut self, key: &Bytes, older: impl Iterator<Item = &'a Bytes>) {
        if self.own.get(key).is_some_and(|own| own.rule.admits(older, None)) {
            self.give_turn(key);
        }
    }

    fn give_turn(&mut self, key: &Bytes) {
        if let Some(own) = self.own.get_mut(key)
            && !mem::replace(&mut own.has_turn, true)
        {
            self.notices.push_back(Notice::Turn(key.clone()));
        }
    }
}

impl Notice {
    /// Which key it is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Turn(key) | Self::Deleted(key) | Self::Rewritten { key, .. } => key,
        }
    }
}
