use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures::{Stream, future::BoxFuture};
use prost::Message;
use tenure_core::{endpoints::Report, retry::Origin};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Transport, codec::Protobuf, link::Link, rpc::Rpc, status};
use crate::{
    error::{Error, Result},
    ops::CallOptions,
};

/// The sending half of a stream to a server.
pub(crate) type Outgoing<Q> = mpsc::Sender<Q>;

/// Requests that wait for the connection to take them.
const OUTGOING: usize = 1024;

/// The receiving half of a stream to a server: answers, and at the end the error that ended it.
///
/// etcd sends no header before its first answer, so a stream cannot be told from an open one
/// until something comes back.
pub(crate) struct Incoming<A> {
    state: State<A>,
    pub(crate) link: Arc<Link>,
    /// The generation of the token it was opened with.
    pub(crate) token: u64,
    what: &'static str,
    transport: Transport,
}

enum State<A> {
    Opening(BoxFuture<'static, Result<Streaming<A>, Status>>),
    Open(Box<Streaming<A>>),
    Ended,
}

impl Transport {
    /// Opens a stream to a healthy endpoint, `avoid` only if there is no other.
    pub(crate) fn open<Q, A>(
        &self,
        rpc: &'static Rpc<Q, A>,
        options: &CallOptions,
        avoid: Option<&Arc<Link>>,
    ) -> Result<(Outgoing<Q>, Incoming<A>)>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let route = self.route();
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let mut tried: Vec<_> = avoid.cloned().into_iter().collect();
        let Some(link) = route.pick(turn, &mut tried) else {
            return Err(Error::new(
                crate::error::ErrorKind::Unavailable,
                rpc.name,
                "there is no endpoint",
            ));
        };
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        let request = self.dress(
            tonic::Request::new(ReceiverStream::new(requests)),
            route.token.value.as_ref(),
            options,
        );
        let (to, config) = (Arc::clone(&link), Arc::clone(&self.shared.config));
        let opening = Box::pin(async move {
            let mut grpc = to.grpc(&config).await?;
            let answer = grpc.streaming(request, rpc.path(), Protobuf::default()).await?;
            Ok(answer.into_inner())
        });
        let incoming = Incoming {
            state: State::Opening(opening),
            link,
            token: route.token.generation,
            what: rpc.name,
            transport: self.clone(),
        };
        Ok((outgoing, incoming))
    }
}

impl<A> Incoming<A> {
    fn fail(&mut self, status: Status) -> Error {
        self.state = State::Ended;
        let origin = status::origin(&status);
        match origin {
            Origin::Server => {}
            Origin::Garbled => self.transport.report(&self.link, Report::Garbled),
            Origin::NotSent | Origin::Connection => {
                self.transport.report(&self.link, Report::Failed);
            }
        }
        let verdict = tenure_core::retry::classify(true, status::failure(&status, origin));
        status::error(self.what, status, origin, verdict, true, &self.link)
    }
}

impl<A> Stream for Incoming<A> {
    type Item = Result<A>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<A>>> {
        loop {
            match &mut self.state {
                State::Opening(opening) => match std::task::ready!(opening.as_mut().poll(cx)) {
                    Ok(stream) => self.state = State::Open(Box::new(stream)),
                    Err(status) => return Poll::Ready(Some(Err(self.fail(status)))),
                },
                State::Open(stream) => {
                    return Poll::Ready(match std::task::ready!(Pin::new(stream).poll_next(cx)) {
                        Some(Ok(answer)) => {
                            self.link.answered(self.transport.now());
                            Some(Ok(answer))
                        }
                        Some(Err(status)) => Some(Err(self.fail(status))),
                        None => {
                            let status = Status::unavailable("the server ended the stream");
                            Some(Err(self.fail(status)))
                        }
                    });
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}
