use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::USER_AGENT};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::body::Body;

use super::channel::Sender;

/// What tonic cannot bear: it panics when this header is not base64. etcd never sends it, but a
/// proxy may, and nothing here reads it.
static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// A connection that keeps the details of a status from tonic.
pub(crate) struct Tolerant(pub(super) Sender);

impl tower_service::Service<Request<Body>> for Tolerant {
    type Response = Response<Undetailed>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, hyper::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let name = HeaderValue::from_static(concat!("tenure/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, name);
        let answer = self.0.send_request(request);
        Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().remove(&DETAILS);
            Ok(response.map(Undetailed))
        })
    }
}

/// A body whose trailers carry no details.
pub(crate) struct Undetailed(Incoming);

impl HttpBody for Undetailed {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            HeaderMap::remove(trailers, &DETAILS);
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
