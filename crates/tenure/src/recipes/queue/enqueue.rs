//! Putting items in, and waiting for room.

use std::{
    fmt,
    future::{IntoFuture, pending},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use futures::future::{self, BoxFuture, Either};
use tenure_core::backoff::Outage;
use tokio::sync::oneshot;

use super::{
    append::Draft,
    news::{News, Subject},
    work::Work,
};
use crate::{
    error::{Error, ErrorKind, LossReason, Result},
    recipes::claim::Held,
};

/// What it is called in errors.
const ENQUEUE: &str = "enqueue";

/// Puts an item into a queue; see [`Queue::enqueue`](crate::Queue::enqueue). Begins when it is
/// awaited, and answers with the item's key.
#[must_use = "nothing is put before it is awaited"]
pub struct Enqueue {
    work: Result<Work>,
    item: Result<Draft>,
    timeout: Option<Duration>,
}

impl Enqueue {
    pub(super) fn new(work: Result<Work>, priority: u16, value: Result<Bytes>) -> Self {
        let item = value.map(|value| Draft { priority, failures: 0, value });
        Self { work, item, timeout: None }
    }

    /// How long to wait for room in a queue that is bounded, [`Timeout`](ErrorKind::Timeout) after
    /// that. By default it is [`Full`](ErrorKind::Full) at once.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for Enqueue {
    type Output = Result<Bytes>;
    type IntoFuture = BoxFuture<'static, Result<Bytes>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (work, item) = (self.work?, self.item?);
            let client = work.client().clone();
            let (reply, answer) = oneshot::channel();
            client.spawn(run(work, item, self.timeout, reply));
            answer.await.unwrap_or_else(|_| Err(client.gone(ENQUEUE)))
        })
    }
}

impl fmt::Debug for Enqueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enqueue").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Runs where the client runs, so that what was sent is seen to its end.
async fn run(
    work: Work,
    item: Draft,
    timeout: Option<Duration>,
    mut reply: oneshot::Sender<Result<Bytes>>,
) {
    let limit = async {
        match timeout {
            Some(timeout) => work.client().sleep(timeout).await,
            None => pending().await,
        }
    };
    let mut limit = pin!(limit);
    let (mut place, mut outage) = (None, None);
    let late = || Error::new(ErrorKind::Timeout, ENQUEUE, "the item could not be put in time");
    let added = loop {
        // Nothing is sent for anybody who is gone, and while there is no session.
        {
            let living = pin!(work.session().living(ENQUEUE));
            let gone = pin!(reply.closed());
            match future::select(living, future::select(gone, limit.as_mut())).await {
                Either::Left((Ok(_), _)) => {}
                Either::Left((Err(error), _)) => break Err(error),
                Either::Right((Either::Left(_), _)) => return,
                Either::Right((Either::Right(_), _)) => break Err(late()),
            }
        }
        match work.append(ENQUEUE, &item, work.bound).await {
            Ok(Some(key)) => break Ok(key),
            Ok(None) if timeout.is_none() => {
                break Err(Error::new(ErrorKind::Full, ENQUEUE, "the queue has no room"));
            }
            Ok(None) => {}
            // Nothing was put.
            Err(error) if error.is_retryable() => {
                let pause = pin!(work.outlast(error, &mut outage));
                match future::select(pause, limit.as_mut()).await {
                    Either::Left((Ok(()), _)) => continue,
                    Either::Left((Err(error), _)) => break Err(error),
                    Either::Right(_) => break Err(late()),
                }
            }
            Err(error) => break Err(error),
        }
        let room = pin!(work.wait_for_room(&mut place));
        let gone = pin!(reply.closed());
        match future::select(room, future::select(gone, limit.as_mut())).await {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(error), _)) => break Err(error),
            Either::Right((Either::Left(_), _)) => return,
            Either::Right((Either::Right(_), _)) => {
                let text = "the queue had no room in time";
                break Err(Error::new(ErrorKind::Timeout, ENQUEUE, text));
            }
        }
    };
    // Whoever is gone need not know.
    let _ = reply.send(added);
}

/// The first of those who wait for room, and what it hears.
struct First {
    place: Held,
    news: News,
}

impl Work {
    /// Waits to be the first of those without room, and then until it is worth to try again.
    async fn wait_for_room(&self, first: &mut Option<First>) -> Result<()> {
        let mut outage: Option<Outage> = None;
        loop {
            let waited = async {
                if first.is_none() {
                    let place = self.first_of_the_full().await?;
                    *first = Some(First { place, news: News::of(self, &[Subject::Room]) });
                }
                match first {
                    Some(First { place, news }) => {
                        match future::select(pin!(news.next()), pin!(place.lost())).await {
                            Either::Left((told, _)) => told,
                            Either::Right((reason, _)) => Err(Error::lost(ENQUEUE, reason)),
                        }
                    }
                    None => Ok(()),
                }
            };
            let Err(error) = waited.await else { return Ok(()) };
            *first = None;
            // Not the session: somebody has deleted the place.
            if error.loss_reason() != Some(LossReason::KeyDeleted) {
                self.outlast(error, &mut outage).await?;
            }
        }
    }
}
