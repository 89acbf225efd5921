//! What cannot be: input that is refused before anything is sent, and servers that are no etcd.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use h2::{SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response};
use tenure::{
    Client, Compare, Count, Delete, Error, ErrorKind, Get, KeyRange, Op, Put, Result, Txn,
};
use tenure_testkit::{Proxy, eventually, on_each_server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

#[path = "support/start.rs"]
mod start;
use start::{SOON, start};

/// For calls that are tried again until their time is up.
const SHORT: Duration = Duration::from_millis(700);

#[track_caller]
fn invalid(error: &Error, field: &str, rule: &str) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
    assert!(text.contains(field) && text.contains(rule), "{field}, {rule}: {text}");
    assert!(!error.is_retryable() && !error.may_have_been_applied(), "{text}");
}

/// A call that cannot be, with the field and the rule that its error names.
type Bad = (&'static str, &'static str, BoxFuture<'static, Option<Error>>);

fn bad<T: Send + 'static>(
    field: &'static str,
    rule: &'static str,
    call: impl IntoFuture<Output = Result<T>, IntoFuture: Send + 'static>,
) -> Bad {
    (field, rule, call.into_future().map(Result::err).boxed())
}

fn bad_ops() -> Vec<(&'static str, &'static str, Op)> {
    let reversed = || KeyRange::span("b", "a");
    let (empty, negative) = ("the key is empty", "negative");
    let not_above = "its end is not above its start";
    let minus = || (-1).into();
    vec![
        ("get", empty, Get::new("").into()),
        ("count", empty, Count::new("").into()),
        ("put", empty, Put::new("", "v").into()),
        ("delete", empty, Delete::new("").into()),
        ("get", not_above, Get::new(reversed()).into()),
        ("get", not_above, Get::new(KeyRange::span("a", "a")).into()),
        ("get", not_above, Get::new(KeyRange::span("a", "")).into()),
        ("count", not_above, Count::new(reversed()).into()),
        ("delete", not_above, Delete::new(reversed()).into()),
        ("get: revision", negative, Get::new("k").revision(minus()).into()),
        ("count: revision", negative, Count::new("k").revision(minus()).into()),
        ("min_mod_revision", negative, Get::new("k").min_mod_revision(minus()).into()),
        ("max_mod_revision", negative, Get::new("k").max_mod_revision(minus()).into()),
        ("min_create_revision", negative, Get::new("k").min_create_revision(minus()).into()),
        ("max_create_revision", negative, Get::new("k").max_create_revision(minus()).into()),
        ("compare", empty, Txn::new().when([Compare::exists("")]).into()),
        ("compare", not_above, Txn::new().when([Compare::exists(reversed())]).into()),
    ]
}

#[tokio::test]
async fn a_call_that_cannot_be_is_refused_before_anything_is_sent() {
    let proxy = Proxy::start("127.0.0.1:9").await.unwrap();
    let builder = Client::builder([proxy.endpoint()]).max_send_bytes(1000);
    let client = builder.connect().await.unwrap();
    let mut calls = Vec::new();
    for (field, rule, op) in bad_ops() {
        for op in [
            op.clone(),
            Txn::new().and_then([op.clone()]).into(),
            Txn::new().or_else([op.clone()]).into(),
            Txn::new().and_then([Txn::new().or_else([op])]).into(),
        ] {
            let client = client.clone();
            calls.push(bad(field, rule, async move { client.execute(op).await }.boxed()));
        }
    }
    let deep = (0..40).fold(Op::from(Put::new("k", "")), |op, _| Txn::new().and_then([op]).into());
    let large = vec![b's'; 1000];
    let (empty, not_above) = ("the key is empty", "its end is not above its start");
    calls.extend([
        bad("put", empty, client.put("", "v")),
        bad("get", empty, client.get("")),
        bad("delete", empty, client.delete("")),
        bad("count", empty, client.count("")),
        bad("watch", empty, client.watch("")),
        bad("watch", not_above, client.watch(KeyRange::span("b", "a"))),
        bad("watch", "start revision is negative", client.watch("k").start_revision((-1).into())),
        bad("compact", "negative", client.compact((-1).into())),
        bad("lease grant", "TTL must be longer", client.lease_grant(Duration::ZERO)),
        bad("lease grant", "9000000000 s", client.lease_grant(Duration::from_secs(9_000_000_001))),
        bad("put", "above the send limit of 1000 bytes", client.put("k", large.clone())),
        bad("txn", "above the send limit", client.txn().and_then([Put::new("k", large)])),
        bad("txn", "nested deeper than 32", client.txn().and_then([deep])),
    ]);
    for (field, rule, call) in calls {
        let error = timeout(SOON, call).await.expect("it is refused at once");
        let error = error.unwrap_or_else(|| panic!("{field}: {rule} was accepted"));
        invalid(&error, field, rule);
    }
    // A watch that is opened without waiting tells it on its stream, and ends.
    let mut watch = client.watch("").open();
    invalid(&watch.try_next().await.unwrap_err(), "watch", "the key is empty");
    assert!(watch.try_next().await.unwrap().is_none());
    assert_eq!((proxy.accepted(), proxy.bytes_to_server()), (0, 0));
}

