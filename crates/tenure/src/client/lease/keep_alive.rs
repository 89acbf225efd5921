use std::{fmt, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tenure_core::{LeaseId, Moment};
use tokio::sync::oneshot;

use super::{Keep, KeptLease, LeaseCalls, LeaseCell, LeaseState, actor::Forget, unanswered};
use crate::error::{Error, ErrorKind, LossReason, Result};

/// Keeps a lease alive, for as long as this is held.
///
/// All leases of a client share one stream to the cluster, which moves to another member when the
/// one it is on goes silent. Renewals happen on the client's own thread, at a third of the TTL:
/// nobody need poll this.
///
/// # Dropping
///
/// Ends the renewals, not the lease: it lives on until its TTL is over. To end it at once call
/// [`Client::lease_revoke`](crate::Client::lease_revoke).
#[must_use = "the lease is kept alive only while this is held"]
pub struct KeepAlive {
    calls: Arc<LeaseCalls>,
    id: LeaseId,
    cell: Arc<LeaseCell>,
}

impl KeepAlive {
    pub(super) fn new(calls: Arc<LeaseCalls>, id: LeaseId, cell: Arc<LeaseCell>) -> Self {
        Self { calls, id, cell }
    }

    pub(super) async fn start(calls: Arc<LeaseCalls>, lease: KeptLease) -> Result<Self> {
        let (reply, answer) = oneshot::channel();
        let keep = Keep { calls: Arc::clone(&calls), lease, give_up_at: calls.give_up_at(), reply };
        calls.actor.do_send(keep);
        let kept = answer.await.map_err(|_| calls.transport.gone("lease keep alive"))?;
        match kept.cell.changed_from(Some(LeaseState::Connecting)).await {
            LeaseState::Lost { reason } => Err(kept.refused(reason)),
            _ => Ok(kept),
        }
    }

    fn refused(&self, reason: LossReason) -> Error {
        let what = "lease keep alive";
        match reason {
            LossReason::Revoked => Error::etcd(what, tenure_core::EtcdError::LeaseNotFound),
            LossReason::AuthDenied => {
                Error::new(ErrorKind::Unauthenticated, what, "the user may not renew leases")
            }
            LossReason::Expired | LossReason::Unanswered => unanswered(),
            _ => self.calls.transport.gone(what),
        }
    }

    pub(crate) fn cell(&self) -> &Arc<LeaseCell> {
        &self.cell
    }

    /// The lease.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The TTL that the server gave last.
    pub fn ttl(&self) -> Duration {
        self.cell.ttl()
    }

    /// Whether the lease is held now. Reads the clock, does no I/O.
    pub fn is_held(&self) -> bool {
        self.calls.transport.now() < self.cell.deadline()
    }

    /// When the lease will be lost if no further renewal is answered, on the client's clock
    /// ([`Client::clock`](crate::Client::clock)); in the past once it is lost.
    ///
    /// Counted from when the last renewal that was answered was *sent*, less 1 % of the TTL for
    /// clocks that run unevenly, less a margin of a twentieth of it, half a second at least.
    pub fn deadline(&self) -> Moment {
        self.cell.deadline()
    }

    /// How it stands now.
    pub fn state(&self) -> LeaseState {
        self.cell.state(self.calls.transport.now())
    }

    /// How it stands, from now on: the present state first, then each change until
    /// [`Lost`](LeaseState::Lost), which is the last. A state that is over before it is looked at
    /// may be left out.
    pub fn states(&self) -> impl Stream<Item = LeaseState> + Send + Unpin + 'static {
        let cell = Arc::clone(&self.cell);
        Box::pin(stream::unfold((cell, None, false), |(cell, seen, over)| async move {
            if over {
                return None;
            }
            let state = cell.changed_from(seen).await;
            let over = matches!(state, LeaseState::Lost { .. });
            Some((state, (cell, Some(state), over)))
        }))
    }

    /// Waits until the lease is lost. Cancel safe.
    pub async fn lost(&self) -> LossReason {
        let mut seen = None;
        loop {
            match self.cell.changed_from(seen).await {
                LeaseState::Lost { reason } => return reason,
                state => seen = Some(state),
            }
        }
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.calls.actor.do_send(Forget { id: self.id, cell: Arc::clone(&self.cell) });
    }
}

impl fmt::Debug for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAlive").field("id", &self.id).field("state", &self.state()).finish()
    }
}
