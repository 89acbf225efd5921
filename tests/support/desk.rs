//! Work for leaders, and how it is watched. It wants `support/start.rs` as `start`.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::pending;
use tenure::{Election, LeadState, Leading, Reign, Session};
use tokio::{sync::mpsc, time::timeout};

use crate::start::SOON;

pub(crate) fn scheduler(session: &Session) -> Election {
    Election::new(session, "scheduler")
}

/// A place for one, and word of whoever takes it.
#[derive(Clone)]
pub(crate) struct Desk {
    taken: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    told: mpsc::UnboundedSender<Arc<Reign>>,
}

pub(crate) struct Seat(Arc<AtomicUsize>);

impl Desk {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Arc<Reign>>) {
        let (told, begun) = mpsc::unbounded_channel();
        (Self { taken: Arc::default(), most: Arc::default(), told }, begun)
    }

    /// The work begins; it ends, however that is, when the seat is dropped.
    pub(crate) fn sit(&self, reign: &Arc<Reign>) -> Seat {
        self.most.fetch_max(self.taken.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // The test may have heard enough.
        let _ = self.told.send(Arc::clone(reign));
        Seat(Arc::clone(&self.taken))
    }

    pub(crate) fn is_free(&self) -> bool {
        assert!(self.most.load(Ordering::SeqCst) <= 1, "two worked at once");
        self.taken.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Work that ends when it is told to.
pub(crate) fn obedient(election: &Election, desk: &Desk) -> Leading {
    let desk = desk.clone();
    let work = move |reign: Arc<Reign>| {
        let desk = desk.clone();
        async move {
            let _seat = desk.sit(&reign);
            reign.stopping().await;
        }
    };
    election.lead(work).value("obedient").start().unwrap()
}

/// Work that never ends by itself.
pub(crate) fn stubborn(election: &Election, desk: &Desk, budget: Duration) -> Leading {
    let desk = desk.clone();
    let work = move |reign: Arc<Reign>| {
        let desk = desk.clone();
        async move {
            let _seat = desk.sit(&reign);
            pending().await
        }
    };
    election.lead(work).stop_within(budget).start().unwrap()
}

pub(crate) async fn begins(begun: &mut mpsc::UnboundedReceiver<Arc<Reign>>) -> Arc<Reign> {
    timeout(SOON, begun.recv()).await.expect("it begins").expect("it goes on")
}

pub(crate) async fn ends(leading: &Leading) -> tenure::Result<()> {
    timeout(SOON, leading.ended()).await.expect("it ends")
}

pub(crate) fn names(state: &LeadState) -> &'static str {
    match state {
        LeadState::Waiting => "waiting",
        LeadState::Leading { .. } => "leading",
        LeadState::Stopping { .. } => "stopping",
        LeadState::Ended { error: None } => "ended",
        _ => "failed",
    }
}
