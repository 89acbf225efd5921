use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, stream};
use tenure_core::Revision;
use tokio::sync::watch as latest;

use super::{Reign, WHAT};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    recipes::claim::ClaimState,
};

/// How it stands with work that is to run while leading.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LeadState {
    /// It waits to be elected, or rests before it stands again.
    Waiting,
    /// The work runs.
    Leading {
        /// In this term.
        term: Revision,
    },
    /// The work was told to end.
    Stopping {
        /// The term that it ran in.
        term: Revision,
    },
    /// It does not stand any more. Final.
    Ended {
        /// Why, unless it was asked to end.
        error: Option<Error>,
    },
}

/// What is known of it, by all who want to know.
#[derive(Clone)]
pub(super) struct Told(Arc<Inner>);

struct Inner {
    state: latest::Sender<LeadState>,
    /// While the work runs, be it too long.
    reign: Mutex<Option<Arc<Reign>>>,
}

impl Told {
    pub(super) fn new() -> Self {
        let (state, _) = latest::channel(LeadState::Waiting);
        Self(Arc::new(Inner { state, reign: Mutex::default() }))
    }

    pub(super) fn state(&self, state: LeadState) {
        self.0.state.send_replace(state);
    }

    /// It ended, and could not say so.
    pub(super) fn gone(&self, why: impl FnOnce() -> Error) {
        self.0.state.send_if_modified(|state| {
            let ended = matches!(state, LeadState::Ended { .. });
            if !ended {
                *state = LeadState::Ended { error: Some(why()) };
            }
            !ended
        });
    }

    pub(super) fn begins(&self, reign: &Arc<Reign>) {
        *self.lock() = Some(Arc::clone(reign));
        self.state(LeadState::Leading { term: reign.term() });
    }

    pub(super) fn ends(&self) {
        *self.lock() = None;
    }

    fn reign(&self) -> Option<Arc<Reign>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Reign>>> {
        // Nothing in here can panic while it is held.
        self.0.reign.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that runs while its process leads; from [`Lead::start`](super::Lead::start).
///
/// # Dropping
///
/// Stops it in the background, as [`stop`](Self::stop) does, and never waits.
#[must_use = "dropping this stops the work"]
pub struct Leading {
    client: Client,
    stop: latest::Sender<bool>,
    told: Told,
}

impl Leading {
    pub(super) fn new(client: Client, stop: latest::Sender<bool>, told: Told) -> Self {
        Self { client, stop, told }
    }

    /// Whether this process leads now, as far as a clock can tell. No I/O.
    pub fn is_leader(&self) -> bool {
        self.reign().is_some_and(|reign| reign.is_leader())
    }

    /// The present leadership, if there is one.
    pub fn reign(&self) -> Option<Arc<Reign>> {
        self.told.reign().filter(|reign| reign.is_leader())
    }

    /// How it stands now.
    pub fn state(&self) -> LeadState {
        self.told.0.state.borrow().clone()
    }

    /// How it stands from now on: the present state first, then each change, the last of which is
    /// [`Ended`](LeadState::Ended). A state that is over before it is looked at may be left out.
    pub fn states(&self) -> impl Stream<Item = LeadState> + Send + Unpin + use<> {
        let seen = self.told.0.state.subscribe();
        Box::pin(stream::unfold((seen, true, false), |(mut seen, first, over)| async move {
            if over || (!first && seen.changed().await.is_err()) {
                return None;
            }
            let state = seen.borrow_and_update().clone();
            let over = matches!(state, LeadState::Ended { .. });
            Some((state, (seen, false, over)))
        }))
    }

    /// A probe for whoever asks whether this process is well.
    pub fn health(&self) -> Health {
        Health { client: self.client.clone(), told: self.told.clone() }
    }

    /// Waits until it does not stand any more. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why, unless it was asked to end: the session is lost and does not re-enter, the client was
    /// closed, or etcd refuses the user.
    pub async fn ended(&self) -> Result<()> {
        let mut state = self.told.0.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, LeadState::Ended { .. })).await;
        match ended.as_deref() {
            Ok(LeadState::Ended { error: Some(error) }) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(self.client.gone(WHAT)),
        }
    }

    /// Ends the work in order, resigns, and waits for both: the next candidate leads at once, and
    /// not before this work has ended, unless it takes longer than it may. Work that blocks its
    /// thread cannot be ended, and is waited for no longer than
    /// [`stop_within`](super::Lead::stop_within) and a second.
    ///
    /// Cancel safe: it goes on in the background.
    ///
    /// # Errors
    ///
    /// Those of [`ended`](Self::ended), if it had ended before.
    pub async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        self.ended().await
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl fmt::Debug for Leading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leading").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Whether a process that leads is fit to: for a liveness probe.
#[derive(Clone)]
pub struct Health {
    client: Client,
    told: Told,
}

impl Health {
    /// Fails while this process leads and its renewals are overdue, and when the work goes on
    /// though the leadership is over. Who does not lead is well. No I/O.
    ///
    /// # Errors
    ///
    /// `Unavailable`, with what is wrong.
    pub fn check(&self) -> Result<()> {
        let Some(reign) = self.told.reign() else { return Ok(()) };
        let now = self.client.now();
        let unwell = |text: String| Err(Error::new(ErrorKind::Unavailable, WHAT, text));
        match reign.state() {
            _ if !reign.is_leader() => unwell("it is over, and its work has not ended".to_owned()),
            ClaimState::Jeopardy { until } => {
                unwell(format!("renewals are overdue; it is lost in {:?}", until.since(now)))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("check", &self.check()).finish_non_exhaustive()
    }
}
