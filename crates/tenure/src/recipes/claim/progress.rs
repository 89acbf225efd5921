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

use super::stage::{ClaimState, Stage};
use crate::{
    client::Client,
    error::{Error, LossReason},
    session::Life,
};

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

    pub(crate) fn hangs_on(&self, life: &Arc<Life>) {
        // A claim hangs on one life for good.
        let _ = self.life.set(Arc::clone(life));
    }

    /// Whether anybody wants to know how many are ahead.
    pub(crate) fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        // Nothing in here can panic while it is held.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on, if that is possible from where it is; what is final stays.
    fn advance(&self, next: Stage) -> bool {
        let moved = self.lock().advance(next);
        if moved {
            self.changed.notify_waiters();
        }
        moved
    }

    pub(crate) fn ahead(&self, count: usize) {
        self.advance(Stage::Waiting { ahead: Some(count) });
    }

    pub(crate) fn turn(&self) {
        self.advance(Stage::Turn);
    }

    pub(crate) fn failed(&self, error: Error) {
        self.advance(Stage::Failed(error));
    }

    pub(crate) fn held(&self, fence: Fence) -> bool {
        self.advance(Stage::Held(fence))
    }

    /// Whether this is news.
    pub(crate) fn lost(&self, reason: LossReason) -> bool {
        self.advance(Stage::Lost(reason))
    }

    pub(crate) fn released(&self) {
        self.advance(Stage::Released);
    }

    /// It is not held from now on, for a reason still to be told. Whether this is news.
    pub(crate) fn doubt(&self) -> bool {
        !self.doubted.swap(true, Ordering::AcqRel)
    }

    /// The likely reason why it is not held, while the true one is being asked for.
    pub(crate) fn doubt_of(&self) -> Option<LossReason> {
        self.doubted.load(Ordering::Acquire).then_some(LossReason::KeyDeleted)
    }

    /// Why it is over for itself, whatever the session says.
    pub(crate) fn final_loss(&self) -> Option<LossReason> {
        self.lock().loss()
    }

    /// Waits for the turn, or for the reason why it never comes.
    pub(crate) async fn wait_for_turn(&self, what: &'static str) -> Result<(), Error> {
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
    pub(crate) async fn ended(&self) -> LossReason {
        loop {
            let changed = self.changed.notified();
            if let Some(reason) = self.final_loss() {
                return reason;
            }
            changed.await;
        }
    }

    pub(crate) fn state(&self, now: Moment) -> ClaimState {
        let lease = self.life.get().map(|life| life.state(now));
        match self.lock().state(lease) {
            // Not held any more, for a reason that is being asked for.
            ClaimState::Held { .. } if self.doubt_of().is_some() => {
                ClaimState::Jeopardy { until: Moment::default() }
            }
            state => state,
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
