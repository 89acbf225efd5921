use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tenure_core::Moment;
use tokio::sync::Notify;

use super::LeaseState;
use crate::error::LossReason;

/// How one lease stands, written by the Lease actor and read by whoever holds the lease.
#[derive(Debug)]
pub(crate) struct LeaseCell {
    /// In nanoseconds of the client's clock; 0 while nothing is known, and after the loss.
    deadline: AtomicU64,
    state: Mutex<(LeaseState, Duration)>,
    changed: Notify,
}

impl LeaseCell {
    pub(crate) fn new() -> Self {
        Self {
            deadline: AtomicU64::new(0),
            state: Mutex::new((LeaseState::Connecting, Duration::ZERO)),
            changed: Notify::new(),
        }
    }

    pub(crate) fn deadline(&self) -> Moment {
        Moment::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    /// The state as it is at `now`: a deadline that passed counts even if nobody was awake to
    /// say so.
    pub(crate) fn state(&self, now: Moment) -> LeaseState {
        let state = self.lock().0;
        let over = matches!(state, LeaseState::Healthy | LeaseState::Jeopardy { .. })
            && now >= self.deadline();
        if over { LeaseState::Lost { reason: LossReason::Expired } } else { state }
    }

    /// The TTL that the server gave; zero while nothing is known.
    pub(crate) fn ttl(&self) -> Duration {
        self.lock().1
    }

    pub(crate) fn renewed(&self, deadline: Moment, ttl: Duration) {
        self.set(LeaseState::Healthy, Some((deadline, ttl)));
    }

    pub(crate) fn endangered(&self, until: Moment) {
        self.set(LeaseState::Jeopardy { until }, None);
    }

    /// Lost is final: nothing that is set later counts.
    pub(crate) fn lost(&self, reason: LossReason) {
        self.set(LeaseState::Lost { reason }, Some((Moment::default(), Duration::ZERO)));
    }

    fn set(&self, state: LeaseState, terms: Option<(Moment, Duration)>) {
        {
            let mut held = self.lock();
            if matches!(held.0, LeaseState::Lost { .. }) {
                return;
            }
            if let Some((deadline, ttl)) = terms {
                self.deadline.store(deadline.as_nanos(), Ordering::Release);
                held.1 = ttl;
            }
            if std::mem::replace(&mut held.0, state) == state {
                return;
            }
        }
        self.changed.notify_waiters();
    }

    /// Waits until the state is another than `seen`, and answers with it.
    ///
    /// A loss that only the clock shows is told by the Lease actor, which wakes for it.
    pub(crate) async fn changed_from(&self, seen: Option<LeaseState>) -> LeaseState {
        loop {
            let changed = self.changed.notified();
            let state = self.lock().0;
            if Some(state) != seen {
                return state;
            }
            changed.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (LeaseState, Duration)> {
        // Nothing in here can panic while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
