use std::{fmt, ops::Deref};

use tenure_core::Fence;

use crate::{
    error::Result,
    recipes::claim::{Held, Release},
};

/// Permits are ours, until this says that they are not: [`Held`] has what all guards can.
///
/// # Dropping
///
/// Releases them in the background, and never waits.
#[must_use = "the permits are released when this is dropped"]
pub struct Permits {
    held: Held,
}

impl Permits {
    pub(super) fn new(held: Held) -> Self {
        Self { held }
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.held.claim().permits()
    }

    /// What proves the hold. Those who hold together have different ones; that one is higher does
    /// not mean that the lower is over.
    pub fn fence(&self) -> Fence {
        self.held.claim().fence()
    }

    /// Releases them, and waits until etcd says so. Cancel safe: dropped, it goes on in the
    /// background.
    ///
    /// # Errors
    ///
    /// Those of [`MutexGuard::release`](crate::MutexGuard::release).
    pub async fn release(self) -> Result<Release> {
        self.held.release().await
    }
}

impl Deref for Permits {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, fence) = (self.count(), self.fence());
        f.debug_struct("Permits").field("count", &count).field("fence", &fence).finish()
    }
}
