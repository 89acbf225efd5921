use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::Stream;
use tenure_core::{Fence, Moment};

use super::OwnKey;
use crate::{
    client::Client,
    error::{LossReason, Result},
    ops::{Txn, Via},
    recipes::claim::{ClaimState, Release},
};

/// A key that a session holds in the cluster: what the guards of barriers have in common.
///
/// # Dropping
///
/// Gives it back in the background, and never waits: retried until it is done or the lease is
/// gone.
pub struct HeldKey {
    own: Arc<OwnKey>,
}

impl HeldKey {
    pub(in crate::recipes) fn new(own: Arc<OwnKey>) -> Self {
        Self { own }
    }

    pub(in crate::recipes) fn own(&self) -> &Arc<OwnKey> {
        &self.own
    }

    pub(in crate::recipes) async fn release(self) -> Result<Release> {
        self.own.release().await
    }

    /// What proves the hold: higher than that of any hold before.
    pub fn fence(&self) -> Fence {
        self.own.fence()
    }

    /// The key that is held in etcd.
    pub fn key(&self) -> Bytes {
        self.own.key().clone()
    }

    /// Whether it is held now, as far as a clock can tell. No I/O.
    pub fn is_held(&self) -> bool {
        self.own.loss().is_none()
    }

    /// When it will be lost if no further renewal is answered, on [`Client::clock`]; in the past
    /// once it is lost.
    pub fn deadline(&self) -> Moment {
        self.own.deadline()
    }

    /// How it stands now.
    pub fn state(&self) -> ClaimState {
        self.own.progress().state(self.own.client().now())
    }

    /// How it stands from now on: the present state first, then each change, the last of which is
    /// final. A state that is over before it is looked at may be left out.
    pub fn states(&self) -> impl Stream<Item = ClaimState> + Send + Unpin + 'static {
        Arc::clone(self.own.progress()).states(self.own.client().clone())
    }

    /// Resolves when it is lost, with the reason. Cancel safe.
    ///
    /// Late by a second at most after the machine was asleep, or while the reason why a key is gone
    /// is asked for.
    pub async fn lost(&self) -> LossReason {
        self.own.lost().await
    }

    /// The key space, for the holder alone: a client whose writes etcd refuses once this is lost,
    /// with [`ErrorKind::Lost`](crate::ErrorKind::Lost). Reads are not held to it.
    ///
    /// It may outlive the guard; its writes are refused then. It keeps the session alive.
    pub fn kv(&self) -> Client {
        self.own.fenced()
    }

    /// A transaction that is done only while this is held, if it writes anything. See
    /// [`kv`](Self::kv).
    pub fn txn(&self) -> Txn<Via> {
        self.kv().txn()
    }
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        self.own.withdraw();
    }
}

impl fmt::Debug for HeldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldKey")
            .field("fence", &self.fence())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
