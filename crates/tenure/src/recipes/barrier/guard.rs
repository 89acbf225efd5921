use std::{fmt, ops::Deref, pin::pin, sync::Arc};

use bytes::Bytes;
use futures::future::{self, Either};
use tenure_core::{Fence, KeyRange};
use tokio::sync::oneshot;

use crate::{
    error::Result,
    recipes::{
        claim::{Claim, Held, Release},
        follow::Follow,
    },
};

/// The barrier is held by this, until this says that it is not: [`Held`] has what it can.
///
/// # Dropping
///
/// Opens the barrier in the background, and never waits: retried until it is done or the lease is
/// gone. [`release`](Self::release) waits for it.
#[must_use = "the barrier is open when this is dropped"]
pub struct BarrierGuard {
    held: Held,
    /// Ends the watch on the key.
    _watching: oneshot::Sender<()>,
}

impl BarrierGuard {
    pub(super) fn new(held: Held) -> Self {
        let (watching, unwatched) = oneshot::channel();
        held.claim().client().spawn(watch(Arc::clone(held.claim()), unwatched));
        Self { held, _watching: watching }
    }

    /// What proves the hold: higher than that of any hold before.
    pub fn fence(&self) -> Fence {
        self.held.claim().fence()
    }

    /// The key that is held in etcd.
    pub fn key(&self) -> Bytes {
        self.fence().key
    }

    /// Opens the barrier, and waits until etcd says so.
    ///
    /// Cancel safe: dropped, it goes on in the background.
    ///
    /// # Errors
    ///
    /// What etcd refuses. While no server answers it goes on trying for as long as the lease may
    /// live; then it is [`AlreadyLost`](Release::AlreadyLost).
    pub async fn release(self) -> Result<Release> {
        self.held.release().await
    }
}

/// Sees to it that the guard hears of its key's end.
async fn watch(claim: Arc<Claim>, unwatched: oneshot::Receiver<()>) {
    let key = claim.fence().key;
    let mut follow = Follow::after(claim.client(), KeyRange::key(&key), claim.created());
    let lost = pin!(claim.lost());
    let mut over = future::select(unwatched, lost);
    loop {
        let seen = match future::select(pin!(follow.next()), &mut over).await {
            Either::Left((seen, _)) => seen,
            Either::Right(_) => return,
        };
        match seen {
            Ok(seen) => claim.handle(&seen),
            Err(error) => {
                tracing::warn!(?key, %error, "a barrier cannot be watched");
                return;
            }
        }
    }
}

impl Deref for BarrierGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl fmt::Debug for BarrierGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierGuard")
            .field("fence", &self.fence())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
