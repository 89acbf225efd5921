use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use tenure_core::{Fence, Moment, Revision};
use tokio::sync::watch as latest;

use super::Leadership;
use crate::{
    client::Client,
    error::{Error, LossReason, Result},
    ops::{IntoValue, Txn, Via},
    recipes::claim::{ClaimState, Release},
};

/// A leadership, as the work sees it that runs while it lasts; see
/// [`Election::lead`](super::Election::lead).
///
/// It may outlive the leadership: then nobody leads by it, and its writes are refused.
pub struct Reign {
    leadership: Leadership,
    /// The work is over: we lead no longer, whatever the clock says.
    over: AtomicBool,
    stopping: latest::Sender<bool>,
}

impl Reign {
    pub(super) fn new(leadership: Leadership) -> Self {
        let (stopping, _) = latest::channel(false);
        Self { leadership, over: AtomicBool::new(false), stopping }
    }

    /// Whether we lead now, as far as a clock can tell. No I/O.
    pub fn is_leader(&self) -> bool {
        !self.over.load(Ordering::Acquire) && self.leadership.is_leader()
    }

    /// Resolves when the work is to end: let go of what is in hand, and return. Whoever takes
    /// longer than [`stop_within`](super::Lead::stop_within) is aborted. Cancel safe.
    pub async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as this does.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Whether the work is to end.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// The number of this term; see [`Leadership::term`].
    pub fn term(&self) -> Revision {
        self.leadership.term()
    }

    /// What proves the leadership; see [`Leadership::fence`].
    pub fn fence(&self) -> Fence {
        self.leadership.fence()
    }

    /// When the leadership will be lost if no further renewal is answered, on [`Client::clock`].
    pub fn deadline(&self) -> Moment {
        self.leadership.deadline()
    }

    /// The key space, for the leader alone; see [`Held::kv`](crate::Held::kv).
    pub fn kv(&self) -> Client {
        self.leadership.kv()
    }

    /// A transaction that is done only while we lead; see [`Held::txn`](crate::Held::txn).
    pub fn txn(&self) -> Txn<Via> {
        self.leadership.txn()
    }

    /// Changes the value that all can read.
    ///
    /// # Errors
    ///
    /// Those of [`Leadership::proclaim`].
    pub async fn proclaim(&self, value: impl IntoValue) -> Result<Revision> {
        if self.over.load(Ordering::Acquire) {
            return Err(Error::lost(super::WHAT, LossReason::Closed));
        }
        self.leadership.proclaim(value).await
    }

    pub(super) async fn lost(&self) -> LossReason {
        self.leadership.lost().await
    }

    pub(super) fn state(&self) -> ClaimState {
        self.leadership.state()
    }

    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// The work is over: nobody leads by this any more.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(super) async fn resign(&self) -> Result<Release> {
        self.leadership.give_up().await
    }
}

impl fmt::Debug for Reign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reign")
            .field("fence", &self.fence())
            .field("is_leader", &self.is_leader())
            .finish_non_exhaustive()
    }
}