#[tokio::test]
async fn a_span_that_can_hold_no_key_is_not_taken_for_all_keys() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        client.put("k", "v").await.unwrap();
        // From the lowest key to the lowest key: etcd writes "all keys" the same way.
        let nothing = || KeyRange::span("", "\0");
        if let Err(error) = client.delete(nothing()).await {
            invalid(&error, "delete", "its end is not above its start");
        }
        assert_eq!(client.count("k").await.unwrap().count, 1, "everything was deleted");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_cannot_be_is_not_made() {
    let proxy = Proxy::start("127.0.0.1:9").await.unwrap();
    let good = proxy.endpoint();
    let builder = || Client::builder([good.clone()]).user("root", "s3cret");
    for (text, rule) in [
        ("", "no host"),
        ("http://", "no host"),
        ("http://:2379", "host"),
        ("a b", "no host"),
        ("host:port", "the port is a number"),
        ("host:", "the port is a number"),
        ("host:70000", "65535"),
        ("ftp://host", "the scheme is http or https"),
        ("https://host", "https needs TLS"),
        ("http://root:s3cret@host", "set user and password on the builder"),
    ] {
        let endpoints = [good.clone(), text.to_owned()];
        let error = Client::builder(endpoints.clone()).connect().await.unwrap_err();
        invalid(&error, "endpoints", rule);
        assert!(!error.to_string().contains("s3cret"), "{error}");
        // A running client keeps the endpoints it has.
        let client = Client::connect([good.clone()]).await.unwrap();
        invalid(&client.set_endpoints(endpoints).await.unwrap_err(), "endpoints", rule);
        invalid(&client.set_endpoints([""; 0]).await.unwrap_err(), "endpoints", "at least one");
        assert_eq!(client.endpoints(), [good.as_str()]);
    }
    let none = Client::connect([""; 0]).await.unwrap_err();
    invalid(&none, "endpoints", "at least one is needed");
    let zero = Duration::ZERO;
    for (builder, field) in [
        (builder().request_timeout(zero), "request_timeout"),
        (builder().attempt_timeout(zero), "attempt_timeout"),
        (builder().connect_timeout(zero), "connect_timeout"),
        (builder().keep_alive_time(zero), "keep_alive_time"),
        (builder().keep_alive_timeout(zero), "keep_alive_timeout"),
    ] {
        invalid(&builder.connect().await.unwrap_err(), field, "must be longer than nothing");
    }
    for (user, password) in [("", "pw"), ("root", ""), ("", "")] {
        let error = builder().user(user, password).connect().await.unwrap_err();
        invalid(&error, "user", "must not be empty");
    }
    assert_eq!((proxy.accepted(), proxy.bytes_to_server()), (0, 0));
}

