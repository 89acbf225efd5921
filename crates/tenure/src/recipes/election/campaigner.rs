//! Stands, leads, and stands again.

use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::{self, Either};
use tenure_core::{Moment, backoff::Comebacks};
use tokio::{runtime::Handle, sync::watch as latest};

use super::{
    Election, Reign, WHAT,
    leading::{LeadState, Told},
    work::{Running, Work},
};
use crate::error::{Error, ErrorKind, LossReason, Result};

/// How long work that was aborted may take to notice.
const ABORT: Duration = Duration::from_secs(1);
/// How long the deadline is not looked at, at most: it may come while the machine sleeps.
const LOOK: Duration = Duration::from_secs(1);

/// Runs where the client does, so that nothing that the work does to its own threads keeps it from
/// stepping down.
pub(super) struct Campaigner<F> {
    pub(super) election: Election,
    pub(super) value: Bytes,
    pub(super) work: Work<F>,
    pub(super) budget: Duration,
    pub(super) once: bool,
    pub(super) runtime: Handle,
    pub(super) stopped: latest::Receiver<bool>,
    pub(super) told: Told,
}

/// Why the work is to end.
enum Cause {
    /// It has.
    Ended,
    /// Renewals are overdue, and it is to be over before the leadership is.
    Overdue,
    Lost(LossReason),
    Asked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the work ended"),
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
    pub(super) async fn run(mut self) {
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
            let mut began = self.now();
            let campaign = self.election.campaign(self.value.clone()).into_future();
            let elected = match future::select(pin!(asked(&mut self.stopped)), campaign).await {
                Either::Left(_) => return Ok(()),
                Either::Right((elected, _)) => elected,
            };
            match elected {
                Ok(leadership) => {
                    began = self.now();
                    let returned = self.reign(Arc::new(Reign::new(leadership))).await?;
                    if *self.stopped.borrow() || (self.once && returned) {
                        return Ok(());
                    }
                }
                Err(error) if self.is_final(&error) => return Err(error),
                Err(error) => tracing::warn!(election = ?self.election, %error, "stands again"),
            }
            if !self.election.session.goes_on() {
                // The next campaign says why.
                continue;
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
        let mut work = self.work.start(&self.runtime, Arc::clone(&reign));
        let cause = self.until_it_must_end(&reign, &mut work).await;
        reign.stop();
        self.told.state(LeadState::Stopping { term });
        self.end_work(&reign, &mut work, &cause).await;
        reign.end();
        if work.has_ended() {
            self.told.ends();
        }
        if !matches!(cause, Cause::Lost(_)) {
            // What etcd refuses is logged there; the lease has the last word.
            let _ = reign.resign().await;
        }
        tracing::info!(%fence, %cause, "leads no longer");
        if !work.has_ended() {
            tracing::error!(
                %fence, "the leader's work runs on; this process stands again when it has ended"
            );
            let asked = pin!(asked(&mut self.stopped));
            if let Either::Left(_) = future::select(pin!(work.ended()), asked).await {
                self.told.ends();
            }
        }
        if work.is_gone() {
            let text = "the runtime that it ran its work on is gone";
            return Err(Error::new(ErrorKind::Closed, WHAT, text));
        }
        Ok(work.has_returned() && matches!(cause, Cause::Ended))
    }

    async fn until_it_must_end(&mut self, reign: &Reign, work: &mut Running) -> Cause {
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
        match future::select(pin!(work.ended()), lost_or_told).await {
            Either::Left(_) => Cause::Ended,
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

    /// Gives the work the time it has to end by itself, and then ends it. It has ended after that,
    /// unless it blocks its thread.
    async fn end_work(&mut self, reign: &Reign, work: &mut Running, cause: &Cause) {
        let client = self.election.session.client();
        // Somebody else may lead already.
        if !matches!(cause, Cause::Lost(_)) {
            let (lost, budget) = (pin!(reign.lost()), pin!(client.sleep(self.budget)));
            let time = future::select(lost, budget);
            if let Either::Left(_) = future::select(pin!(work.ended()), time).await {
                return;
            }
            let fence = reign.fence();
            tracing::warn!(%fence, "the leader's work is aborted: it did not end in time");
        }
        work.abort();
        future::select(pin!(work.ended()), pin!(client.sleep(ABORT))).await;
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

    fn now(&self) -> Moment {
        self.election.session.client().now()
    }
}

/// The place that it ran in may end before it does.
impl<F> Drop for Campaigner<F> {
    fn drop(&mut self) {
        self.told.gone(|| self.election.session.client().gone(WHAT));
    }
}

/// Resolves when it is to end, also if nobody is left who could say so.
async fn asked(stopped: &mut latest::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
