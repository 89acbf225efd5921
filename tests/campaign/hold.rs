//! What a worker says of what it holds by a lease: a lock, a leadership, permits, an item.

use std::{convert::Infallible, time::Duration};

use serde::{Deserialize, Serialize};
use tenure::{Fence, Held, Release, Result, Revision};
use tokio::time::sleep;

use crate::journal::{self, Moment, Written, broken, failed, now, say, say_at};

/// How often a holder says that it believes to be one.
const OFTEN: Duration = Duration::from_millis(20);

/// Something that happens to a hold, which is known by the creation of its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    #[serde(with = "Written")]
    pub(crate) hold: Revision,
    pub(crate) what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    /// It was granted, a little before this time.
    Granted {
        /// How much it takes of what there is.
        weight: u64,
    },
    /// The worker still believes in it, at this time and a little later; until then at the most, as
    /// far as it knew.
    Held { deadline: u64 },
    /// It believes no longer.
    Lost { reason: String },
    /// It gives it back: waits for that, or leaves it to the background.
    GivesBack { waits: bool },
    /// etcd has it back.
    Released,
    /// It was no longer held then.
    AlreadyLost { reason: String },
}

impl Event {
    pub(crate) fn moment(&self) -> Option<Moment> {
        matches!(self.what, What::Granted { .. }).then_some(Moment::Granted)
    }
}

fn tell(hold: Revision, what: What) {
    say(journal::Event::Hold(Event { hold, what }));
}

pub(crate) fn granted(fence: &Fence, weight: u64) {
    tell(fence.create_revision, What::Granted { weight });
}

pub(crate) fn lost(hold: Revision, reason: String) {
    tell(hold, What::Lost { reason });
}

/// Says whether it is held at this time, and until when. The clock is read first, so that what is
/// said is not more than what was, though the process be stopped in between.
pub(crate) fn belief(hold: Revision, held: &Held) -> (u64, bool) {
    let (at, deadline) = (now(), held.deadline().as_nanos());
    let believes = held.is_held();
    if believes {
        say_at(at, journal::Event::Hold(Event { hold, what: What::Held { deadline } }));
    }
    (at, believes)
}

/// Says again and again what the worker believes, while it does its work.
pub(crate) async fn while_held<T>(hold: Revision, held: &Held, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = beliefs(hold, held) => match never {},
    }
}

async fn beliefs(hold: Revision, held: &Held) -> Infallible {
    let mut gone = false;
    loop {
        match belief(hold, held) {
            (_, true) if gone => broken("held again after it was lost"),
            (_, false) if !gone => {
                gone = true;
                lost(hold, format!("{:?}", held.lost().await));
            }
            _ => {}
        }
        sleep(OFTEN).await;
    }
}

/// Leaves it to the background.
pub(crate) fn drop_it(hold: Revision, guard: impl Sized) {
    tell(hold, What::GivesBack { waits: false });
    drop(guard);
}

/// Gives it back, and waits for that. Nothing is done before it is said.
pub(crate) async fn release(
    hold: Revision,
    release: impl Future<Output = Result<Release>>,
) -> Option<Release> {
    tell(hold, What::GivesBack { waits: true });
    match release.await {
        Ok(released) => {
            tell(
                hold,
                match released {
                    Release::Released => What::Released,
                    Release::AlreadyLost(reason) => {
                        What::AlreadyLost { reason: format!("{reason:?}") }
                    }
                },
            );
            Some(released)
        }
        Err(error) => {
            failed("release", &error);
            None
        }
    }
}
