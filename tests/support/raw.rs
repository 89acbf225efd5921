//! gRPC without messages: bytes to a path, and what comes back, be it what no client of ours
//! would send or take.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{error::Error, str::FromStr, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Code, Request,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{AsciiMetadataKey, MetadataMap},
    transport::{Channel, Endpoint},
};

/// How a call ended, if not with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Whether the connection was lost, so that code and text are this side's own.
    pub(crate) broken: bool,
}

/// What a stream had to say within the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Message(Bytes),
    /// With [`Code::Ok`] if nothing went wrong.
    End(Status),
    TimedOut,
}

/// A connection to one server, which is made again when it is lost.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    channel: Channel,
}

/// A stream in both directions, which dropping it cancels.
#[derive(Debug)]
pub(crate) struct RawStream {
    requests: Option<mpsc::UnboundedSender<Bytes>>,
    answers: mpsc::UnboundedReceiver<Result<Bytes, Status>>,
    ended: Option<Status>,
    reader: JoinHandle<()>,
}

impl Raw {
    /// `endpoint` is `http://host:port`.
    pub(crate) async fn connect(endpoint: &str) -> Self {
        let endpoint = Endpoint::from_str(endpoint).expect("an endpoint is a URL");
        let channel = endpoint.connect().await;
        Self { channel: channel.unwrap_or_else(|error| panic!("{:?}", Status::lost(&error))) }
    }

    /// One request and one answer. `path` is `/package.Service/Method`.
    pub(crate) async fn unary(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        metadata: &[(&str, &str)],
    ) -> Result<Bytes, Status> {
        let mut grpc = self.ready().await?;
        let request = request(body.into(), metadata);
        let answer = grpc.unary(request, path_of(path), AsIs).await?;
        Ok(answer.into_inner())
    }

    /// A stream of any kind; one with a single request wants one [`send`](RawStream::send) and
    /// [`half_close`](RawStream::half_close).
    pub(crate) fn open(&self, path: &str, metadata: &[(&str, &str)]) -> RawStream {
        let (requests, queued) = mpsc::unbounded_channel();
        let (taken, answers) = mpsc::unbounded_channel();
        let request = request(UnboundedReceiverStream::new(queued), metadata);
        let (raw, path) = (self.clone(), path_of(path));
        // A task, since a server may keep back even its headers until it has something to say.
        let reader = tokio::spawn(async move {
            if let Err(end) = raw.read(path, request, &taken).await {
                // Nobody may listen any more.
                let _ = taken.send(Err(end));
            }
        });
        RawStream { requests: Some(requests), answers, ended: None, reader }
    }

    async fn read(
        &self,
        path: PathAndQuery,
        request: Request<UnboundedReceiverStream<Bytes>>,
        taken: &mpsc::UnboundedSender<Result<Bytes, Status>>,
    ) -> Result<(), Status> {
        let answer = self.ready().await?.streaming(request, path, AsIs).await?;
        let mut messages = answer.into_inner();
        while let Some(message) = messages.message().await? {
            let _ = taken.send(Ok(message));
        }
        Ok(())
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|error| Status::lost(&error))?;
        Ok(grpc)
    }
}

impl RawStream {
    /// Queues a request.
    pub(crate) fn send(&self, body: impl Into<Bytes>) {
        let requests = self.requests.as_ref().expect("the stream is not half closed");
        // A stream that has ended says so to whoever receives.
        let _ = requests.send(body.into());
    }

    /// Says that there are no more requests.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next message, or how the stream ended, which is told again if asked again.
    pub(crate) async fn recv(&mut self, within: Duration) -> Received {
        if let Some(end) = &self.ended {
            return Received::End(end.clone());
        }
        match timeout(within, self.answers.recv()).await {
            Err(_) => Received::TimedOut,
            Ok(Some(Ok(message))) => Received::Message(message),
            Ok(end) => {
                let end = end.and_then(Result::err).unwrap_or_else(Status::ok);
                Received::End(self.ended.insert(end).clone())
            }
        }
    }
}

impl Drop for RawStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Status {
    fn ok() -> Self {
        Self { code: Code::Ok, message: String::new(), broken: false }
    }

    fn lost(error: &dyn Error) -> Self {
        Self { code: Code::Unavailable, message: chain(error), broken: true }
    }
}

impl From<tonic::Status> for Status {
    fn from(status: tonic::Status) -> Self {
        let (code, message) = (status.code(), status.message());
        // One that a server sent comes from nowhere else.
        match status.source() {
            None => Self { code, message: message.to_owned(), broken: false },
            Some(source) => Self { code, message: chain(source), broken: true },
        }
    }
}

/// An error and what it comes from.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (**error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn path_of(path: &str) -> PathAndQuery {
    PathAndQuery::from_str(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn request<T>(body: T, metadata: &[(&str, &str)]) -> Request<T> {
    let mut map = MetadataMap::with_capacity(metadata.len());
    for (name, value) in metadata {
        let name = AsciiMetadataKey::from_str(name).expect("a name of metadata is ASCII");
        map.append(name, value.parse().expect("a value of metadata is ASCII"));
    }
    Request::from_parts(map, Default::default(), body)
}

/// Messages are the bytes they are.
struct AsIs;

impl Codec for AsIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
