//! Work that runs while its process leads, and at no other time.

use std::{
    any::Any,
    fmt,
    future::{Future, IntoFuture},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::{self, BoxFuture, Either};
use tenure_core::backoff::Comebacks;
use tokio::{runtime::Handle, sync::watch as latest, task::JoinHandle};

use super::{
    Election, Reign, WHAT,
    leading::{LeadState, Leading, Told},
};
use crate::{
    error::{Error, ErrorKind, LossReason, Result},
    ops::IntoValue,
};

/// How long work that was aborted may take to notice.
const ABORT: Duration = Duration::from_secs(1);
/// How long the deadline is not looked at, at most: it may come while the machine sleeps.
const LOOK: Duration = Duration::from_secs(1);

/// Work to be run while leading; made by [`Election::lead`].
#[must_use = "nobody stands in the election until it is started or awaited"]
pub struct Lead<F> {
    pub(super) election: Election,
    pub(super) value: Result<Bytes>,
    pub(super) work: F,
    pub(super) budget: Duration,
    pub(super) once: bool,
}

impl<F, W> Lead<F>
where
    F: FnMut(Arc<Reign>) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    /// What the candidate says of itself; nothing by default.
    pub fn value(mut self, value: impl IntoValue) -> Self {
        self.value = value.into_value();
        self
    }

    pub(super) fn value_or(mut self, value: Result<Bytes>) -> Self {
        self.value = value;
        self
    }

    /// How long the work may take to end, 5 s by default. So long, but no longer than a third of
    /// the session's TTL, before the leadership would be lost for want of renewals it is told to.
    pub fn stop_within(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Ends after the work has returned once, in place of standing again.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Stands in the election from now on, and runs the work whenever it leads, on the runtime
    /// this is called on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` outside a tokio runtime, for a bad name, or for a value that cannot be
    /// written.
    pub fn start(self) -> Result<Leading> {
        let runtime = Handle::try_current()
            .map_err(|_| Error::invalid(WHAT, "work is led inside a tokio runtime"))?;
        let value = self.value?;
        self.election.queue.as_ref().map_err(Error::clone)?;
        let client = self.election.session.client().clone();
        let (stop, stopped) = latest::channel(false);
        let told = Told::new();
        let leading = Leading::new(client.clone(), stop, told.clone());
        let campaigner = Campaigner {
            election: self.election,
            value,
            work: self.work,
            budget: self.budget,
            once: self.once,
            runtime,
            stopped,
            told,
        };
        client.spawn(campaigner.run());
        Ok(leading)
    }
}

/// Starts it, and waits until it ends. Dropping the future stops it in the background.
impl<F, W> IntoFuture for Lead<F>
where
    F: FnMut(Arc<Reign>) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        let started = self.start();
        Box::pin(async move { started?.ended().await })
    }
}

impl<F> fmt::Debug for Lead<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").field("election", &self.election).finish_non_exhaustive()
    }
}

/// Stands, leads, and stands again. It runs where the client does, so that nothing that the work
/// does to its own threads keeps it from stepping down.
struct Campaigner<F> {
    election: Election,
    value: Bytes,
    work: F,
    budget: Duration,
    once: bool,
    runtime: Handle,
    stopped: latest::Receiver<bool>,
    told: Told,
}

/// Why the work is to end.
enum Cause {
    /// It has.
    Returned,
    /// Renewals are overdue, and it is to be over before the leadership is.
    Overdue,
    Lost(LossReason),
    Asked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned => f.write_str("the work ended"),
            Self::Overdue => f.write_str("renewals are overdue"),
            Self::Lost(reason) => reason.fmt(f),
            Self::Asked => f.write_str("it was asked to stop"),
        }
    }
}

