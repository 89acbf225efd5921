//! From asking to holding, and back if nobody wants it any more.

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
    future::{self, Either},
};
use tenure_core::{EtcdError, name::claim_key};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{Claim, ClaimState, Held, Progress, WHAT, enter::Patience};
use crate::{
    client::Queue,
    error::{Error, ErrorKind, LossReason, Result},
    recipes::holder,
    session::{Holding, Life, Session},
};

/// What to claim, and how.
pub(crate) struct Request {
    session: Session,
    queues: Vec<Arc<Queue>>,
    patience: Patience,
    timeout: Option<Duration>,
}

type Reply = oneshot::Sender<Result<Option<Held>>>;

/// Asks for something; see [`Mutex::acquire`](crate::Mutex::acquire). Begins when it is awaited.
#[must_use = "nothing is asked for until it is awaited"]
pub struct Acquire<G> {
    request: Result<Request>,
    make: fn(Option<Held>) -> Result<G>,
}

impl<G> Acquire<G> {
    pub(crate) fn waiting(
        session: &Session,
        queues: Result<Vec<Arc<Queue>>>,
        make: fn(Option<Held>) -> Result<G>,
    ) -> Self {
        Self::new(session, queues, Patience::Wait, make)
    }

    pub(crate) fn trying(
        session: &Session,
        queues: Result<Vec<Arc<Queue>>>,
        make: fn(Option<Held>) -> Result<G>,
    ) -> Self {
        Self::new(session, queues, Patience::Try, make)
    }

    fn new(
        session: &Session,
        queues: Result<Vec<Arc<Queue>>>,
        patience: Patience,
        make: fn(Option<Held>) -> Result<G>,
    ) -> Self {
        let session = session.clone();
        let request = queues.map(|queues| Request { session, queues, patience, timeout: None });
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
    Waiting(Session, oneshot::Receiver<Result<Option<Held>>>),
    Over,
}

impl<G> Acquiring<G> {
    /// How it stands from now on, until it is given back or lost: also after it was acquired. The
    /// stream is empty where nothing could be asked for.
    pub fn states(&self) -> impl Stream<Item = ClaimState> + Send + Unpin + 'static {
        let client = match &self.stage {
            Stage::Asked(Ok(request)) => Some(request.session.client().clone()),
            Stage::Waiting(session, _) => Some(session.client().clone()),
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
                    let session = request.session.clone();
                    let (reply, answer) = oneshot::channel();
                    let span = tracing::debug_span!(
                        "acquire",
                        // There is one queue at least.
                        prefix = ?request.queues[0].prefix(),
                        fence = tracing::field::Empty,
                    );
                    let work = request.run(Arc::clone(&self.progress), reply);
                    session.client().spawn(work.instrument(span));
                    self.stage = Stage::Waiting(session, answer);
                }
                Stage::Waiting(session, answer) => {
                    let answer = std::task::ready!(Pin::new(answer).poll(cx));
                    let answer = answer.unwrap_or_else(|_| Err(session.client().gone(WHAT)));
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
    async fn run(self: Box<Self>, progress: Arc<Progress>, mut reply: Reply) {
        let limit = self.limit(&progress);
        let mut limit = pin!(limit);
        let life = {
            let living = pin!(self.session.living(WHAT));
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
                if self.queues.len() > 1 {
                    self.disown_inherited(&life).await?;
                }
                let entered = match inherited {
                    Some(left) => claim.inherit(&left, self.patience).await?,
                    None => claim.enter(&holder::record(&self.session), self.patience).await?,
                };
                if entered {
                    progress.wait_for_turn(WHAT).await?;
                }
                Ok(entered)
            });
            let lost = pin!(life.lost());
            let dropped = pin!(reply.closed());
            let dropped_or_lost = future::select(dropped, lost);
            let given_up = future::select(dropped_or_lost, limit);
            match future::select(granted, given_up).await {
                Either::Left((granted, _)) => granted.map_err(GivenUp::Because),
                Either::Right((Either::Left((Either::Left(_), _)), _)) => Err(GivenUp::Dropped),
                Either::Right((Either::Left((Either::Right((reason, _)), _)), _)) => {
                    Err(GivenUp::Because(Error::lost(WHAT, reason)))
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
                        error = Error::lost(WHAT, LossReason::Revoked);
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
        let inherited = match &self.queues[..] {
            [queue] => life.claim_inherited(queue.prefix()),
            _ => None,
        };
        let (nonce, keys) = match &inherited {
            Some(left) => (None, vec![left.key.clone()]),
            None => {
                let nonce = life.nonce();
                let key = |queue: &Arc<Queue>| claim_key(queue.prefix(), life.lease, nonce);
                (Some(nonce), self.queues.iter().map(|queue| key(queue).into_bytes()).collect())
            }
        };
        let places = keys.into_iter().zip(self.queues.iter().map(Arc::clone));
        let claim = Claim::new(
            self.session.clone(),
            Arc::clone(life),
            nonce,
            places.collect(),
            Arc::clone(progress),
        );
        (claim, inherited)
    }

    /// Gives up what an earlier process of the session left in these queues: several locks are
    /// taken at once or not at all, so its places are of no use, and would be in the way.
    async fn disown_inherited(&self, life: &Life) -> Result<()> {
        for queue in &self.queues {
            while let Some(left) = life.claim_inherited(queue.prefix()) {
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
        Error::new(ErrorKind::Timeout, WHAT, format!("not acquired within {timeout:?}{ahead}"))
    }
}

impl Claim {
    /// It is ours as of now, if it still is.
    fn hold(&self) -> Result<()> {
        let lost = |reason| Error::lost(WHAT, reason);
        if let Some(reason) = self.loss() {
            return Err(lost(reason));
        }
        if !self.progress.held(self.fence()) {
            return Err(lost(self.loss().unwrap_or(LossReason::KeyDeleted)));
        }
        let fence = self.fence();
        tracing::Span::current().record("fence", tracing::field::display(&fence));
        tracing::debug!(%fence, "{WHAT} acquired");
        Ok(())
    }

    /// Takes the keys out of etcd, in the background.
    pub(super) fn withdraw(self: &Arc<Self>) {
        if self.is_left_over() {
            self.session().give_back(&self.life, Arc::clone(self) as Arc<dyn Holding>);
        }
    }
}
