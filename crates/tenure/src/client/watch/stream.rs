use std::{
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    Stream,
    future::{self, Either},
    stream::FusedStream,
};
use tenure_core::{
    EtcdError, Event, Revision,
    watch::{End, Item, State, Weight},
};

use tokio::sync::oneshot;

use super::{
    WatchCalls, WatchRequest,
    actor::{Consumed, Subscribe, Unsubscribe, WhyNot},
    queue::{Intake, queue},
};
use crate::error::{Error, ErrorKind, Result};

/// How long the actor has to say what is wrong.
const HURRY: Duration = Duration::from_secs(1);

/// Something a watch has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchResponse {
    /// The server has accepted the watch, at this revision of the store. Only if asked for by
    /// [`created_notify`](WatchRequest::created_notify), and once.
    Created {
        /// The store's revision then.
        revision: Revision,
    },
    /// Keys changed.
    Events {
        /// What happened, in order: never empty, and all there is of each revision.
        events: Vec<Event>,
        /// The last revision in it: to go on from here, start at the next one.
        revision: Revision,
    },
    /// Everything up to this revision was told. Only if asked for: by
    /// [`progress_notify`](WatchRequest::progress_notify), or by anybody of the client's through
    /// [`request_progress`](crate::Client::request_progress).
    ///
    /// On request, servers before 3.4.25 and 3.5.8 say so before it is true.
    Progress {
        /// That revision.
        revision: Revision,
    },
    /// The watch is off the server; it will be resumed where it stopped. Only if asked for by
    /// [`interruptions`](WatchRequest::interruptions).
    Interrupted,
    /// The watch is on a server again. Only if asked for.
    Resumed,
}

impl WatchResponse {
    /// The events in it; none unless it is about events.
    pub fn events(&self) -> &[Event] {
        match self {
            Self::Events { events, .. } => events,
            _ => &[],
        }
    }

    /// The events in it; none unless it is about events.
    pub fn into_events(self) -> Vec<Event> {
        match self {
            Self::Events { events, .. } => events,
            _ => Vec::new(),
        }
    }
}

/// Where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchState {
    /// No server has accepted it yet.
    Connecting,
    /// Events come as they happen.
    Live,
    /// It was live; another server is being asked to go on with it.
    Resuming,
    /// Too much lies unread; it goes on once half of that was read.
    Paused,
    /// It is over.
    Ended,
}

/// The changes of some keys, in order, each exactly once.
///
/// Survives lost connections and members: it is resumed where it stopped. It ends with exactly one
/// error that says why, and then with `None`: [`ErrorKind::Compacted`] when events it had still
/// to see are gone (read anew, watch from there), [`ErrorKind::PermissionDenied`] and
/// [`ErrorKind::Refused`] when the server does not accept it, [`ErrorKind::WatchCanceled`] when
/// the server gives it up, [`ErrorKind::Closed`] with the client.
///
/// # Dropping
///
/// Cancels the watch at the server.
#[must_use = "a watch that is dropped is cancelled"]
pub struct WatchStream {
    calls: Arc<WatchCalls>,
    id: u64,
    intake: Intake,
    created: Option<Revision>,
    /// Taken, and not yet told to the registry.
    consumed: Weight,
    report_at: Weight,
    created_notify: bool,
    /// What came before anybody looked, while the server's acceptance was awaited.
    ahead: Option<WatchResponse>,
    timeout: Duration,
    /// Bad input, told as the first item of a watch that was never started.
    refused: Option<Error>,
    ended: bool,
}

impl WatchStream {
    /// Subscribes, unless the request asks for what cannot be.
    pub(super) fn start(calls: Arc<WatchCalls>, request: WatchRequest) -> Self {
        let id = calls.next_id();
        let (feed, intake) = queue();
        let limit = request.limit();
        let stream = Self {
            id,
            intake,
            created: None,
            consumed: Weight::ZERO,
            report_at: Weight { events: limit.events / 4, bytes: limit.bytes / 4 },
            created_notify: request.created_notify,
            ahead: None,
            timeout: request.timeout.unwrap_or(calls.transport.shared.config.read_timeout),
            refused: request.check().err(),
            ended: false,
            calls,
        };
        if stream.refused.is_none() {
            stream.calls.actor.do_send(Subscribe { id, request, feed });
        }
        stream
    }

    /// Waits until a server has accepted the watch, and answers with the store's revision then;
    /// at once if one already has. Cancel safe.
    ///
    /// # Errors
    ///
    /// What would be the end of the stream; when nobody accepts it for as long as
    /// [`WatchRequest::timeout`] says, what the last attempt ended with, or [`ErrorKind::Timeout`].
    /// After that the watch still goes on trying.
    pub async fn accepted(&mut self) -> Result<Revision> {
        let timer = self.calls.transport.sleep(self.timeout);
        let accepted = pin!(future::poll_fn(|cx| self.poll_accepted(cx)));
        match future::select(accepted, pin!(timer)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(self.why_not().await),
        }
    }

