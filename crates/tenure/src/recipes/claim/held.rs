use std::sync::Arc;

use futures::Stream;
use tenure_core::Moment;
use tracing::Instrument;

use super::{Claim, ClaimState, Release};
use crate::{
    client::Client,
    error::{LossReason, Result},
    ops::{Txn, Via},
};

/// Something that a session holds in the cluster: what all guards have in common.
///
/// # Dropping
///
/// Gives it back in the background, and never waits: retried until it is done or the lease is
/// gone.
pub struct Held {
    claim: Arc<Claim>,
    /// From the grant to the end of this.
    span: tracing::Span,
}

impl Held {
    pub(super) fn new(claim: Arc<Claim>) -> Self {
        let span = tracing::debug_span!(parent: None, "hold", fence = %claim.fence());
        Self { claim, span }
    }

    pub(crate) fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    pub(crate) async fn release(self) -> Result<Release> {
        let span = tracing::debug_span!(parent: &self.span, "release");
        self.claim.release().instrument(span).await
    }

    /// Whether it is held now, as far as a clock can tell. No I/O.
    pub fn is_held(&self) -> bool {
        self.claim.loss().is_none()
    }

    /// When it will be lost if no further renewal is answered, on
    /// [`Client::clock`](crate::Client::clock); in the past once it is lost.
    pub fn deadline(&self) -> Moment {
        self.claim.deadline()
    }

    /// How it stands now.
    pub fn state(&self) -> ClaimState {
        self.claim.progress().state(self.claim.client().now())
    }

    /// How it stands from now on: the present state first, then each change, the last of which is
    /// final. A state that is over before it is looked at may be left out.
    pub fn states(&self) -> impl Stream<Item = ClaimState> + Send + Unpin + 'static {
        Arc::clone(self.claim.progress()).states(self.claim.client().clone())
    }

    /// Resolves when it is lost, with the reason. Cancel safe.
    ///
    /// Late by a second at most after the machine was asleep, or while the reason why a key is gone
    /// is asked for.
    pub async fn lost(&self) -> LossReason {
        self.claim.lost().await
    }

    /// The key space, for the holder alone: a client whose writes etcd refuses once this is lost,
    /// with [`ErrorKind::Lost`](crate::ErrorKind::Lost). Reads are not held to it.
    ///
    /// It may outlive the guard; its writes are refused then. It keeps the session alive. The proof
    /// takes two of etcd's 128 compares for each key that is held.
    pub fn kv(&self) -> Client {
        self.claim.fenced()
    }

    /// A transaction that is done only while this is held, if it writes anything. See
    /// [`kv`](Self::kv).
    pub fn txn(&self) -> Txn<Via> {
        self.kv().txn()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.claim.withdraw();
    }
}