/// A server that is no etcd. Counts the connections it accepted, and those still open.
struct Fake {
    endpoint: String,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Fake {
    async fn start<F>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(local).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (accepted, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&accepted), Arc::clone(&open));
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::SeqCst);
                counts.1.fetch_add(1, Ordering::SeqCst);
                let (connection, open) = (serve(socket), Arc::clone(&counts.1));
                tokio::spawn(async move {
                    connection.await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { endpoint, accepted, open, serving }
    }

    /// Speaks HTTP/2, and answers every call with `answer`. A stream it returns is kept open.
    async fn http2(
        answer: impl Fn(&str, SendResponse<Bytes>) -> Option<SendStream<Bytes>>
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::start(move |socket| {
            let answer = answer.clone();
            async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                let mut streams = Vec::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    streams.push((answer(request.uri().path(), respond), request));
                }
            }
        })
        .await
    }

    /// Answers every call with this message and status 0.
    async fn grpc(message: &'static [u8]) -> Self {
        Self::http2(move |_, mut respond| {
            let mut body = respond.send_response(headers(), false).unwrap();
            body.send_data(framed(message), false).unwrap();
            body.send_trailers(status("0")).unwrap();
            None
        })
        .await
    }

    async fn client(&self) -> Client {
        Client::connect([self.endpoint.clone()]).await.unwrap()
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn headers() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(code))])
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&[0][..]);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}

async fn soon<T>(call: impl IntoFuture<Output = T>) -> T {
    timeout(SOON, call).await.expect("the call must not hang")
}

#[tokio::test]
async fn an_answer_that_cannot_be_decoded_is_a_protocol_error_and_costs_the_connection() {
    let fake = Fake::grpc(&[0xff; 12]).await;
    let client = fake.client().await;
    let get = soon(client.get("k")).await.unwrap_err();
    assert_eq!(get.kind(), ErrorKind::Protocol, "{get}");
    assert!(get.to_string().contains("cannot be decoded"), "{get}");
    assert_eq!(get.endpoint(), Some(fake.endpoint.as_str()));
    assert!(!get.may_have_been_applied());
    eventually(SOON, "the connection is dropped", async || fake.open() < fake.accepted()).await;

    let writes = [
        soon(client.put("k", "v")).await.map(drop),
        soon(client.delete("k")).await.map(drop),
        soon(client.txn().and_then([Put::new("k", "v")])).await.map(drop),
    ];
    for write in writes {
        let error = write.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.may_have_been_applied() && !error.is_retryable(), "{error}");
    }
    let grant = soon(client.lease_grant(SOON)).await.unwrap_err();
    assert_eq!(grant.kind(), ErrorKind::Protocol, "{grant}");
}

#[tokio::test]
async fn an_answer_without_its_message_is_a_protocol_error() {
    let fake = Fake::http2(|_, mut respond| {
        let mut body = respond.send_response(headers(), false).unwrap();
        body.send_trailers(status("0")).unwrap();
        None
    })
    .await;
    let client = fake.client().await;
    let get = soon(client.get("k")).await.unwrap_err();
    assert_eq!(get.kind(), ErrorKind::Protocol, "{get}");
    let put = soon(client.put("k", "v")).await.unwrap_err();
    assert_eq!(put.kind(), ErrorKind::Protocol, "{put}");
    assert!(put.may_have_been_applied(), "{put}");
}

#[tokio::test]
async fn an_answer_of_another_kind_than_the_question_is_a_protocol_error() {
    // A txn's answer: succeeded, and one answer of no kind in it.
    let fake = Fake::grpc(&[0x10, 0x01, 0x1a, 0x00]).await;
    let client = fake.client().await;
    let read = soon(client.txn().and_then([Get::new("k")])).await.unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Protocol, "{read}");
    assert!(!read.may_have_been_applied(), "{read}");
    let write = soon(client.txn().and_then([Put::new("k", "v")])).await.unwrap_err();
    assert_eq!(write.kind(), ErrorKind::Protocol, "{write}");
    assert!(write.may_have_been_applied(), "{write}");
}

#[tokio::test]
async fn a_web_server_is_told_from_etcd() {
    let fake = Fake::http2(|_, mut respond| {
        let page = Response::builder().header("content-type", "text/html").body(()).unwrap();
        let mut body = respond.send_response(page, false).unwrap();
        body.send_data(Bytes::from_static(b"<html>hello</html>"), true).unwrap();
        None
    })
    .await;
    let client = fake.client().await;
    let get = soon(client.get("k")).await.unwrap_err();
    assert_eq!(get.kind(), ErrorKind::Protocol, "{get}");
    let put = soon(client.put("k", "v")).await.unwrap_err();
    assert_eq!(put.kind(), ErrorKind::Protocol, "{put}");
    assert!(put.may_have_been_applied(), "{put}");
}