impl<F, W> Campaigner<F>
where
    F: FnMut(Arc<Reign>) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    async fn run(mut self) {
        let end = self.campaigns().await;
        if let Err(error) = &end {
            tracing::warn!(election = ?self.election, %error, "does not stand any more");
        }
        self.told.state(LeadState::Ended { error: end.err() });
    }

    async fn campaigns(&mut self) -> Result<()> {
        let mut comebacks = Comebacks::default();
        loop {
            self.told.state(LeadState::Waiting);
            let campaign = self.election.campaign(self.value.clone()).into_future();
            let elected = match future::select(pin!(asked(&mut self.stopped)), campaign).await {
                Either::Left(_) => return Ok(()),
                Either::Right((elected, _)) => elected,
            };
            let began = self.now();
            match elected {
                Ok(leadership) => {
                    let returned = self.reign(Arc::new(Reign::new(leadership))).await?;
                    if *self.stopped.borrow() || (self.once && returned) {
                        return Ok(());
                    }
                }
                Err(error) if self.is_final(&error) => return Err(error),
                Err(error) => tracing::warn!(election = ?self.election, %error, "stands again"),
            }
            let pause = comebacks.pause(self.now().since(began));
            let rest = self.election.session.client().sleep(pause);
            if let Either::Left(_) =
                future::select(pin!(asked(&mut self.stopped)), pin!(rest)).await
            {
                return Ok(());
            }
        }
    }

    /// Leads with the work running; true if that returned by itself.
    async fn reign(&mut self, reign: Arc<Reign>) -> Result<bool> {
        let (fence, term) = (reign.fence(), reign.term());
        tracing::info!(%fence, "leading");
        self.told.begins(&reign);
        let work = {
            let (work, reign) = (&mut self.work, Arc::clone(&reign));
            // The closure is the user's, too.
            catch_unwind(AssertUnwindSafe(|| work(reign)))
        };
        let mut work = match work {
            Ok(work) => Some(self.runtime.spawn(work)),
            Err(panic) => {
                tracing::error!(%fence, panic = text_of(&*panic), "the leader's work panicked");
                None
            }
        };
        let cause = self.until_it_must_end(&reign, &mut work).await;
        reign.stop();
        self.told.state(LeadState::Stopping { term });
        self.end_work(&reign, &mut work, &cause).await;
        reign.end();
        if !matches!(cause, Cause::Lost(_)) {
            // What etcd refuses is logged there; the lease has the last word.
            let _ = reign.resign().await;
        }
        tracing::info!(%fence, %cause, "leads no longer");
        if let Some(work) = work {
            tracing::error!(%fence, "the leader's work runs on; this process stands again when it has ended");
            let _ = work.await;
        }
        self.told.ends();
        Ok(matches!(cause, Cause::Returned))
    }

    async fn until_it_must_end(
        &mut self,
        reign: &Reign,
        work: &mut Option<JoinHandle<()>>,
    ) -> Cause {
        let session = self.election.session.clone();
        let budget = self.budget.min(session.ttl() / 3);
        let overdue = async {
            loop {
                let left = reign.deadline().since(session.client().now());
                let Some(rest) = left.checked_sub(budget).filter(|rest| !rest.is_zero()) else {
                    return;
                };
                session.client().sleep(rest.min(LOOK)).await;
            }
        };
        let (overdue, asked) = (pin!(overdue), pin!(asked(&mut self.stopped)));
        let lost = pin!(reign.lost());
        let lost_or_told = future::select(lost, future::select(overdue, asked));
        match future::select(pin!(ended(work, reign)), lost_or_told).await {
            Either::Left(_) => Cause::Returned,
            Either::Right((Either::Left((reason, _)), _)) => Cause::Lost(reason),
            Either::Right((Either::Right((Either::Right(_), _)), _)) => Cause::Asked,
            Either::Right((Either::Right((Either::Left(_), _)), _)) => {
                if reign.is_leader() {
                    Cause::Overdue
                } else {
                    Cause::Lost(reign.lost().await)
                }
            }
        }
    }

    /// Gives the work the time it has to end by itself, and then ends it. `work` is empty after
    /// that, unless it blocks its thread.
    async fn end_work(&mut self, reign: &Reign, work: &mut Option<JoinHandle<()>>, cause: &Cause) {
        let client = self.election.session.client();
        // Somebody else may lead already.
        if !matches!(cause, Cause::Lost(_)) {
            let (lost, budget) = (pin!(reign.lost()), pin!(client.sleep(self.budget)));
            let time = future::select(lost, budget);
            if let Either::Left(_) = future::select(pin!(ended(work, reign)), pin!(time)).await {
                return;
            }
            tracing::warn!(fence = %reign.fence(), "the leader's work is aborted: it did not end in time");
        }
        if let Some(work) = work {
            work.abort();
        }
        let time = pin!(client.sleep(ABORT));
        let _ = future::select(pin!(ended(work, reign)), time).await;
    }

    /// Whether standing again would be of no use.
    fn is_final(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::Closed
            | ErrorKind::InvalidInput
            | ErrorKind::PermissionDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::Internal => true,
            ErrorKind::Lost => !self.election.session.goes_on(),
            _ => false,
        }
    }

    fn now(&self) -> tenure_core::Moment {
        self.election.session.client().now()
    }
}

/// Resolves when it is to end, also if nobody is left who could say so.
async fn asked(stopped: &mut latest::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Waits until the work has ended, and takes it away.
async fn ended(work: &mut Option<JoinHandle<()>>, reign: &Reign) {
    if let Some(running) = work {
        if let Err(error) = running.await
            && let Ok(panic) = error.try_into_panic()
        {
            tracing::error!(fence = %reign.fence(), panic = text_of(&*panic), "the leader's work panicked");
        }
        *work = None;
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of unknown text")
}
