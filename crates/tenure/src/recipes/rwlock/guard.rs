use std::{fmt, ops::Deref};

use tenure_core::Fence;

use crate::{
    error::{Error, Result},
    recipes::claim::{Held, Release},
};

/// No writer is inside, until this says otherwise: [`Held`] has what all guards can.
///
/// # Dropping
///
/// Releases the lock in the background, and never waits.
#[must_use = "the lock is released when this is dropped"]
pub struct ReadGuard {
    held: Held,
}

impl ReadGuard {
    pub(super) fn new(held: Held) -> Self {
        Self { held }
    }

    /// What proves the hold. Readers who are inside together have different ones.
    pub fn fence(&self) -> Fence {
        self.held.claim().fence()
    }

    /// Releases the lock, and waits until etcd says so. Cancel safe: dropped, it goes on in the
    /// background.
    ///
    /// # Errors
    ///
    /// Those of [`MutexGuard::release`](crate::MutexGuard::release).
    pub async fn release(self) -> Result<Release> {
        self.held.release().await
    }

    /// Always refused: of two readers that waited to become writers, each would wait for the other
    /// to leave. Release this, ask for [`write`](crate::RwLock::write), and look again at what was
    /// read, since others may write in between.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with that reason. The guard stays as it is.
    pub fn upgrade(&self) -> Result<WriteGuard> {
        Err(Error::invalid(
            "read lock",
            "a reader cannot become a writer: two of them would wait for each other for ever; \
             release it and ask for the write lock",
        ))
    }
}

/// Nobody else is inside, until this says otherwise: [`Held`] has what all guards can.
///
/// # Dropping
///
/// Releases the lock in the background, and never waits.
#[must_use = "the lock is released when this is dropped"]
pub struct WriteGuard {
    held: Held,
}

impl WriteGuard {
    pub(super) fn new(held: Held) -> Self {
        Self { held }
    }

    /// What proves the hold: higher than that of anybody who was inside before.
    pub fn fence(&self) -> Fence {
        self.held.claim().fence()
    }

    /// Releases the lock, and waits until etcd says so. Cancel safe: dropped, it goes on in the
    /// background.
    ///
    /// # Errors
    ///
    /// Those of [`MutexGuard::release`](crate::MutexGuard::release).
    pub async fn release(self) -> Result<Release> {
        self.held.release().await
    }

    /// Becomes a reader, and lets in the readers that wait next. No writer comes in between: the
    /// place in the queue stays. The fence stays, too.
    ///
    /// Cancel safe: dropped, the lock is released.
    ///
    /// # Errors
    ///
    /// `Lost` if the lock is lost, and what etcd refuses; the lock is released then.
    pub async fn downgrade(self) -> Result<ReadGuard> {
        // Of a writer's keys the first is the reader's.
        self.held.claim().give_up_place(1).await?;
        Ok(ReadGuard { held: self.held })
    }
}

impl Deref for ReadGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl Deref for WriteGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl fmt::Debug for ReadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGuard").field(&self.fence()).finish()
    }
}

impl fmt::Debug for WriteGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteGuard").field(&self.fence()).finish()
    }
}