#[tokio::test]
async fn status_details_that_are_no_base64_do_not_panic() {
    let fake = Fake::http2(|_, mut respond| {
        let mut answer = headers();
        answer.headers_mut().extend(status("3"));
        let details = HeaderValue::from_static("!!! no base64 !!!");
        answer.headers_mut().insert("grpc-status-details-bin", details);
        respond.send_response(answer, true).unwrap();
        None
    })
    .await;
    let client = fake.client().await;
    let calling = client.clone();
    let get = tokio::spawn(async move { calling.get("k").timeout(SHORT).await });
    let get = soon(get).await.expect("a panic of the call").unwrap_err();
    assert!(matches!(get.kind(), ErrorKind::Protocol | ErrorKind::Refused), "{get}");
    // The actors met the same answer: on a watch, and on the stream of renewals.
    let watch = soon(client.watch("k").timeout(SHORT)).await.unwrap_err();
    assert_ne!(watch.kind(), ErrorKind::Internal, "{watch}");
    let calling = client.clone();
    let grant = tokio::spawn(async move { calling.lease_grant(SOON).timeout(SHORT).await });
    let grant = soon(grant).await.expect("a panic of the call").unwrap_err();
    assert_ne!(grant.kind(), ErrorKind::Internal, "{grant}");
}

/// A watch's first answer is `message`; other calls are answered with an empty one.
async fn watched(message: &'static [u8]) -> Fake {
    Fake::http2(move |path, mut respond| {
        let mut body = respond.send_response(headers(), false).ok()?;
        if path == "/etcdserverpb.Watch/Watch" {
            body.send_data(framed(message), false).ok()?;
            return Some(body);
        }
        body.send_data(framed(&[]), false).ok()?;
        body.send_trailers(status("0")).ok()?;
        None
    })
    .await
}

#[tokio::test]
async fn a_stream_that_breaks_the_watch_protocol_is_dropped_and_harms_nothing_else() {
    for message in [
        // Created, for an id nobody asked for.
        &[0x10, 0x89, 0x06, 0x18, 0x01][..],
        // An event before the watch is created.
        &[0x10, 0x01, 0x5a, 0x00],
        // No message at all.
        &[0xff; 12],
    ] {
        let fake = watched(message).await;
        let client = fake.client().await;
        let watching = client.watch("k").timeout(Duration::from_secs(3));
        let dropped = format!("the connection is dropped for {message:?}");
        let (watch, ()) = tokio::join!(
            soon(watching),
            eventually(SOON, &dropped, async || {
                fake.accepted() > 1 && fake.open() < fake.accepted()
            }),
        );
        let error = watch.unwrap_err();
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::Protocol | ErrorKind::Timeout), "{message:?}: {error}");
        // The same server answers reads well enough.
        assert_eq!(soon(client.get("k")).await.unwrap().kv(), None);
    }
}

