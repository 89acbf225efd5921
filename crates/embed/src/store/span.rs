use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

/// The keys that a request names: one, those of a half-open interval, or all from one on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Span {
    One(Bytes),
    Between(Bytes, Bytes),
    From(Bytes),
}

impl Span {
    /// `key` and `range_end` as etcd reads them: no end is one key, an end of one zero byte is
    /// none at all.
    pub(crate) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        match &range_end[..] {
            [] => Self::One(key.clone()),
            [0] => Self::From(key.clone()),
            _ => Self::Between(key.clone(), range_end.clone()),
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between(from, end) => from <= key && key < end,
            Self::From(from) => from <= key,
        }
    }

    /// No key can be in it: it ends where it begins, or before.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Between(from, end) if end <= from)
    }

    /// The prefix that all its keys, and only they, begin with, if there is one.
    pub(crate) fn prefix(&self) -> Option<&Bytes> {
        match self {
            Self::Between(from, end) if ends_prefix(from, end) => Some(from),
            _ => None,
        }
    }

    /// What `map` has of its keys, in their order.
    pub(crate) fn of<'a, V>(
        &self,
        map: &'a BTreeMap<Bytes, V>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a V)> + use<'a, V> {
        let (one, many) = match self {
            Self::One(key) => (map.get_key_value(key), None),
            Self::Between(..) if self.is_empty() => (None, None),
            Self::Between(from, end) => {
                let bounds = (Bound::Included(&from[..]), Bound::Excluded(&end[..]));
                (None, Some(map.range::<[u8], _>(bounds)))
            }
            Self::From(from) => {
                let bounds = (Bound::Included(&from[..]), Bound::Unbounded);
                (None, Some(map.range::<[u8], _>(bounds)))
            }
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// Whether `end` is the first key behind all that begin with `prefix`.
fn ends_prefix(prefix: &[u8], end: &[u8]) -> bool {
    let Some((last, head)) = end.split_last() else { return false };
    let Some((raised, rest)) = prefix.get(head.len()..).and_then(<[u8]>::split_first) else {
        return false;
    };
    prefix.starts_with(head)
        && raised.checked_add(1) == Some(*last)
        && rest.iter().all(|byte| *byte == 0xff)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::Span;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(prop::sample::select(vec![0, 1, 0x61, 0xfe, 0xff]), 0..4)
            .prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn a_prefix_is_what_all_its_keys_and_only_they_begin_with(
            from in bytes(), end in bytes(), key in bytes(),
        ) {
            let span = Span::new(&from, &end);
            if let Some(prefix) = span.prefix() {
                prop_assert_eq!(span.contains(&key), key.starts_with(prefix));
            }
        }

        #[test]
        fn the_keys_of_a_map_are_those_it_contains(
            from in bytes(), end in bytes(), keys in prop::collection::btree_map(bytes(), Just(()), 0..9),
        ) {
            let span = Span::new(&from, &end);
            let found: Vec<_> = span.of(&keys).map(|(key, ())| key.clone()).collect();
            let all = keys.into_keys().filter(|key| span.contains(key));
            prop_assert_eq!(found, all.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_usual_end_of_a_prefix_is_known() {
        let prefix = |from: &'static [u8], end: &'static [u8]| {
            Span::new(&Bytes::from_static(from), &Bytes::from_static(end)).prefix().is_some()
        };
        assert!(prefix(b"app/", b"app0"));
        assert!(prefix(b"a\xff", b"b"));
        assert!(!prefix(b"a", b"c"));
        assert!(!prefix(b"a", b"ab"));
    }
}
