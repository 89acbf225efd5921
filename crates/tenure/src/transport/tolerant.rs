use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{
    body::Body,
    transport::{Channel, channel::ResponseFuture},
};

/// What tonic cannot bear: it panics when this header is not base64. etcd never sends it, but a
/// proxy may, and nothing here reads it.
const DETAILS: &str = "grpc-status-details-bin";

/// A channel that keeps the details of a status from tonic.
#[derive(Clone)]
pub(crate) struct Tolerant(pub(super) Channel);

impl tower_service::Service<Request<Body>> for Tolerant {
    type Response = Response<Undetailed>;
    type Error = tonic::transport::Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        Answer(self.0.call(request))
    }
}

/// An answer on its way.
pub(crate) struct Answer(ResponseFuture);

impl Future for Answer {
    type Output = Result<Response<Undetailed>, tonic::transport::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.0).poll(cx))?;
        response.headers_mut().remove(DETAILS);
        Poll::Ready(Ok(response.map(Undetailed)))
    }
}

/// A body whose trailers carry no details.
pub(crate) struct Undetailed(Body);

impl HttpBody for Undetailed {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            HeaderMap::remove(trailers, DETAILS);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