    /// What kept servers from accepting it.
    async fn why_not(&self) -> Error {
        let (reply, trouble) = oneshot::channel();
        self.calls.actor.do_send(WhyNot { id: self.id, reply });
        let known = self.calls.transport.within(HURRY, trouble).await;
        known.and_then(Result::ok).flatten().unwrap_or_else(|| {
            Error::new(ErrorKind::Timeout, "watch", "no server has accepted it in time")
        })
    }

    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<Revision>> {
        loop {
            if let Some(revision) = self.created {
                return Poll::Ready(Ok(revision));
            }
            match std::task::ready!(self.poll_item(cx)) {
                // Nothing comes before the acceptance but interruptions.
                Some(Ok(response)) => {
                    if matches!(response, WatchResponse::Created { .. }) {
                        self.ahead = Some(response);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(self.calls.transport.gone("watch"))),
            }
        }
    }

    /// The store's revision when a server first accepted the watch, once one has.
    pub fn created_revision(&self) -> Option<Revision> {
        self.created
    }

    /// Where the watch stands.
    pub fn state(&self) -> WatchState {
        match self.intake.state() {
            _ if self.ended => WatchState::Ended,
            None => WatchState::Ended,
            Some(State::Connecting) => WatchState::Connecting,
            Some(State::Live) => WatchState::Live,
            Some(State::Resuming) => WatchState::Resuming,
            Some(State::Paused) => WatchState::Paused,
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WatchResponse>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Some(Err(self.end(error))));
        }
        let item = match self.intake.poll(cx) {
            Poll::Ready(Some(item)) => item,
            Poll::Ready(None) => {
                let error = self.calls.transport.gone("watch");
                return Poll::Ready(Some(Err(self.end(error))));
            }
            Poll::Pending => {
                self.drained();
                return Poll::Pending;
            }
        };
        self.consume(item.weight());
        let response = match item {
            Item::Created { revision } => {
                self.created = Some(revision);
                WatchResponse::Created { revision }
            }
            Item::Events { events, revision } => WatchResponse::Events { events, revision },
            Item::Progress { revision } => WatchResponse::Progress { revision },
            Item::Interrupted => WatchResponse::Interrupted,
            Item::Resumed => WatchResponse::Resumed,
            Item::Refused { reason } => {
                let error = ended(End::Refused { reason });
                return Poll::Ready(Some(Err(self.end(error))));
            }
            Item::End(end) => {
                let error = ended(end);
                return Poll::Ready(Some(Err(self.end(error))));
            }
        };
        Poll::Ready(Some(Ok(response)))
    }

    fn end(&mut self, error: Error) -> Error {
        self.ended = true;
        error
    }

    /// Tells the registry from time to time only: each message costs more than an event.
    fn consume(&mut self, weight: Weight) {
        self.consumed = self.consumed + weight;
        let due = self.consumed.events > self.report_at.events
            || self.consumed.bytes > self.report_at.bytes;
        if due {
            self.report();
        }
    }

    /// Nothing more is queued. A paused watch goes on only once the registry knows that: what did
    /// not fit may need all the room there is.
    fn drained(&mut self) {
        if self.consumed != Weight::ZERO && self.intake.state() == Some(State::Paused) {
            self.report();
        }
    }

    fn report(&mut self) {
        let weight = std::mem::take(&mut self.consumed);
        self.calls.actor.do_send(Consumed { id: self.id, weight });
    }
}

fn ended(end: End) -> Error {
    match end {
        End::Compacted { revision } => Error::compacted("watch", revision),
        End::Refused { reason } => match EtcdError::from_text(&reason) {
            Some(error) => Error::etcd("watch", error),
            None => Error::new(ErrorKind::Refused, "watch", reason),
        },
        End::Canceled { reason } if reason.is_empty() => {
            Error::new(ErrorKind::WatchCanceled, "watch", "the server ended it without a reason")
        }
        End::Canceled { reason } => Error::new(ErrorKind::WatchCanceled, "watch", reason.clone())
            .etcd_says(EtcdError::from_text(&reason)),
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchResponse>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let response = match self.ahead.take() {
                Some(response) => Some(Ok(response)),
                None => std::task::ready!(self.poll_item(cx)),
            };
            if matches!(response, Some(Ok(WatchResponse::Created { .. }))) && !self.created_notify {
                continue;
            }
            return Poll::Ready(response);
        }
    }
}

impl FusedStream for WatchStream {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.calls.actor.do_send(Unsubscribe(self.id));
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream").field("state", &self.state()).finish_non_exhaustive()
    }
}
