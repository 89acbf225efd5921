use bytes::{BufMut, Bytes, BytesMut};

/// Keys that permissions name: those from `begin` up to, and not including, `end`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    begin: Bytes,
    end: End,
}

/// The order of the variants is that of the ends.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Bytes),
    Open,
}

impl End {
    fn is_beyond(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end,
            Self::Open => true,
        }
    }
}

impl Interval {
    /// As etcd reads a key and a range end: no end is one key, an end of one zero byte is none.
    pub(super) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match &range_end[..] {
            [] => End::Before(successor(key)),
            [0] => End::Open,
            _ => End::Before(range_end.clone()),
        };
        Self { begin: key.clone(), end }
    }

    /// Whether a permission may say so: it begins somewhere, and has room for a key.
    pub(super) fn is_valid(&self) -> bool {
        !self.begin.is_empty() && self.end.is_beyond(&self.begin)
    }

    /// Whether `next`, which begins no earlier, leaves no gap behind this.
    fn touches(&self, next: &Self) -> bool {
        match &self.end {
            End::Before(end) => next.begin <= end,
            End::Open => true,
        }
    }
}

fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// The keys of many intervals together. Those that overlap or touch are one, so that a range may
/// lie across what several permissions allow.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Interval>);

impl FromIterator<Interval> for KeySet {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> Self {
        let mut all: Vec<_> = intervals.into_iter().filter(Interval::is_valid).collect();
        all.sort_unstable();
        let mut merged: Vec<Interval> = Vec::with_capacity(all.len());
        for next in all {
            match merged.last_mut() {
                Some(last) if last.touches(&next) => {
                    if last.end < next.end {
                        last.end = next.end;
                    }
                }
                _ => merged.push(next),
            }
        }
        Self(merged)
    }
}

impl KeySet {
    /// Whether all the keys that a request names are in it. As in etcd, a range that is empty
    /// counts as the key it begins with.
    pub(super) fn covers(&self, key: &[u8], range_end: &[u8]) -> bool {
        let Some(around) = self.around(key) else { return false };
        match (range_end, &around.end) {
            ([], _) | (_, End::Open) => true,
            ([0], End::Before(_)) => false,
            (asked, End::Before(end)) => asked <= end,
        }
    }

    fn around(&self, key: &[u8]) -> Option<&Interval> {
        let behind = self.0.partition_point(|interval| interval.begin <= key);
        let last = self.0.get(behind.checked_sub(1)?)?;
        last.end.is_beyond(key).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval(key: &'static [u8], range_end: &'static [u8]) -> Interval {
        Interval::new(&Bytes::from_static(key), &Bytes::from_static(range_end))
    }

    #[test]
    fn one_key_covers_no_range_but_that_of_itself() {
        let set = KeySet::from_iter([interval(b"a", b"")]);
        assert!(set.covers(b"a", b""));
        assert!(set.covers(b"a", b"a\0"));
        assert!(!set.covers(b"a", b"b"));
        assert!(!set.covers(b"a", b"\0"));
        assert!(!set.covers(b"b", b""));
    }

    #[test]
    fn an_empty_range_counts_as_its_first_key() {
        let set = KeySet::from_iter([interval(b"a", b"")]);
        assert!(set.covers(b"a", b"a"));
        assert!(!set.covers(b"b", b"a"));
    }

    #[test]
    fn what_touches_is_one_and_what_does_not_is_not() {
        let set = KeySet::from_iter([interval(b"c", b"\0"), interval(b"a", b"c")]);
        assert!(set.covers(b"a", b"\0"));
        let set = KeySet::from_iter([interval(b"a", b"b"), interval(b"c", b"d")]);
        assert!(!set.covers(b"a", b"d"));
        let set = KeySet::from_iter([interval(b"a", b""), interval(b"a\0", b"b")]);
        assert!(set.covers(b"a", b"b"));
    }

    #[test]
    fn a_short_interval_inside_a_long_one_does_not_shorten_it() {
        let set = KeySet::from_iter([interval(b"a", b"z"), interval(b"b", b"c")]);
        assert!(set.covers(b"a", b"z"));
        let set = KeySet::from_iter([interval(b"a", b"\0"), interval(b"b", b"c")]);
        assert!(set.covers(b"c", b"\0"));
    }

    #[test]
    fn no_key_at_all_is_never_covered() {
        assert!(!KeySet::from_iter([interval(b"\0", b"\0")]).covers(b"", b"\0"));
        assert!(!KeySet::default().covers(b"a", b""));
    }

    #[test]
    fn a_permission_needs_a_key_and_room_for_one() {
        assert!(interval(b"a", b"").is_valid());
        assert!(interval(b"b", b"\0").is_valid());
        assert!(interval(b"\0", b"\0").is_valid());
        assert!(!interval(b"", b"\0").is_valid());
        assert!(!interval(b"", b"").is_valid());
        assert!(!interval(b"b", b"a").is_valid());
        assert!(!interval(b"b", b"b").is_valid());
    }

    /// Of these bytes are all keys here. An interval of keys of up to two ends at a key of up to
    /// three at most, so whatever gap there is begins at a key of the universe.
    const BYTES: [u8; 3] = [0, 1, 2];

    fn universe() -> Vec<Vec<u8>> {
        let mut keys = vec![vec![]];
        let mut done = 0;
        while keys[done].len() < 3 {
            for byte in BYTES {
                keys.push([&keys[done][..], &[byte]].concat());
            }
            done += 1;
        }
        keys.remove(0);
        keys
    }

    fn names(key: &[u8], range_end: &[u8], of: &[u8]) -> bool {
        match range_end {
            [] => of == key,
            [0] => key <= of,
            end => key <= of && of < end,
        }
    }

    fn short() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(&BYTES[..]), 0..=2)
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        short().prop_filter("a key", |key| !key.is_empty())
    }

    proptest! {
        #[test]
        fn a_set_covers_what_its_permissions_allow_key_by_key(
            permissions in prop::collection::vec((key(), short()), 0..6),
            asked in (key(), short()),
        ) {
            let set: KeySet = permissions
                .iter()
                .map(|(key, end)| Interval::new(&key.clone().into(), &end.clone().into()))
                .collect();
            let allowed = |of: &[u8]| permissions.iter().any(|(key, end)| names(key, end, of));
            let mut named: Vec<_> =
                universe().into_iter().filter(|of| names(&asked.0, &asked.1, of)).collect();
            if named.is_empty() {
                named.push(asked.0.clone());
            }
            let model = named.iter().all(|of| allowed(of));
            prop_assert_eq!(set.covers(&asked.0, &asked.1), model);
        }
    }
}
