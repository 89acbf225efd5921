use std::{fmt, ops::Deref, pin::pin, sync::Arc};

use futures::future::{self, Either};
use tenure_core::KeyRange;
use tokio::sync::oneshot;

use crate::{
    error::Result,
    recipes::{
        claim::Release,
        follow::Follow,
        own_key::{HeldKey, OwnKey},
    },
};

/// The barrier is held by this, until this says that it is not: [`HeldKey`] has what it can.
///
/// # Dropping
///
/// Opens the barrier in the background, and never waits: retried until it is done or the lease is
/// gone. [`release`](Self::release) waits for it.
#[must_use = "the barrier is open when this is dropped"]
pub struct BarrierGuard {
    held: HeldKey,
    /// Ends the watch on the key.
    _watching: oneshot::Sender<()>,
}

impl BarrierGuard {
    pub(super) fn new(held: HeldKey) -> Self {
        let (watching, unwatched) = oneshot::channel();
        held.own().client().spawn(watch(Arc::clone(held.own()), unwatched));
        Self { held, _watching: watching }
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
async fn watch(own: Arc<OwnKey>, unwatched: oneshot::Receiver<()>) {
    let range = KeyRange::key(own.key());
    let mut follow = Follow::after(own.client(), range, own.created());
    let lost = pin!(own.lost());
    let mut over = future::select(unwatched, lost);
    loop {
        let seen = match future::select(pin!(follow.next()), &mut over).await {
            Either::Left((seen, _)) => seen,
            Either::Right(_) => return,
        };
        match seen {
            Ok(seen) => own.handle(&seen),
            Err(error) => {
                tracing::warn!(key = ?own.key(), %error, "a barrier cannot be watched");
                return;
            }
        }
    }
}

impl Deref for BarrierGuard {
    type Target = HeldKey;

    fn deref(&self) -> &HeldKey {
        &self.held
    }
}

impl fmt::Debug for BarrierGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierGuard").field("held", &self.held).finish_non_exhaustive()
    }
}
