use std::{
    fmt,
    future::{IntoFuture, pending},
    ops::Deref,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::{self, BoxFuture, Either};
use tenure_core::{Fence, Revision};
use tokio::sync::watch as latest;

use super::{WHAT, room::Company};
use crate::{
    error::{Error, ErrorKind, Result},
    recipes::claim::{Held, Release},
};

/// The round has begun, and this is in it, until this says that it is not: [`Held`] has what it
/// can.
///
/// # Dropping
///
/// Leaves in the background without waiting for the others, who no longer wait for this one.
#[must_use = "the member leaves when this is dropped"]
pub struct Membership {
    held: Held,
    others: latest::Receiver<Company>,
}

impl Membership {
    pub(super) fn new(held: Held, others: latest::Receiver<Company>) -> Self {
        Self { held, others }
    }

    /// What proves the membership: higher than that of whoever came before.
    pub fn fence(&self) -> Fence {
        self.held.claim().fence()
    }

    /// The member's key in etcd.
    pub fn key(&self) -> Bytes {
        self.fence().key
    }

    /// Which round it is: when the last of it came. The same for all who entered together, and
    /// higher for each round than for the one before.
    ///
    /// Where Go's recipe says that all are there it is when that was said.
    pub fn round(&self) -> Revision {
        self.others.borrow().round
    }

    /// Wants to leave, and does once all others of the round want to, or are gone.
    /// [`timeout`](Leave::timeout) limits the waiting; without it only the session does.
    pub fn leave(self) -> Leave {
        Leave { membership: self, timeout: None }
    }

    async fn others_are_gone(&mut self) -> Result<()> {
        let gone = |company: &Company| !matches!(company.others, Ok(count) if count > 0);
        match self.others.wait_for(gone).await.as_deref() {
            Ok(Company { others: Err(error), .. }) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(self.held.claim().client().gone(WHAT)),
        }
    }

    async fn left(mut self, timeout: Option<Duration>) -> Result<Release> {
        let claim = Arc::clone(self.held.claim());
        let late = pin!(async {
            let Some(timeout) = timeout else { return pending().await };
            claim.client().sleep(timeout).await;
            let text = format!("the others did not leave within {timeout:?}");
            Error::new(ErrorKind::Timeout, WHAT, text)
        });
        let left = pin!(async {
            let wanted = claim.release().await?;
            if wanted == Release::Released {
                self.others_are_gone().await?;
            }
            Ok(wanted)
        });
        let lost = pin!(claim.life().lost());
        match future::select(left, future::select(late, lost)).await {
            Either::Left((left, _)) => left,
            Either::Right((Either::Left((error, _)), _)) => Err(error),
            Either::Right((Either::Right((reason, _)), _)) => Err(Error::lost(WHAT, reason)),
        }
    }
}

/// Leaves a double barrier; see [`Membership::leave`]. Begins when it is awaited.
///
/// Cancel safe: dropped, the member leaves in the background, without waiting for the others.
///
/// # Errors
///
/// `Timeout` after the timeout, and `Lost` if the session is lost meanwhile: the member has left
/// then, and does not know of the others. Else what etcd refuses. A membership that was lost before
/// is [`AlreadyLost`](Release::AlreadyLost) at once.
#[must_use = "nobody leaves until it is awaited, or dropped"]
pub struct Leave {
    membership: Membership,
    timeout: Option<Duration>,
}

impl Leave {
    /// How long to wait for the others at most.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for Leave {
    type Output = Result<Release>;
    type IntoFuture = BoxFuture<'static, Result<Release>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.membership.left(self.timeout))
    }
}

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leave").finish_non_exhaustive()
    }
}

impl Deref for Membership {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("fence", &self.fence())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
