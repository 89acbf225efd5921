use std::ops::{Add, Sub};

use bytes::Bytes;

use crate::{Event, Revision};

/// The name of a watch for its whole life, whatever ids it has on the wire meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchKey(pub(super) u64);

/// What to watch, and how much of it may lie unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// The key, or the first key of the range.
    pub key: Bytes,
    /// The end of the range as etcd writes it: empty for one key, a zero byte for no end.
    pub range_end: Bytes,
    /// The first revision to report; 0 means from now on.
    pub start: Revision,
    /// Whether events carry the key as it was before.
    pub prev_kv: bool,
    /// Whether the server reports its revision from time to time while nothing happens.
    pub progress_notify: bool,
    /// Whether the server may split big answers.
    pub fragment: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
    /// How much may be delivered and not yet consumed. One revision is always accepted when
    /// nothing is queued, so zero means "one revision at a time".
    pub limit: Weight,
}

impl Spec {
    /// A watch that nothing matches: creating it makes the server speak, at next to no cost.
    pub(super) fn pulse() -> Self {
        let key = Bytes::from_static(b"tenure/pulse");
        Self { key, no_put: true, no_delete: true, ..Self::default() }
    }
}

/// The size of what is queued for a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// How many events.
    pub events: usize,
    /// The length of their keys and values.
    pub bytes: usize,
}

impl Weight {
    /// Nothing.
    pub const ZERO: Self = Self { events: 0, bytes: 0 };

    /// The weight of these events; it adds up, so they may be consumed one by one.
    pub fn of(events: &[Event]) -> Self {
        let pairs = events.iter().flat_map(|event| [Some(&event.kv), event.prev_kv.as_ref()]);
        let bytes = pairs.flatten().map(|kv| kv.key.len() + kv.value.len()).sum();
        Self { events: events.len(), bytes }
    }

    pub(super) fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    pub(super) fn is_within(self, limit: Self) -> bool {
        self.events <= limit.events && self.bytes <= limit.bytes
    }

    pub(super) fn half(self) -> Self {
        Self { events: self.events / 2, bytes: self.bytes / 2 }
    }
}

impl Add for Weight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_add(other.events),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Sub for Weight {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}
