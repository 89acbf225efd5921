use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tonic::Status;

use crate::refusal;

/// What is done to all streams of answers.
#[derive(Debug)]
pub(crate) struct Streams(watch::Sender<Treatment>);

#[derive(Clone, Copy, Debug, Default)]
struct Treatment {
    silent: bool,
    /// How often all were cut.
    cuts: u64,
}

impl Default for Streams {
    fn default() -> Self {
        Self(watch::Sender::new(Treatment::default()))
    }
}

impl Streams {
    pub(crate) fn silence(&self, silent: bool) {
        self.0.send_modify(|treatment| treatment.silent = silent);
    }

    pub(crate) fn cut(&self) {
        self.0.send_modify(|treatment| treatment.cuts += 1);
    }

    /// A stream's body, which suffers what all do.
    pub(crate) fn expose(&self, body: tonic::body::Body) -> tonic::body::Body {
        let receiver = self.0.subscribe();
        let treatment = *receiver.borrow();
        let changes = stream::unfold(receiver, |mut receiver| async move {
            receiver.changed().await.ok()?;
            let treatment = *receiver.borrow_and_update();
            Some((treatment, receiver))
        });
        let changes = changes.fuse().boxed();
        tonic::body::Body::new(Exposed {
            body,
            begun: treatment.cuts,
            cut: false,
            treatment,
            changes,
        })
    }
}

struct Exposed {
    body: tonic::body::Body,
    treatment: Treatment,
    /// The cuts there were before it began.
    begun: u64,
    /// It was cut, and has said so.
    cut: bool,
    changes: Pin<Box<dyn Stream<Item = Treatment> + Send>>,
}

impl Exposed {
    /// A status, once; and then no more.
    fn last_words(&mut self) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if std::mem::replace(&mut self.cut, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::new();
        let status: Status = refusal::STOPPED.into();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl Body for Exposed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while let Poll::Ready(Some(treatment)) = self.changes.as_mut().poll_next(context) {
            self.treatment = treatment;
        }
        if self.treatment.cuts > self.begun {
            return self.last_words();
        }
        if self.treatment.silent {
            return Poll::Pending;
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
