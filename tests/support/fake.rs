//! A server that speaks gRPC and does as it is told, to see what a client does then.

use std::{
    collections::HashMap,
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::AbortHandle,
};

/// What becomes of a request once it has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An answer with nothing in it.
    #[default]
    Empty,
    /// A status: its gRPC code, and its text.
    Status(u8, &'static str),
    /// The stream is reset for this reason.
    Reset(h2::Reason),
    /// The connection is closed.
    Vanish,
    /// The connection is closed with a GOAWAY for this reason.
    Goodbye(h2::Reason),
    /// It ends well, but for the message that is missing.
    NoMessage,
    /// A message that is none.
    Garbage,
}

/// A member, as the list of members tells it.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) urls: Vec<String>,
    pub(crate) learner: bool,
}

#[derive(Default)]
struct Shared {
    answer: Mutex<Answer>,
    members: Mutex<Vec<u8>>,
    goodbye_after: AtomicUsize,
    connections: AtomicUsize,
    requests: Mutex<HashMap<String, usize>>,
}

pub(crate) struct Fake {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { shared, address, accepting }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers requests to the key space like this from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Says goodbye on each connection after so many requests.
    pub(crate) fn goodbye_after(&self, requests: usize) {
        self.shared.goodbye_after.store(requests, Ordering::Relaxed);
    }

    /// Whom the list of members names.
    pub(crate) fn members(&self, members: impl IntoIterator<Item = Member>) {
        let list = members.into_iter().flat_map(|member| field(2, &member.encode())).collect();
        *self.shared.members.lock().unwrap() = list;
    }

    /// Connections that were made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Requests of a method that arrived in full.
    pub(crate) fn requests(&self, method: &str) -> usize {
        self.shared.requests.lock().unwrap().get(method).copied().unwrap_or(0)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Member {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = field(2, self.name.as_bytes());
        bytes.extend(self.urls.iter().flat_map(|url| field(4, url.as_bytes())));
        if self.learner {
            bytes.extend([5 << 3, 1]);
        }
        bytes
    }
}

/// A protobuf field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128).expect("short");
    [&[number << 3 | 2, length], bytes].concat()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let vanish = Arc::new(Notify::new());
    let mut served = 0;
    loop {
        let accepted = tokio::select! {
            () = vanish.notified() => break,
            accepted = connection.accept() => accepted,
        };
        let Some(Ok((request, respond))) = accepted else { return };
        tokio::spawn(handle(request, respond, Arc::clone(&shared), Arc::clone(&vanish)));
        served += 1;
        if served == shared.goodbye_after.load(Ordering::Relaxed) {
            connection.graceful_shutdown();
        }
    }
    let answer = *shared.answer.lock().unwrap();
    if let Answer::Goodbye(reason) = answer {
        connection.abrupt_shutdown(reason);
        // How it closes, the client has seen.
        let _ = poll_fn(|context| connection.poll_closed(context)).await;
    }
}

async fn handle(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
    vanish: Arc<Notify>,
) {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    while let Some(Ok(bytes)) = body.data().await {
        // An error says that the stream is over, which the next piece tells too.
        let _ = body.flow_control().release_capacity(bytes.len());
    }
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
    *shared.requests.lock().unwrap().entry(method.to_owned()).or_default() += 1;
    let (answer, message) = match service {
        "etcdserverpb.KV" => (*shared.answer.lock().unwrap(), Vec::new()),
        _ => (Answer::Empty, shared.members.lock().unwrap().clone()),
    };
    let sent = match answer {
        Answer::Empty => reply(respond, Some(&message)),
        Answer::Status(code, text) => status(respond, code, text),
        Answer::NoMessage => reply(respond, None),
        Answer::Garbage => reply(respond, Some(&[0xff; 7])),
        Answer::Reset(reason) => {
            respond.send_reset(reason);
            Ok(())
        }
        Answer::Vanish | Answer::Goodbye(_) => {
            vanish.notify_one();
            Ok(())
        }
    };
    // Whoever asked may be gone.
    let _ = sent;
}

fn head() -> http::response::Builder {
    Response::builder().header("content-type", "application/grpc")
}

fn reply(mut respond: SendResponse<Bytes>, message: Option<&[u8]>) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head().body(()).unwrap(), false)?;
    if let Some(message) = message {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        stream.send_data([&[0], &length[..], message].concat().into(), false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", 0.into());
    stream.send_trailers(trailers)
}

fn status(mut respond: SendResponse<Bytes>, code: u8, text: &str) -> Result<(), h2::Error> {
    let head = head().header("grpc-status", code.to_string()).header("grpc-message", text);
    respond.send_response(head.body(()).unwrap(), true).map(drop)
}
