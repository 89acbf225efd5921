//! From asking to holding, and back if nobody wants it any more.

use std::{
    fmt,
    future::{Future, IntoFuture, pending},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    Stream,
    future::{self, Either},
};
use tenure_core::EtcdError;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{Claim, ClaimState, Held, Naming, Place, Progress, Request, Stand, enter::Entered};
use crate::{
    error::{Error, ErrorKind, LossReason, Result},
    recipes::holder,
    session::{Holding, Life, Session},
};

type Reply = oneshot::Sender<Result<Option<Held>>>;

/// Asks for something; see [`Mutex::acquire`](crate::Mutex::acquire). Begins when it is awaited.
#[must_use = "nothing is asked for until it is awaited"]
pub struct Acquire<G> {
    request: Result<Request>,
    make: fn(Option<Held>) -> Result<G>,
}

impl<G> Acquire<G> {
    /// What is held becomes a guard of its kind; nothing is there only if it was tried.
    pub(crate) fn new(request: Result<Request>, make: fn(Option<Held>) -> Result<G>) -> Self {
        Self { request, make }
    }

    /// How long to wait at most. By default until it is ours, or the session is lost.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Ok(request) = &mut self.request {
            request.timeout = Some(timeout);
        }
        self
    }
}

impl<G> Acquire<G> {
    pub(crate) fn timeout_if(self, timeout: Option<Duration>) -> Self {
        match timeout {
            Some(timeout) => self.timeout(timeout),
            None => self,
        }
    }
}

impl<G> IntoFuture for Acquire<G> {
    type Output = Result<G>;
    type IntoFuture = Acquiring<G>;

    fn into_future(self) -> Acquiring<G> {
        let stage = Stage::Asked(self.request.map(Box::new));
        Acquiring { stage, progress: Arc::new(Progress::new()), make: self.make }
    }
}

impl<G> fmt::Debug for Acquire<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").finish_non_exhaustive()
    }
}

/// Something that was asked for, on its way.
///
/// # Dropping
///
/// Gives up: a key that waits is withdrawn in the background, and one that was granted at this
/// very moment is released.
#[must_use = "what is dropped is given up"]
pub struct Acquiring<G> {
    stage: Stage,
    progress: Arc<Progress>,
    make: fn(Option<Held>) -> Result<G>,
}

enum Stage {
    Asked(Result<Box<Request>>),
    Waiting(&'static str, Session, oneshot::Receiver<Result<Option<Held>>>),
    Over,
}

impl<G> Acquiring<G> {
    /// How it stands from now on, until it is given back or lost: also after it was acquired. The
    /// stream is empty where nothing could be asked for.
    pub fn states(&self) -> impl Stream<Item = ClaimState> + Send + Unpin + 'static {
        let client = match &self.stage {
            Stage::Asked(Ok(request)) => Some(request.session.client().clone()),
            Stage::Waiting(_, session, _) => Some(session.client().clone()),
            _ => None,
        };
        let states = client.map(|client| Arc::clone(&self.progress).states(client));
        futures::StreamExt::flatten(futures::stream::iter(states))
    }
}

impl<G> Drop for Acquiring<G> {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Asked(_)) {
            self.progress.released();
        }
    }
}

impl<G> Future for Acquiring<G> {
    type Output = Result<G>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<G>> {
        loop {
            match &mut self.stage {
                Stage::Asked(_) => {
                    let Stage::Asked(request) = std::mem::replace(&mut self.stage, Stage::Over)
                    else {
                        continue;
                    };
                    let request = request?;
                    let (what, session) = (request.what, request.session.clone());
                    let (reply, answer) = oneshot::channel();
                    let span = tracing::debug_span!(
                        "acquire",
                        // There is one key at least.
                        prefix = ?request.stands[0].home,
                        fence = tracing::field::Empty,
                    );
                    let work = request.run(Arc::clone(&self.progress), reply);
                    session.client().spawn(work.instrument(span));
                    self.stage = Stage::Waiting(what, session, answer);
                }
                Stage::Waiting(what, session, answer) => {
                    let answer = std::task::ready!(Pin::new(answer).poll(cx));
                    let answer = answer.unwrap_or_else(|_| Err(session.client().gone(what)));
                    self.stage = Stage::Over;
                    return Poll::Ready(answer.and_then(self.make));
                }
                Stage::Over => return Poll::Pending,
            }
        }
    }
}

impl<G> fmt::Debug for Acquiring<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquiring").finish_non_exhaustive()
    }
}

/// Why nobody waits any more.
enum GivenUp {
    /// Whoever asked is gone.
    Dropped,
    Because(Error),
}