/// What is no HTTP/2 at all: one that talks, one that hangs up, and one that says nothing.
async fn strangers() -> [Fake; 3] {
    let talks = Fake::start(|mut socket| async move {
        let _ = socket.write_all(b"220 mail.example.org ESMTP, and a long line after it\r\n").await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    let hangs_up = Fake::start(|socket| async move { drop(socket) });
    let silent = Fake::start(|mut socket| async move {
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    [talks.await, hangs_up.await, silent.await]
}

#[tokio::test]
async fn a_server_that_speaks_no_http2_ends_calls_in_time() {
    for fake in strangers().await {
        let client = fake.client().await;
        let get = soon(client.get("k").timeout(SHORT)).await.unwrap_err();
        assert!(matches!(get.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{get}");
        let put = soon(client.put("k", "v").timeout(SHORT)).await.unwrap_err();
        let unsure = put.kind() == ErrorKind::Indeterminate;
        assert!(unsure || put.kind() == ErrorKind::Unavailable, "{put}");
        assert_eq!(put.may_have_been_applied(), unsure, "{put}");
        let watch = soon(client.watch("k").timeout(SHORT)).await.unwrap_err();
        assert!(matches!(watch.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{watch}");
        let grant = soon(client.lease_grant(SOON).timeout(SHORT)).await.unwrap_err();
        assert!(matches!(grant.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{grant}");
        soon(client.close()).await;
    }
}

#[tokio::test]
async fn signing_in_at_a_server_that_is_no_etcd_fails_in_time() {
    let [talks, hangs_up, silent] = strangers().await;
    let undecodable = Fake::grpc(&[0xff; 12]).await;
    for (fake, kinds) in [
        (&talks, &[ErrorKind::Unavailable, ErrorKind::Timeout][..]),
        (&hangs_up, &[ErrorKind::Unavailable, ErrorKind::Timeout]),
        (&silent, &[ErrorKind::Timeout]),
        (&undecodable, &[ErrorKind::Protocol]),
    ] {
        let builder = Client::builder([fake.endpoint.clone()]).user("root", "s3cret");
        let error = soon(builder.request_timeout(SHORT).connect()).await.unwrap_err();
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

/// The trailers of "invalid auth token", as etcd sends them, with nothing before.
fn dead_token(mut respond: SendResponse<Bytes>) {
    let mut answer = headers();
    answer.headers_mut().extend(status("16"));
    let text = HeaderValue::from_static("etcdserver: invalid auth token");
    answer.headers_mut().insert("grpc-message", text);
    respond.send_response(answer, true).unwrap();
}

#[tokio::test]
async fn a_server_that_calls_every_token_dead_ends_calls_in_time() {
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let fake = Fake::http2(move |path, mut respond| {
        let signs_in = path == "/etcdserverpb.Auth/Authenticate";
        if !signs_in || counted.fetch_add(1, Ordering::SeqCst) >= 5 {
            dead_token(respond);
            return None;
        }
        // The token "t".
        let mut body = respond.send_response(headers(), false).unwrap();
        body.send_data(framed(&[0x12, 0x01, b't']), false).unwrap();
        body.send_trailers(status("0")).unwrap();
        None
    })
    .await;
    let builder = Client::builder([fake.endpoint.clone()]).user("root", "pw");
    let client = builder.connect().await.unwrap();
    // First with tokens that do not help, then without one: the question for it is refused too.
    for _ in 0..3 {
        let get = soon(client.get("k")).await.unwrap_err();
        assert_eq!(get.kind(), ErrorKind::Unauthenticated, "{get}");
    }
    let put = soon(client.put("k", "v")).await.unwrap_err();
    assert_eq!(put.kind(), ErrorKind::Unauthenticated, "{put}");
    assert!(!put.may_have_been_applied(), "{put}");
    let asked = asked.load(Ordering::SeqCst);
    assert!(asked < 20, "it was asked for {asked} tokens");
}

#[tokio::test]
async fn a_call_that_waits_for_a_token_ends_at_its_own_deadline() {
    let signed_in = Arc::<AtomicUsize>::default();
    let fake = Fake::http2(move |path, mut respond| {
        if path != "/etcdserverpb.Auth/Authenticate" {
            dead_token(respond);
            return None;
        }
        let mut body = respond.send_response(headers(), false).unwrap();
        if signed_in.fetch_add(1, Ordering::SeqCst) > 0 {
            // Never answered again.
            return Some(body);
        }
        body.send_data(framed(&[0x12, 0x01, b't']), false).unwrap();
        body.send_trailers(status("0")).unwrap();
        None
    })
    .await;
    let builder = Client::builder([fake.endpoint.clone()]).user("root", "pw");
    let client = builder.request_timeout(10 * SOON).connect().await.unwrap();
    let get = soon(client.get("k").timeout(SHORT)).await.unwrap_err();
    assert!(matches!(get.kind(), ErrorKind::Timeout | ErrorKind::Unauthenticated), "{get}");
    let put = soon(client.put("k", "v").timeout(SHORT)).await.unwrap_err();
    assert!(!put.may_have_been_applied(), "{put}");
}
