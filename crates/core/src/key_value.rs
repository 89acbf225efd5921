use bytes::Bytes;

use crate::{LeaseId, Revision};

/// A key as of one revision of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key; never empty.
    pub key: Bytes,
    /// The value; empty when only keys were asked for, and in a deletion.
    pub value: Bytes,
    /// The revision at which the key was created, anew after each deletion.
    pub create_revision: Revision,
    /// The revision of the last change.
    pub mod_revision: Revision,
    /// How many times the key was put since its creation; 0 in a deletion.
    pub version: i64,
    /// The lease the key dies with, if any.
    pub lease: Option<LeaseId>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was created or changed.
    Put,
    /// The key was deleted, or its lease ended.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after the change. Of a deletion only `key` and `mod_revision` are set.
    pub kv: KeyValue,
    /// The key before the change: only on request, and only if there was one that is not
    /// compacted.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// Whether this put made a key that was not there.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }

    /// Whether this put changed a key that was there.
    pub fn is_modify(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision != self.kv.mod_revision
    }
}
