//! From asking for an item to having it.

use std::{
    fmt,
    future::{IntoFuture, pending},
    pin::pin,
    time::Duration,
};

use futures::future::{self, BoxFuture, Either};
use tenure_core::backoff::Outage;
use tokio::sync::oneshot;

use super::{
    layout::Found,
    news::{News, Subject},
    work::Work,
};
use crate::{
    error::{Error, ErrorKind, LossReason, Result},
    ops::{Count, Op, OpResponse},
    recipes::claim::Held,
};

/// What it is called in errors.
pub(super) const TAKE: &str = "take";

/// Tries to make an item one's own; none if somebody was faster. Dropped, the item is given back.
pub(super) type TakeOne<T> = fn(Work, Found) -> BoxFuture<'static, Result<Option<T>>>;

type Begin<R> = Box<dyn FnOnce(Option<Duration>) -> BoxFuture<'static, Result<R>> + Send>;

/// Asks a queue for something; see [`Queue::take`](crate::Queue::take). Begins when it is awaited.
#[must_use = "nothing is asked for until it is awaited"]
pub struct Take<R> {
    timeout: Option<Duration>,
    begin: Begin<R>,
}

impl<R: 'static> Take<R> {
    /// How long to wait at most; [`Timeout`](ErrorKind::Timeout) after that.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(super) fn new<T: Send + 'static>(
        work: Result<Work>,
        patience: Patience,
        take_one: TakeOne<T>,
        hand_over: fn(Option<T>) -> Result<R>,
    ) -> Self {
        let begin: Begin<R> = Box::new(move |timeout| {
            Box::pin(async move {
                let work = work?;
                let client = work.client().clone();
                let (reply, answer) = oneshot::channel();
                client.spawn(run(work, patience, take_one, timeout, reply));
                let taken = answer.await.unwrap_or_else(|_| Err(client.gone(TAKE)))?;
                hand_over(taken)
            })
        });
        Self { timeout: None, begin }
    }
}

impl<R> IntoFuture for Take<R> {
    type Output = Result<R>;
    type IntoFuture = BoxFuture<'static, Result<R>>;

    fn into_future(self) -> Self::IntoFuture {
        (self.begin)(self.timeout)
    }
}

impl<R> fmt::Debug for Take<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Take").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Whether to wait for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Wait,
    Try,
}

/// Runs where the client runs, so that whoever asked may be dropped at any moment, or be blocked:
/// others wait behind the first in line.
async fn run<T>(
    work: Work,
    patience: Patience,
    take_one: TakeOne<T>,
    timeout: Option<Duration>,
    mut reply: oneshot::Sender<Result<Option<T>>>,
) {
    let outcome = {
        let taking = pin!(work.take(patience, take_one));
        let limit = pin!(async {
            match timeout {
                Some(timeout) => work.client().sleep(timeout).await,
                None => pending().await,
            }
        });
        let gone = pin!(reply.closed());
        match future::select(taking, future::select(gone, limit)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((Either::Left(_), _)) => return,
            Either::Right((Either::Right(_), _)) => {
                let text = format!(
                    "nothing came within {timeout:?}",
                    timeout = timeout.unwrap_or_default()
                );
                Err(Error::new(ErrorKind::Timeout, TAKE, text))
            }
        }
    };
    // From whoever is gone it is given back.
    let _ = reply.send(outcome);
}

impl Work {
    async fn take<T>(&self, patience: Patience, take_one: TakeOne<T>) -> Result<Option<T>> {
        self.session().living(TAKE).await?;
        loop {
            let found = match (self.look().await, patience) {
                (Ok(Some(found)), _) => found,
                (Ok(None), _) => break,
                // Waiting outlasts it.
                (Err(error), Patience::Wait) if error.is_retryable() => break,
                (Err(error), _) => return Err(error),
            };
            match (take_one(self.clone(), found).await?, patience) {
                (Some(taken), _) => return Ok(Some(taken)),
                // Somebody was faster, so there may be more.
                (None, Patience::Try) => {}
                (None, Patience::Wait) => break,
            }
        }
        match patience {
            Patience::Try => Ok(None),
            Patience::Wait => self.wait_in_line(take_one).await.map(Some),
        }
    }

    /// Waits to be the first of those with nothing to do, and then for an item: one that comes
    /// wakes one of them.
    async fn wait_in_line<T>(&self, take_one: TakeOne<T>) -> Result<T> {
        loop {
            let served = async {
                let place = self.first_of_the_idle().await?;
                self.wait_as_first(&place, take_one).await
            };
            match served.await {
                // Not the session: somebody has deleted the place.
                Err(error) if error.loss_reason() == Some(LossReason::KeyDeleted) => {}
                served => return served,
            }
        }
    }

    async fn wait_as_first<T>(&self, place: &Held, take_one: TakeOne<T>) -> Result<T> {
        let served = pin!(self.wait_for_item(take_one));
        match future::select(served, pin!(place.lost())).await {
            Either::Left((served, _)) => served,
            Either::Right((reason, _)) => Err(Error::lost(TAKE, reason)),
        }
    }

    async fn wait_for_item<T>(&self, take_one: TakeOne<T>) -> Result<T> {
        let mut outage: Option<Outage> = None;
        loop {
            match self.wait_while_watching(take_one, &mut outage).await {
                Ok(taken) => return Ok(taken),
                Err(error) => self.outlast(error, &mut outage).await?,
            }
        }
    }

    async fn wait_while_watching<T>(
        &self,
        take_one: TakeOne<T>,
        outage: &mut Option<Outage>,
    ) -> Result<T> {
        // Others who came before have left more than one, if there is much to do.
        if let Some(taken) = self.take_what_is_there(take_one).await? {
            return Ok(taken);
        }
        let mut news = News::of(self, &[Subject::Items, Subject::Orphans]);
        loop {
            news.next().await?;
            if let Some(taken) = self.take_what_is_there(take_one).await? {
                return Ok(taken);
            }
            *outage = None;
        }
    }

    async fn take_what_is_there<T>(&self, take_one: TakeOne<T>) -> Result<Option<T>> {
        while let Some(found) = self.look().await? {
            if let Some(taken) = take_one(self.clone(), found).await? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// The item to take next, if there is one. Jobs without a worker become items on the way.
    async fn look(&self) -> Result<Option<Found>> {
        loop {
            let layout = self.layout();
            let counts = [layout.runs(), layout.workers()].map(|range| Op::from(Count::new(range)));
            let look = self.client().txn().and_then([layout.first()]).and_then(counts);
            let mut read = look.await?.responses.into_iter().filter_map(OpResponse::into_get);
            let (Some(first), Some(runs), Some(workers)) = (read.next(), read.next(), read.next())
            else {
                return Err(crate::ops::other_kind());
            };
            if runs.count > workers.count && self.rescue().await? {
                continue;
            }
            return Ok(first.into_kv().map(|kv| Found::of(kv, layout)));
        }
    }
}
