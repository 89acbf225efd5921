//! From asking to being in, and back if nobody wants it any more.

use std::{
    fmt,
    future::{Future, IntoFuture, pending},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    Stream,
    future::{self, BoxFuture, Either},
};
use tenure_core::EtcdError;
use tokio::sync::oneshot;

use super::{Membership, Place, WHAT, late, room::Room};
use crate::{
    error::{Error, LossReason, Result},
    recipes::{
        claim::{ClaimState, Progress},
        own_key::{HeldKey, OwnKey, Spec},
    },
    session::{Life, Session},
};

/// Enters a [`DoubleBarrier`](super::DoubleBarrier). Begins when it is awaited.
#[must_use = "nobody enters until it is awaited"]
pub struct Enter {
    session: Session,
    place: Result<Place>,
    timeout: Option<Duration>,
}

impl Enter {
    pub(super) fn new(session: &Session, place: Result<Place>) -> Self {
        Self { session: session.clone(), place, timeout: None }
    }

    /// How long to wait for the others at most. By default until all are there, or the session is
    /// lost.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for Enter {
    type Output = Result<Membership>;
    type IntoFuture = Entering;

    fn into_future(self) -> Entering {
        let asked = Asked { progress: Arc::new(Progress::new()), taken: false };
        let (session, progress) = (self.session.clone(), Arc::clone(&asked.progress));
        let work = async move {
            let Self { session, place, timeout } = self;
            let place = place?;
            let client = session.client().clone();
            let (reply, answer) = oneshot::channel();
            let request = Request { session, place, timeout, progress: asked.take() };
            client.spawn(request.run(reply));
            answer.await.unwrap_or_else(|_| Err(client.gone(WHAT)))
        };
        Entering { session, progress, work: Box::pin(work) }
    }
}

impl fmt::Debug for Enter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enter").finish_non_exhaustive()
    }
}

/// A member on its way in.
///
/// # Dropping
///
/// Gives up: its key is withdrawn in the background, also if it got in at this very moment.
#[must_use = "what is dropped is given up"]
pub struct Entering {
    session: Session,
    progress: Arc<Progress>,
    work: BoxFuture<'static, Result<Membership>>,
}

impl Entering {
    /// How it stands from now on, until it has left or is lost: also after it got in. While it
    /// waits, `ahead` is how many are still to come.
    pub fn states(&self) -> impl Stream<Item = ClaimState> + Send + Unpin + 'static {
        Arc::clone(&self.progress).states(self.session.client().clone())
    }
}

impl Future for Entering {
    type Output = Result<Membership>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.work.as_mut().poll(cx)
    }
}

impl fmt::Debug for Entering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entering").finish_non_exhaustive()
    }
}

/// What was asked for and is dropped before it began is over, for those who hear of its states.
struct Asked {
    progress: Arc<Progress>,
    taken: bool,
}

impl Asked {
    fn take(mut self) -> Arc<Progress> {
        self.taken = true;
        Arc::clone(&self.progress)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.taken {
            self.progress.released();
        }
    }
}

/// Why nobody waits any more.
enum GivenUp {
    /// Whoever asked is gone.
    Dropped,
    Because(Error),
}

struct Request {
    session: Session,
    place: Place,
    timeout: Option<Duration>,
    progress: Arc<Progress>,
}

type Reply = oneshot::Sender<Result<Membership>>;

impl Request {
    /// Runs where the client runs, so that whoever asked may be dropped at any moment, or be
    /// blocked.
    async fn run(self, mut reply: Reply) {
        let outcome = {
            let entered = pin!(self.enter());
            let (dropped, late) = (pin!(reply.closed()), pin!(self.limit()));
            match future::select(entered, future::select(dropped, late)).await {
                Either::Left((entered, _)) => entered.map_err(GivenUp::Because),
                Either::Right((Either::Left(_), _)) => Err(GivenUp::Dropped),
                Either::Right((Either::Right((error, _)), _)) => Err(GivenUp::Because(error)),
            }
        };
        match outcome {
            Ok(membership) => {
                // Whoever is gone has it leave here.
                let _ = reply.send(Ok(membership));
            }
            Err(GivenUp::Dropped) => self.progress.released(),
            Err(GivenUp::Because(error)) => {
                self.progress.failed(error.clone());
                let _ = reply.send(Err(error));
            }
        }
    }

    async fn enter(&self) -> Result<Membership> {
        let life = self.session.living(WHAT).await?;
        let nonce = life.nonce();
        let member = self.place.member(life.lease, nonce);
        let (with_it, with_last) = (self.place.mark(&member), Some(self.place.with_last()));
        let spec = Spec { what: WHAT, key: member.key, nonce: Some(nonce), with_it, with_last };
        // Dropped here, the key is withdrawn.
        let held = HeldKey::new(OwnKey::new(&self.session, &life, spec, self.progress.clone()));
        let room = {
            let entered = pin!(Room::enter(held.own(), self.place.clone()));
            match future::select(entered, pin!(held.own().lost())).await {
                Either::Left((entered, _)) => entered,
                Either::Right((reason, _)) => Err(Error::lost(WHAT, reason)),
            }
        };
        let room = room.map_err(|error| of_lease(&life, error))?;
        // What it says of the session holds from now on; the round may have begun earlier.
        held.own().hold()?;
        Ok(Membership::new(held, room))
    }

    /// Ends when the caller has no time left, with the error to tell.
    async fn limit(&self) -> Error {
        let Some(timeout) = self.timeout else { return pending().await };
        let client = self.session.client();
        client.sleep(timeout).await;
        let missing = match self.progress.state(client.now()) {
            ClaimState::Waiting { ahead: Some(missing) } => format!("{missing} did not come"),
            _ => "not entered".to_owned(),
        };
        late(timeout, &missing)
    }
}

/// An error that says that the lease is gone is the loss of the session.
fn of_lease(life: &Life, error: Error) -> Error {
    if error.etcd_error() != Some(EtcdError::LeaseNotFound) {
        return error;
    }
    life.end(LossReason::Revoked);
    Error::lost(WHAT, LossReason::Revoked)
}
