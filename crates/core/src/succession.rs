//! Who leads, one after the other, from what a watch on the candidates tells.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use crate::{Event, EventKind, KeyValue, Revision};

/// The candidates of an election, and whom observers of it have to be told of.
///
/// The candidate whose key was created first leads. After a gap in what the watch told, a listing
/// brings it up to date: what leads then is told if it is news, and nothing is told twice.
#[derive(Debug, Default)]
pub struct Succession {
    candidates: HashMap<Bytes, KeyValue>,
    /// The same, in the order of their turns.
    order: BTreeSet<(Revision, Bytes)>,
    /// The revision that the candidates are of; none before the first listing, or in a gap.
    known: Option<Revision>,
    /// What was told last, by its creation and its last change.
    told: Option<Option<(Revision, Revision)>>,
    news: VecDeque<Option<KeyValue>>,
}

impl Succession {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known is of the past: a listing will tell.
    pub fn gap(&mut self) {
        self.known = None;
    }

    /// All candidates there were at a revision, read while the watch stood.
    pub fn handle_listing(&mut self, candidates: Vec<KeyValue>, revision: Revision) {
        self.candidates.clear();
        self.order.clear();
        candidates.into_iter().for_each(|candidate| self.insert(candidate));
        self.known = Some(revision);
        self.tell();
    }

    /// What the watch told, in its order; all events of a revision together. What comes in a gap
    /// is for the listing to tell.
    pub fn handle_events(&mut self, events: Vec<Event>) {
        let Some(known) = self.known else { return };
        let mut at = known;
        for event in events.into_iter().filter(|event| event.kv.mod_revision > known) {
            if at < event.kv.mod_revision && at > known {
                self.tell();
            }
            at = event.kv.mod_revision;
            match event.kind {
                EventKind::Put => self.insert(event.kv),
                EventKind::Delete => self.remove(&event.kv.key),
            }
        }
        self.known = Some(at);
        self.tell();
    }

    /// Who leads from then on: nobody, or this candidate with this value. Call until `None`.
    pub fn poll(&mut self) -> Option<Option<KeyValue>> {
        self.news.pop_front()
    }

    fn insert(&mut self, candidate: KeyValue) {
        self.remove(&candidate.key);
        self.order.insert((candidate.create_revision, candidate.key.clone()));
        self.candidates.insert(candidate.key.clone(), candidate);
    }

    fn remove(&mut self, key: &Bytes) {
        if let Some(gone) = self.candidates.remove(key) {
            self.order.remove(&(gone.create_revision, gone.key));
        }
    }

    fn tell(&mut self) {
        let first = self.order.first().map(|(_, key)| key);
        let leader = first.and_then(|key| self.candidates.get(key));
        let place = leader.map(|leader| (leader.create_revision, leader.mod_revision));
        if self.told != Some(place) {
            self.told = Some(place);
            self.news.push_back(leader.cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, mem};

    use proptest::prelude::*;

    use super::*;

    fn kv(name: u8, created: i64, modified: i64) -> KeyValue {
        KeyValue {
            key: Bytes::from(vec![name]),
            value: Bytes::from(modified.to_string()),
            create_revision: Revision(created),
            mod_revision: Revision(modified),
            version: 1,
            lease: None,
        }
    }

    fn put(name: u8, created: i64, at: i64) -> Event {
        Event { kind: EventKind::Put, kv: kv(name, created, at), prev_kv: None }
    }

    fn delete(name: u8, at: i64) -> Event {
        Event { kind: EventKind::Delete, kv: kv(name, 0, at), prev_kv: None }
    }

    fn news(succession: &mut Succession) -> Vec<Option<(u8, i64)>> {
        let told = |kv: KeyValue| (kv.key[0], kv.mod_revision.0);
        std::iter::from_fn(|| succession.poll()).map(|leader| leader.map(told)).collect()
    }

    #[test]
    fn nobody_is_told_too_and_each_revision_for_itself() {
        let mut succession = Succession::new();
        succession.handle_events(vec![put(b'a', 3, 3)]);
        assert_eq!(news(&mut succession), [], "there may be others");
        succession.handle_listing(vec![], Revision(2));
        succession.handle_events(vec![put(b'z', 2, 2), put(b'a', 3, 3)]);
        assert_eq!(news(&mut succession), [None, Some((b'a', 3))]);
        let more = vec![put(b'b', 4, 4), put(b'a', 3, 5), delete(b'a', 6), delete(b'b', 7)];
        succession.handle_events(more);
        assert_eq!(news(&mut succession), [Some((b'a', 5)), Some((b'b', 4)), None]);
    }

    #[test]
    fn a_gap_is_closed_by_what_is_news() {
        let mut succession = Succession::new();
        succession.handle_listing(vec![kv(b'a', 3, 3)], Revision(3));
        assert_eq!(news(&mut succession), [Some((b'a', 3))]);
        succession.gap();
        succession.handle_events(vec![delete(b'b', 9)]);
        succession.handle_listing(vec![kv(b'a', 3, 3), kv(b'b', 5, 5)], Revision(8));
        assert_eq!(news(&mut succession), [], "it is known");
        succession.gap();
        succession.handle_listing(vec![kv(b'c', 12, 12)], Revision(12));
        assert_eq!(news(&mut succession), [Some((b'c', 12))]);
    }

    proptest! {
        /// However the watch breaks, what is told last is how it is, and terms only rise.
        #[test]
        fn the_last_that_is_told_is_true(steps in prop::collection::vec((0..4u8, 0..4u8), 1..60)) {
            let mut store: BTreeMap<u8, KeyValue> = BTreeMap::new();
            let (mut at, mut tale) = (1, Vec::new());
            let mut succession = Succession::new();
            succession.handle_listing(vec![], Revision(1));
            let mut told = news(&mut succession);
            for (what, name) in steps {
                at += 1;
                match what {
                    0 => {
                        let created = store.get(&name).map_or(at, |kv| kv.create_revision.0);
                        store.insert(name, kv(name, created, at));
                        tale.push(put(name, created, at));
                    }
                    1 if store.remove(&name).is_some() => tale.push(delete(name, at)),
                    2 => succession.handle_events(mem::take(&mut tale)),
                    3 => {
                        succession.gap();
                        tale.clear();
                        succession.handle_listing(store.values().cloned().collect(), Revision(at));
                    }
                    _ => {}
                }
                told.extend(news(&mut succession));
            }
            succession.handle_events(tale);
            told.extend(news(&mut succession));
            let first = store.values().min_by_key(|kv| kv.create_revision);
            let first = first.map(|kv| (kv.key[0], kv.mod_revision.0));
            prop_assert_eq!(told.last().copied(), Some(first));
            prop_assert!(told.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
