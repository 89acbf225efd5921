use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{KeyRange, KeyValue, Revision};

/// A part of the store as it was at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When; none if nothing is known.
    pub revision: Revision,
    /// What.
    pub reads: Reads,
}

/// What was read: single keys, those that were not there among them, and whole ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    keys: BTreeMap<Bytes, Option<KeyValue>>,
    ranges: Vec<RangeRead>,
}

/// All keys of a range, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRead {
    /// Which keys were asked for.
    pub range: KeyRange,
    /// The store's revision then: no key of the range had a younger change.
    pub revision: Revision,
    /// The keys there were, in their order.
    pub kvs: Vec<KeyValue>,
}

impl RangeRead {
    fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        let place = self.kvs.binary_search_by(|kv| kv.key.as_ref().cmp(key)).ok()?;
        self.kvs.get(place)
    }
}

/// When a key was changed; a key that is not there never was.
fn changed(kv: Option<&KeyValue>) -> Revision {
    kv.map_or(Revision::NONE, |kv| kv.mod_revision)
}

impl Reads {
    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }

    /// The single keys that were read.
    pub fn keys(&self) -> impl Iterator<Item = (&Bytes, Option<&KeyValue>)> {
        self.keys.iter().map(|(key, kv)| (key, kv.as_ref()))
    }

    /// The ranges that were read.
    pub fn ranges(&self) -> impl Iterator<Item = &RangeRead> {
        self.ranges.iter()
    }

    /// The key as it was read, by itself or in a range; `None` if it was not.
    pub fn key(&self, key: &[u8]) -> Option<Option<&KeyValue>> {
        let single = self.keys.get(key).map(Option::as_ref);
        single.or_else(|| {
            self.ranges.iter().find(|read| read.range.contains(key)).map(|read| read.get(key))
        })
    }

    /// The range as it was read; `None` if it was not, or only as a part of another one.
    pub fn range(&self, range: &KeyRange) -> Option<&RangeRead> {
        self.ranges.iter().find(|read| read.range == *range)
    }

    /// Whether this was read.
    pub fn knows(&self, range: &KeyRange) -> bool {
        match range.is_single_key() {
            true => self.key(range.start()).is_some(),
            false => self.range(range).is_some(),
        }
    }

    /// Adds what the store had in this range at this revision.
    pub fn add(&mut self, range: KeyRange, revision: Revision, kvs: Vec<KeyValue>) {
        if range.is_single_key() {
            self.keys.insert(range.start().clone(), kvs.into_iter().next());
        } else {
            self.ranges.push(RangeRead { range, revision, kvs });
        }
    }

    /// Adds what others know of this range; false if that is nothing.
    pub fn adopt(&mut self, range: &KeyRange, others: &Self) -> bool {
        if range.is_single_key() {
            let Some(kv) = others.key(range.start()) else { return false };
            self.keys.insert(range.start().clone(), kv.cloned());
        } else {
            let Some(read) = others.range(range) else { return false };
            self.ranges.push(read.clone());
        }
        true
    }

    /// The keys that were changed, made or deleted between this and the same reads `later`.
    pub fn changes(&self, later: &Self) -> BTreeSet<Bytes> {
        let mut keys = BTreeSet::new();
        for (key, kv) in &self.keys {
            let now = later.key(key);
            if now.is_some_and(|now| changed(now) != changed(kv.as_ref())) {
                keys.insert(key.clone());
            }
        }
        for read in &self.ranges {
            let Some(now) = later.range(&read.range) else { continue };
            let of_either = read.kvs.iter().chain(&now.kvs).map(|kv| &kv.key);
            keys.extend(
                of_either.filter(|key| changed(read.get(key)) != changed(now.get(key))).cloned(),
            );
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys and when they were changed.
    type Store = BTreeMap<u8, i64>;

    fn name(key: u8) -> Bytes {
        Bytes::from(vec![b'a' + key])
    }

    fn kv(key: u8, mod_revision: i64) -> KeyValue {
        KeyValue { key: name(key), mod_revision: Revision(mod_revision), ..KeyValue::default() }
    }

    fn span((from, len): (u8, u8)) -> KeyRange {
        KeyRange::span(name(from), name(from + len + 1))
    }

    /// What a transaction that asks for these keys and ranges is told.
    fn read(store: &Store, keys: &BTreeSet<u8>, ranges: &BTreeSet<(u8, u8)>) -> Reads {
        let mut reads = Reads::default();
        for &key in keys {
            let kvs = store.get(&key).map(|&at| kv(key, at));
            reads.add(name(key).into(), Revision(100), kvs.into_iter().collect());
        }
        for &range in ranges {
            let range = span(range);
            let kvs = store.iter().map(|(&key, &at)| kv(key, at));
            let kvs = kvs.filter(|kv| range.contains(&kv.key)).collect();
            reads.add(range, Revision(100), kvs);
        }
        reads
    }

    #[test]
    fn a_key_is_known_by_itself_or_from_a_range() {
        let store = Store::from([(1, 10), (3, 30)]);
        let reads = read(&store, &BTreeSet::from([0, 1]), &BTreeSet::from([(2, 3)]));
        assert_eq!(reads.key(b"a"), Some(None));
        assert_eq!(reads.key(b"b"), Some(Some(&kv(1, 10))));
        assert_eq!(reads.key(b"c"), Some(None));
        assert_eq!(reads.key(b"d"), Some(Some(&kv(3, 30))));
        assert_eq!(reads.key(b"z"), None);
        assert_eq!(reads.range(&span((2, 3))).map(|read| read.kvs.len()), Some(1));
        assert_eq!(reads.range(&span((2, 2))), None);
    }

    #[test]
    fn what_others_know_is_adopted_and_nothing_else() {
        let others = read(&Store::from([(3, 30)]), &BTreeSet::from([0]), &BTreeSet::from([(2, 3)]));
        let mut reads = Reads::default();
        for (range, known) in [
            (name(0).into(), true),
            (name(1).into(), false),
            (name(3).into(), true),
            (span((2, 3)), true),
            (span((2, 2)), false),
        ] {
            assert_eq!(reads.adopt(&range, &others), known, "{range:?}");
            assert_eq!(reads.knows(&range), known, "{range:?}");
        }
        assert_eq!(reads.key(b"d"), Some(Some(&kv(3, 30))));
    }

    proptest! {
        #[test]
        fn exactly_the_changes_of_what_was_read_are_told(
            before in prop::collection::btree_map(0u8..8, 1i64..4, 0..8),
            after in prop::collection::btree_map(0u8..8, 1i64..4, 0..8),
            keys in prop::collection::btree_set(0u8..8, 0..4),
            ranges in prop::collection::btree_set((0u8..8, 0u8..4), 0..3),
        ) {
            let told = read(&before, &keys, &ranges).changes(&read(&after, &keys, &ranges));
            let seen = |key: &u8| {
                keys.contains(key) || ranges.iter().any(|&range| span(range).contains(&name(*key)))
            };
            let changed = (0..8).filter(|key| seen(key) && before.get(key) != after.get(key));
            prop_assert_eq!(told, changed.map(name).collect::<BTreeSet<_>>());
        }
    }
}
