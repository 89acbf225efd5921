use bytes::Bytes;

use crate::key::{Key, from_bytes_like};

/// The keys an operation is about: one key, or a half-open interval of keys in byte order.
///
/// Made by [`KeyRange::key`], [`prefix`](KeyRange::prefix), [`span`](KeyRange::span),
/// [`from`](KeyRange::starting_at) or [`all`](KeyRange::all); strings and byte strings turn into
/// a single key. Only one of these can be said, so "a prefix and also an end" cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bytes,
    end: RangeEnd,
}

/// Where a [`KeyRange`] ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// The range is the one key it starts with.
    SingleKey,
    /// The range ends before this key.
    Before(Bytes),
    /// The range has no upper bound.
    Open,
}

/// Why a [`KeyRange`] cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRange {
    /// A single key was asked for, and it is empty.
    EmptyKey,
    /// The end is not above the start, so that the range holds no key.
    Reversed,
}

const ZERO: &[u8] = &[0];

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Key>) -> Self {
        Self::from_bytes(key.into().into_bytes())
    }

    /// Every key that begins with `prefix`; all keys if it is empty.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let start = prefix.into().into_bytes();
        let end = match prefix_end(&start) {
            Some(end) => RangeEnd::Before(end),
            None => RangeEnd::Open,
        };
        Self { start, end }
    }

    /// Every key from `start` up to, and not including, `end`.
    pub fn span(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        let end = end.into().into_bytes();
        Self { start: start.into().into_bytes(), end: RangeEnd::Before(end) }
    }

    /// Every key from `start` on.
    pub fn starting_at(start: impl Into<Key>) -> Self {
        Self { start: start.into().into_bytes(), end: RangeEnd::Open }
    }

    /// Every key there is.
    pub fn all() -> Self {
        Self::starting_at(Bytes::new())
    }

    /// The lowest key of the range.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// Where the range ends.
    pub fn end(&self) -> &RangeEnd {
        &self.end
    }

    /// Whether this is about one key only.
    pub fn is_single_key(&self) -> bool {
        self.end == RangeEnd::SingleKey
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::SingleKey => key == self.start,
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            RangeEnd::Open => key >= self.start.as_ref(),
        }
    }

    /// Refuses what etcd would refuse (an empty key) or silently answer with nothing (a reversed
    /// range).
    pub fn check(&self) -> Result<(), BadRange> {
        match &self.end {
            RangeEnd::SingleKey if self.start.is_empty() => Err(BadRange::EmptyKey),
            // An end of one zero byte has only the empty key below it, which is none; and on the
            // wire it would mean "no end".
            RangeEnd::Before(end) if *end <= self.start || end == ZERO => Err(BadRange::Reversed),
            _ => Ok(()),
        }
    }

    /// `key` and `range_end` as etcd wants them: an empty end means one key, an end of one zero
    /// byte means no upper bound, and the lowest key is written as one zero byte.
    pub fn to_wire(&self) -> (Bytes, Bytes) {
        let start = match self.end {
            RangeEnd::SingleKey => self.start.clone(),
            _ if self.start.is_empty() => Bytes::from_static(ZERO),
            _ => self.start.clone(),
        };
        let end = match &self.end {
            RangeEnd::SingleKey => Bytes::new(),
            RangeEnd::Before(end) => end.clone(),
            RangeEnd::Open => Bytes::from_static(ZERO),
        };
        (start, end)
    }
}

/// The least key above every key that begins with `prefix`; `None` when nothing lies above (an
/// empty prefix, or one of `0xff` bytes only).
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte < 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

impl KeyRange {
    fn from_bytes(key: Bytes) -> Self {
        Self { start: key, end: RangeEnd::SingleKey }
    }
}

from_bytes_like!(KeyRange);

impl From<Key> for KeyRange {
    fn from(key: Key) -> Self {
        Self::key(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends_at(prefix: &[u8]) -> Option<Vec<u8>> {
        prefix_end(prefix).map(Into::into)
    }

    #[test]
    fn a_prefix_ends_where_its_last_byte_can_still_grow() {
        assert_eq!(ends_at(b"a"), Some(b"b".to_vec()));
        assert_eq!(ends_at(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(ends_at(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(ends_at(b"\xff\xff"), None);
        assert_eq!(ends_at(b""), None);
    }

    #[test]
    fn the_wire_form_is_etcds() {
        let wire = |range: KeyRange| {
            let (start, end) = range.to_wire();
            (start.to_vec(), end.to_vec())
        };
        assert_eq!(wire("k".into()), (b"k".to_vec(), b"".to_vec()));
        assert_eq!(wire(KeyRange::prefix("k")), (b"k".to_vec(), b"l".to_vec()));
        assert_eq!(wire(KeyRange::prefix("")), (b"\0".to_vec(), b"\0".to_vec()));
        assert_eq!(wire(KeyRange::all()), (b"\0".to_vec(), b"\0".to_vec()));
        assert_eq!(wire(KeyRange::starting_at("k")), (b"k".to_vec(), b"\0".to_vec()));
        assert_eq!(wire(KeyRange::span("", "k")), (b"\0".to_vec(), b"k".to_vec()));
    }

    #[test]
    fn ranges_that_hold_nothing_are_told() {
        assert_eq!(KeyRange::key("").check(), Err(BadRange::EmptyKey));
        assert_eq!(KeyRange::span("b", "a").check(), Err(BadRange::Reversed));
        assert_eq!(KeyRange::span("b", "b").check(), Err(BadRange::Reversed));
        assert_eq!(KeyRange::span("", "\0").check(), Err(BadRange::Reversed));
        assert_eq!(KeyRange::prefix("").check(), Ok(()));
    }

    proptest! {
        #[test]
        fn a_prefix_range_holds_exactly_the_keys_with_the_prefix(
            prefix in prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 0xfe, 0xff]), 0..4),
            key in prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 0xfe, 0xff]), 1..6),
        ) {
            let range = KeyRange::prefix(prefix.clone());
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
        }
    }
}
