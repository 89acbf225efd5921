use std::{fmt, ops::Deref, sync::Arc};

use bytes::Bytes;
use tenure_core::{Fence, Revision};

use super::WHAT;
use crate::{
    error::{Error, Result},
    ops::IntoValue,
    recipes::{
        Contender,
        claim::{Held, Release},
    },
};

/// We lead, until this says that we do not: [`Held`] has what all guards can.
///
/// # Dropping
///
/// Resigns in the background, and never waits: retried until it is done or the lease is gone.
/// [`resign`](Self::resign) waits for it.
#[must_use = "who drops this resigns"]
pub struct Leadership {
    held: Held,
}

impl Leadership {
    pub(super) fn new(held: Held) -> Self {
        Self { held }
    }

    /// The number of this term: higher than that of any leader before. It is the revision at which
    /// the candidate came.
    pub fn term(&self) -> Revision {
        self.fence().create_revision
    }

    /// What proves it. Give it to resources outside etcd, and let them refuse older ones, with a
    /// [`FenceGate`](crate::FenceGate).
    pub fn fence(&self) -> Fence {
        self.held.claim().fence()
    }

    /// The leader's key in etcd.
    pub fn key(&self) -> Bytes {
        self.fence().key
    }

    /// Whether we lead now, as far as a clock can tell. No I/O.
    pub fn is_leader(&self) -> bool {
        self.held.is_held()
    }

    /// Changes the value that all can read; answers with the revision at which it did.
    ///
    /// Cancel safe: dropped, it goes on in the background.
    ///
    /// # Errors
    ///
    /// `Lost` if we do not lead any more; `InvalidInput` for a value that cannot be written, and
    /// what etcd refuses.
    pub async fn proclaim(&self, value: impl IntoValue) -> Result<Revision> {
        self.proclaiming(value.into_value()?).await
    }

    /// The same, without holding on to it.
    pub(super) fn proclaiming(
        &self,
        value: Bytes,
    ) -> impl Future<Output = Result<Revision>> + use<> {
        let claim = Arc::clone(self.held.claim());
        async move { claim.rewrite(Some(value)).await }
    }

    /// Gives the leadership up, and waits until etcd says so: the next candidate leads at once.
    ///
    /// Cancel safe: dropped, it goes on in the background.
    ///
    /// # Errors
    ///
    /// Those of [`MutexGuard::release`](crate::MutexGuard::release).
    pub async fn resign(self) -> Result<Release> {
        self.held.release().await
    }

    pub(super) async fn give_up(&self) -> Result<Release> {
        self.held.claim().release().await
    }

    /// Resigns in favour of the candidate who is next in line, but only if that one is still
    /// there at this very moment: nobody else can come in between, and no gap is left by a
    /// candidate that is gone.
    ///
    /// The order of a queue is for all who read it the same, Go's clients included, so no other
    /// candidate can be chosen.
    ///
    /// Dropping the future resigns.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if this candidate is not next, or is gone; `Lost` if we do not lead any more,
    /// and what etcd refuses. The leadership comes back with the error while it is ours.
    pub async fn transfer(self, to: &Contender) -> Result<(), TransferError> {
        match self.held.claim().leave_to(to).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let error = Error::invalid(WHAT, "this candidate is not the next in line");
                Err(TransferError { error, leadership: Some(Box::new(self)) })
            }
            Err(error) => {
                let leadership = self.is_leader().then(|| Box::new(self));
                Err(TransferError { error, leadership })
            }
        }
    }
}

/// Why a leadership was not [transferred](Leadership::transfer).
#[derive(Debug)]
pub struct TransferError {
    /// What was wrong.
    pub error: Error,
    /// The leadership, if it is still ours.
    pub leadership: Option<Box<Leadership>>,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Deref for Leadership {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership").field("fence", &self.fence()).finish_non_exhaustive()
    }
}