impl Request {
    /// Runs where the client runs, so that whoever asked may be dropped at any moment, or be
    /// blocked.
    async fn run(mut self: Box<Self>, progress: Arc<Progress>, mut reply: Reply) {
        let (first, then) = (self.first.take(), self.then.take());
        let limit = self.limit(&progress);
        let mut limit = pin!(limit);
        let life = {
            let living = pin!(self.session.living(self.what));
            let dropped = pin!(reply.closed());
            let given_up = future::select(dropped, limit.as_mut());
            match future::select(living, given_up).await {
                Either::Left((life, _)) => life,
                Either::Right((Either::Left(_), _)) => return progress.released(),
                Either::Right((Either::Right((error, _)), _)) => Err(error),
            }
        };
        let life = match life {
            Ok(life) => life,
            Err(error) => {
                progress.failed(error.clone());
                // Whoever is gone need not know.
                let _ = reply.send(Err(error));
                return;
            }
        };
        let (claim, inherited) = self.claim(&life, &progress);
        let outcome = {
            let granted = pin!(async {
                if let Some(first) = first {
                    first().await?;
                }
                if self.stands.len() > 1 {
                    self.disown_inherited(&life).await?;
                }
                let is_old = inherited.is_some();
                let value = self.value.clone();
                let value = value.unwrap_or_else(|| holder::record(&self.session).into());
                let entered = match inherited {
                    Some(left) => claim.inherit(&left, self.patience).await?,
                    None => claim.enter(&value, self.patience).await?,
                };
                let Entered::Stands { at_once } = entered else { return Ok(false) };
                if claim.is_in_line() {
                    progress.wait_for_turn(self.what).await?;
                }
                if let Some(then) = then {
                    then(Arc::clone(&claim)).await?;
                }
                if is_old && self.value.is_some() {
                    claim.rewrite(Some(value)).await?;
                } else if (is_old || !at_once) && claim.wants_permits() {
                    // Whoever is behind in a long queue waits for this.
                    claim.rewrite(None).await?;
                }
                Ok(true)
            });
            let lost = pin!(life.lost());
            let dropped = pin!(reply.closed());
            let dropped_or_lost = future::select(dropped, lost);
            let given_up = future::select(dropped_or_lost, limit);
            match future::select(granted, given_up).await {
                Either::Left((granted, _)) => granted.map_err(GivenUp::Because),
                Either::Right((Either::Left((Either::Left(_), _)), _)) => Err(GivenUp::Dropped),
                Either::Right((Either::Left((Either::Right((reason, _)), _)), _)) => {
                    Err(GivenUp::Because(Error::lost(self.what, reason)))
                }
                Either::Right((Either::Right((error, _)), _)) => Err(GivenUp::Because(error)),
            }
        };
        // What it says of the session holds from now on; the grant may be older.
        let outcome = match outcome {
            Ok(true) => claim.hold().map(|()| true).map_err(GivenUp::Because),
            other => other,
        };
        match outcome {
            Ok(true) => {
                // Whoever is gone has it released here.
                let _ = reply.send(Ok(Some(Held::new(claim))));
            }
            Ok(false) => {
                let _ = reply.send(Ok(None));
                claim.withdraw();
            }
            Err(given_up) => {
                if let GivenUp::Because(mut error) = given_up {
                    if error.etcd_error() == Some(EtcdError::LeaseNotFound) {
                        life.end(LossReason::Revoked);
                        error = Error::lost(self.what, LossReason::Revoked);
                    }
                    progress.failed(error.clone());
                    let _ = reply.send(Err(error));
                }
                claim.withdraw();
            }
        }
    }

    /// The keys to put, or the ones that are there already for us.
    fn claim(
        &self,
        life: &Arc<Life>,
        progress: &Arc<Progress>,
    ) -> (Arc<Claim>, Option<crate::session::Inherited>) {
        let inherited = match &self.stands[..] {
            [stand] if stand.naming == Naming::TakenOver => life.claim_inherited(&stand.home),
            _ => None,
        };
        let (nonce, keys) = match &inherited {
            Some(left) => (None, vec![left.key.clone()]),
            None => {
                let nonce = life.nonce();
                let keys = self.stands.iter().map(|stand| stand.key(life.lease, nonce));
                (Some(nonce), keys.collect())
            }
        };
        let place = |(key, stand): (Bytes, &Stand)| {
            let mark = self.value.clone().filter(|_| stand.naming == Naming::Shared);
            Place::new(key, mark, stand)
        };
        let places = keys.into_iter().zip(&self.stands).map(place);
        let claim = Claim::new(
            self.what,
            self.session.clone(),
            Arc::clone(life),
            nonce,
            places.collect(),
            Arc::clone(&self.errand),
            Arc::clone(progress),
        );
        if let Some(left) = &inherited {
            // Given up before it has the place, it is deleted all the same.
            claim.is_created(left.created, left.modified);
        }
        (claim, inherited)
    }

    /// Gives up what an earlier process of the session left in these queues: several locks are
    /// taken at once or not at all, so its places are of no use, and would be in the way.
    async fn disown_inherited(&self, life: &Life) -> Result<()> {
        for stand in &self.stands {
            while let Some(left) = life.oldest_inherited(&stand.home) {
                self.session.delete_inherited(life, &left).await?;
            }
        }
        Ok(())
    }

    /// Ends when the caller has no time left, with the error to tell.
    async fn limit(&self, progress: &Progress) -> Error {
        let Some(timeout) = self.timeout else { return pending().await };
        let client = self.session.client();
        client.sleep(timeout).await;
        let ahead = match progress.state(client.now()) {
            ClaimState::Waiting { ahead: Some(ahead) } => format!("; {ahead} ahead"),
            _ => String::new(),
        };
        Error::new(ErrorKind::Timeout, self.what, format!("not acquired within {timeout:?}{ahead}"))
    }
}

impl Claim {
    /// Whether a queue has to tell that it is its turn.
    fn is_in_line(&self) -> bool {
        self.behind.load(Ordering::Acquire) > 0
    }

    /// It is ours as of now, if it still is.
    fn hold(&self) -> Result<()> {
        let lost = |reason| Error::lost(self.what, reason);
        if let Some(reason) = self.loss() {
            return Err(lost(reason));
        }
        if !self.progress.held(self.fence()) {
            return Err(lost(self.loss().unwrap_or(LossReason::KeyDeleted)));
        }
        let fence = self.fence();
        tracing::Span::current().record("fence", tracing::field::display(&fence));
        tracing::debug!(%fence, "{} acquired", self.what);
        Ok(())
    }

    /// Takes the keys out of etcd, in the background.
    pub(super) fn withdraw(self: &Arc<Self>) {
        if self.is_left_over() {
            self.session().give_back(&self.life, Arc::clone(self) as Arc<dyn Holding>);
        }
    }
}
