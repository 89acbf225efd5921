use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::Stream;
use tenure_core::{Fence, Moment};

use crate::{
    client::Client,
    error::{LossReason, Result},
    ops::{Txn, Via},
    recipes::claim::{ClaimState, Held, Release},
};

/// The lock is ours, until this says that it is not.
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

    /// Whether the lock is held now, as far as a clock can tell. No I/O.
    pub fn is_held(&self) -> bool {
        self.held.claim().loss().is_none()
    }

    /// When the lock will be lost if no further renewal is answered, on
    /// [`Client::clock`](crate::Client::clock); in the past once it is lost.
    pub fn deadline(&self) -> Moment {
        self.held.claim().deadline()
    }

    /// How it stands now.
    pub fn state(&self) -> ClaimState {
        let claim = self.held.claim();
        claim.progress().state(claim.client().now())
    }

    /// How it stands from now on: the present state first, then each change.
    pub fn states(&self) -> impl Stream<Item = ClaimState> + Send + Unpin + 'static {
        let claim = self.held.claim();
        Arc::clone(claim.progress()).states(claim.client().clone())
    }

    /// Resolves when the lock is lost, with the reason. Cancel safe.
    ///
    /// Late by a second at most after the machine was asleep; by nothing otherwise.
    pub async fn lost(&self) -> LossReason {
        self.held.claim().lost().await
    }

    /// The key space, for the holder alone: a client whose writes etcd refuses once the lock is
    /// lost, with [`ErrorKind::Lost`](crate::ErrorKind::Lost). Reads are not held to it.
    ///
    /// It may outlive the guard; its writes are refused then. It keeps the session alive.
    pub fn kv(&self) -> Client {
        self.held.claim().fenced()
    }

    /// A transaction that is done only while the lock is held, if it writes anything. See
    /// [`kv`](Self::kv).
    pub fn txn(&self) -> Txn<Via> {
        self.kv().txn()
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

impl fmt::Debug for MutexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexGuard")
            .field("fence", &self.fence())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
