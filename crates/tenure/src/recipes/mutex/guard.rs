use std::{fmt, ops::Deref};

use bytes::Bytes;
use tenure_core::Fence;

use crate::{
    error::Result,
    recipes::claim::{Held, Release},
};

/// The lock is ours, until this says that it is not: [`Held`] has what all guards can.
///
/// # Dropping
///
/// Releases the lock in the background, and never waits: retried until it is done or the lease is
/// gone. [`release`](Self::release) waits for it.
#[must_use = "the lock is released when this is dropped"]
pub struct MutexGuard {
    held: Held,
}

impl MutexGuard {
    pub(super) fn new(held: Held) -> Self {
        Self { held }
    }

    /// What proves the hold: higher for each holder than for the one before. Give it to resources
    /// outside etcd, and let them refuse older ones, with a [`FenceGate`](crate::FenceGate).
    pub fn fence(&self) -> Fence {
        self.held.claim().fence()
    }

    /// The key that is held in etcd.
    pub fn key(&self) -> Bytes {
        self.fence().key
    }

    /// Releases the lock, and waits until etcd says so.
    ///
    /// Cancel safe: dropped, it goes on in the background.
    ///
    /// # Errors
    ///
    /// What etcd refuses. While no server answers it goes on trying for as long as the lease may
    /// live; then the lock is [`AlreadyLost`](Release::AlreadyLost).
    pub async fn release(self) -> Result<Release> {
        self.held.release().await
    }
}

impl Deref for MutexGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl fmt::Debug for MutexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexGuard")
            .field("fence", &self.fence())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
