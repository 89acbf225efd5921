use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{Stream, future, stream};
use tenure_core::{Fence, Moment};
use tokio::sync::Notify;

use crate::{
    client::{Client, LeaseState},
    error::{Error, LossReason},
    session::Life,
};

/// How it stands with something that a session asked for: a lock, for one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimState {
    /// Others are first.
    Waiting {
        /// How many, as far as is known.
        ahead: Option<usize>,
    },
    /// It is ours.
    Held {
        /// What proves it, of a claim for several names the first.
        fence: Fence,
    },
    /// It is ours, but the session's renewal is overdue: get ready to stop.
    Jeopardy {
        /// When it will be lost, on the client's clock.
        until: Moment,
    },
    /// It is ours no longer. Final.
    Lost {
        /// Why.
        reason: LossReason,
    },
    /// It was given back, or given up. Final.
    Released,
}

impl ClaimState {
    fn is_final(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Released)
    }
}

/// What is known of one claim, shared by those who wait and those who know.
pub(crate) struct Progress {
    stage: Mutex<Stage>,
    changed: Notify,
    /// A key of it is gone; why will be known in a moment.
    doubted: AtomicBool,
    observed: AtomicBool,
    /// The life of the session that it hangs on, once it does.
    life: OnceLock<Arc<Life>>,
}

#[derive(Clone, Debug)]
enum Stage {
    Waiting { ahead: Option<usize> },
    Turn,
    Failed(Error),
    Held(Fence),
    Lost(LossReason),
    Released,
}

impl Stage {
    fn may_become(&self, next: &Self) -> bool {
        let ends = matches!(next, Self::Lost(_) | Self::Released);
        match self {
            Self::Waiting { .. } => true,
            Self::Turn => ends || matches!(next, Self::Held(_)),
            Self::Held(_) | Self::Failed(_) => ends,
            Self::Lost(_) | Self::Released => false,
        }
    }
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            stage: Mutex::new(Stage::Waiting { ahead: None }),
            changed: Notify::new(),
            doubted: AtomicBool::new(false),
            observed: AtomicBool::new(false),
            life: OnceLock::new(),
        }
    }

    pub(super) fn hangs_on(&self, life: &Arc<Life>) {
        // A claim hangs on one life for good.
        let _ = self.life.set(Arc::clone(life));
    }

    /// Whether anybody wants to know how many are ahead.
    pub(super) fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        // Nothing in here can panic while it is held.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on, if that is possible from where it is; what is final stays.
    fn advance(&self, next: Stage) -> bool {
        {
            let mut stage = self.lock();
            if !stage.may_become(&next) {
                return false;
            }
            *stage = next;
        }
        self.changed.notify_waiters();
        true
    }

    pub(super) fn ahead(&self, count: usize) {
        self.advance(Stage::Waiting { ahead: Some(count) });
    }

    pub(super) fn turn(&self) {
        self.advance(Stage::Turn);
    }

    pub(super) fn failed(&self, error: Error) {
        self.advance(Stage::Failed(error));
    }

    pub(super) fn held(&self, fence: Fence) -> bool {
        self.advance(Stage::Held(fence))
    }

    /// Whether this is news.
    pub(super) fn lost(&self, reason: LossReason) -> bool {
        self.advance(Stage::Lost(reason))
    }

    pub(super) fn released(&self) {
        self.advance(Stage::Released);
    }

    pub(super) fn is_released(&self) -> bool {
        matches!(*self.lock(), Stage::Released)
    }

    /// It is not held from now on, for a reason still to be told. Whether this is news.
    pub(super) fn doubt(&self) -> bool {
        !self.doubted.swap(true, Ordering::AcqRel)
    }

    /// The likely reason why it is not held, while the true one is being asked for.
    pub(super) fn doubt_of(&self) -> Option<LossReason> {
        self.doubted.load(Ordering::Acquire).then_some(LossReason::KeyDeleted)
    }

    /// Why it is over for itself, whatever the session says.
    pub(super) fn final_loss(&self) -> Option<LossReason> {
        match *self.lock() {
            Stage::Lost(reason) => Some(reason),
            Stage::Released => Some(LossReason::Closed),
            _ => None,
        }
    }

    /// Waits for the turn, or for the reason why it never comes.
    pub(super) async fn wait_for_turn(&self, what: &'static str) -> Result<(), Error> {
        loop {
            let changed = self.changed.notified();
            match &*self.lock() {
                Stage::Waiting { .. } => {}
                Stage::Turn | Stage::Held(_) => return Ok(()),
                Stage::Failed(error) => return Err(error.clone()),
                Stage::Lost(reason) => return Err(Error::lost(what, *reason)),
                Stage::Released => return Err(Error::lost(what, LossReason::Closed)),
            }
            changed.await;
        }
    }

    /// Waits until it is over for itself.
    pub(super) async fn ended(&self) -> LossReason {
        loop {
            let changed = self.changed.notified();
            if let Some(reason) = self.final_loss() {
                return reason;
            }
            changed.await;
        }
    }

    pub(crate) fn state(&self, now: Moment) -> ClaimState {
        let stage = self.lock().clone();
        let lease = self.life.get().map(|life| life.state(now));
        match (stage, lease) {
            (Stage::Lost(reason), _) => ClaimState::Lost { reason },
            (Stage::Released, _) => ClaimState::Released,
            (Stage::Failed(error), _) => {
                let reason = error.loss_reason().unwrap_or(LossReason::Failed);
                ClaimState::Lost { reason }
            }
            (_, Some(LeaseState::Lost { reason })) => ClaimState::Lost { reason },
            (Stage::Waiting { ahead }, _) => ClaimState::Waiting { ahead },
            (Stage::Turn, _) => ClaimState::Waiting { ahead: Some(0) },
            (Stage::Held(_), Some(LeaseState::Jeopardy { until })) => {
                ClaimState::Jeopardy { until }
            }
            (Stage::Held(fence), _) => ClaimState::Held { fence },
        }
    }

    /// The present state, then each change, the last of which is final.
    pub(crate) fn states(
        self: Arc<Self>,
        client: Client,
    ) -> impl Stream<Item = ClaimState> + Send + Unpin + 'static {
        self.observed.store(true, Ordering::Relaxed);
        Box::pin(stream::unfold((self, client, None), |(progress, client, seen)| async move {
            if seen.as_ref().is_some_and(ClaimState::is_final) {
                return None;
            }
            let state = progress.changed_from(&client, seen.as_ref()).await;
            Some((state.clone(), (progress, client, Some(state))))
        }))
    }

    async fn changed_from(&self, client: &Client, seen: Option<&ClaimState>) -> ClaimState {
        loop {
            let changed = pin!(self.changed.notified());
            let lease = self.life.get().map(|life| (life, life.state(client.now())));
            let state = self.state(client.now());
            if Some(&state) != seen {
                return state;
            }
            match lease {
                Some((life, lease)) => {
                    future::select(changed, pin!(life.changed_from(Some(lease)))).await;
                }
                None => changed.await,
            }
        }
    }
}
