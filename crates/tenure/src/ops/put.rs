use bytes::Bytes;
use tenure_core::{Key, LeaseId, Value};

use crate::error::{Error, Result};

/// The value of a [`Put`]: new bytes, or the one that is there.
#[derive(Clone, PartialEq, Eq)]
pub struct PutValue(pub(crate) Option<Bytes>);

/// In place of a value: keeps the one the key has. The key must exist
/// ([`EtcdError::KeyNotFound`](crate::EtcdError::KeyNotFound) otherwise).
#[derive(Clone, Copy, Debug)]
pub struct KeepValue;

impl From<KeepValue> for PutValue {
    fn from(_: KeepValue) -> Self {
        Self(None)
    }
}

impl<T: Into<Value>> From<T> for PutValue {
    fn from(value: T) -> Self {
        Self(Some(value.into().into_bytes()))
    }
}

impl std::fmt::Debug for PutValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(value) => write!(f, "({} bytes)", value.len()),
            None => write!(f, "KeepValue"),
        }
    }
}

/// The lease of the key after a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutLease {
    None,
    Attach(LeaseId),
    Keep,
}

/// Writes one key.
///
/// Sent at most once unless nothing reached a server; an unknown outcome is
/// [`ErrorKind::Indeterminate`](crate::ErrorKind::Indeterminate).
#[derive(Clone, Debug)]
#[must_use = "an operation runs when it is awaited"]
pub struct Put<V = ()> {
    pub(crate) key: Bytes,
    pub(crate) value: PutValue,
    pub(crate) lease: PutLease,
    pub(crate) prev_kv: bool,
    pub(crate) via: V,
}

impl Put {
    /// Writes `value`, or [`KeepValue`], at `key`.
    pub fn new(key: impl Into<Key>, value: impl Into<PutValue>) -> Self {
        Self::with(key.into().into_bytes(), value.into(), ())
    }
}

impl<V> Put<V> {
    pub(crate) fn with(key: Bytes, value: PutValue, via: V) -> Self {
        Self { key, value, lease: PutLease::None, prev_kv: false, via }
    }

    /// The key dies with this lease. Without it, a put takes the key from its lease.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = PutLease::Attach(lease);
        self
    }

    /// Keeps the lease the key has. The key must exist.
    pub fn keep_lease(mut self) -> Self {
        self.lease = PutLease::Keep;
        self
    }

    /// Answers with the key as it was before.
    pub fn prev_kv(mut self) -> Self {
        self.prev_kv = true;
        self
    }

    pub(super) fn detach(self) -> (Put, V) {
        let Self { key, value, lease, prev_kv, via } = self;
        (Put { key, value, lease, prev_kv, via: () }, via)
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.key.is_empty() {
            return Err(Error::invalid("put", "the key is empty"));
        }
        Ok(())
    }
}
