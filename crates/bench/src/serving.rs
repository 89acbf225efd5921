//! What a server spends: on puts and gets, on telling watches, and of memory.
//!
//! The peers are servers here, `embedded` and `etcd`, and the client is always the same. A server
//! is another process (`--pid`), so that its time is told apart from the client's.

use std::{
    fs,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use prost::{
    bytes::Buf,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tokio::sync::{Notify, mpsc};
use tonic::{
    Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{
    Order,
    measure::{Outcome, cpu, rss_kb_of, timed_loop},
    pb::etcdserverpb::{
        PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse,
        kv_client::KvClient, watch_request::RequestUnion,
    },
};

const VALUE: &[u8] = &[b'v'; 256];
/// As many keys as a busy service has hot ones.
const KEYS: usize = 1000;
/// So many calls at once where they only fill the server.
const AT_ONCE: usize = 64;
/// More than is ever under way.
const WINDOW: u32 = 64 << 20;
/// What may be under way of an event for every watch.
const AHEAD: usize = 32;

/// Processor time of the server so far, user and system, to a hundredth of a second.
fn server_cpu(order: &Order) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", order.pid)).context("the server")?;
    let (_, fields) = stat.rsplit_once(") ").context("a process's stat")?;
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// A connection that takes all that the server has to say.
async fn channel(order: &Order) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::new(order.endpoint.clone())?;
    let endpoint = endpoint.initial_stream_window_size(WINDOW);
    Ok(endpoint.initial_connection_window_size(WINDOW).connect().await?)
}

fn key(number: usize) -> Vec<u8> {
    format!("bench/{number:06}").into_bytes()
}

fn put(number: usize) -> PutRequest {
    PutRequest { key: key(number), value: VALUE.to_vec(), ..PutRequest::default() }
}

/// Puts or gets, so many in flight over one connection.
pub async fn calls(order: &Order) -> anyhow::Result<()> {
    let kv = KvClient::new(channel(order).await?);
    for number in 0..KEYS {
        kv.clone().put(put(number)).await?;
    }
    let gets = order.work == "server-get";
    let call = move |number| {
        let mut kv = kv.clone();
        async move {
            let number = number % KEYS;
            if gets {
                let get = RangeRequest { key: key(number), ..RangeRequest::default() };
                kv.range(get).await.map(drop)
            } else {
                kv.put(put(number)).await.map(drop)
            }
        }
    };
    let before = server_cpu(order)?;
    let outcome = timed_loop(order, call).await?;
    with_server(outcome, server_cpu(order)? - before).report(order);
    Ok(())
}

/// `--count` keys, and `--tasks` watches of other keys.
pub async fn memory(order: &Order) -> anyhow::Result<()> {
    let kv = KvClient::new(channel(order).await?);
    let (began, cpu_before) = (Instant::now(), cpu());
    let empty = rss_kb_of(order.pid);
    stream::iter(0..order.count)
        .map(|number| {
            let mut kv = kv.clone();
            async move { kv.put(put(number)).await.map(drop) }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let keys = rss_kb_of(order.pid);
    let channel = channel(order).await?;
    let mut watches = Vec::new();
    for numbers in streams(order) {
        watches.push(Watches::open(&channel, numbers.map(key)).await?);
    }
    let (took, spent) = (began.elapsed(), cpu() - cpu_before);
    let all = rss_kb_of(order.pid);
    Outcome::untimed(order.count, took, spent)
        .with("server_mib", all as f64 / 1024.0)
        .with("keys_mib", (keys - empty) as f64 / 1024.0)
        .with("watches_mib", all.saturating_sub(keys) as f64 / 1024.0)
        .report(order);
    Ok(())
}

/// Puts of one key that `--tasks` watches see, until they were told `--count` events together.
pub async fn fanout(order: &Order) -> anyhow::Result<()> {
    let mut kv = KvClient::new(channel(order).await?);
    let told = Arc::new(Told::default());
    let channel = channel(order).await?;
    for numbers in streams(order) {
        let mut watches = Watches::open(&channel, numbers.map(|_| key(0))).await?;
        let told = Arc::clone(&told);
        tokio::spawn(async move {
            while let Some(Ok(events)) = watches.messages.next().await {
                told.more(events);
            }
        });
    }
    let rounds = order.count.div_ceil(order.tasks);
    let server_before = server_cpu(order)?;
    let (began, cpu_before) = (Instant::now(), cpu());
    for round in 0..rounds {
        kv.put(put(0)).await?;
        told.at_least(order.tasks * (round + 1).saturating_sub(AHEAD)).await;
    }
    told.at_least(order.tasks * rounds).await;
    let (took, spent) = (began.elapsed(), cpu() - cpu_before);
    let outcome = Outcome::untimed(order.tasks * rounds, took, spent);
    with_server(outcome, server_cpu(order)? - server_before).report(order);
    Ok(())
}

/// The watches of each stream: all on one, as one client's are in Go, or each on its own.
fn streams(order: &Order) -> impl Iterator<Item = Range<usize>> + use<> {
    let all = order.tasks;
    let each = if order.work.ends_with("-apart") { 1 } else { all };
    (0..all).step_by(each).map(move |first| first..(first + each).min(all))
}

/// How busy the server was, too: of 1 it has a processor of its own, and cannot be faster on one.
fn with_server(outcome: Outcome, spent: Duration) -> Outcome {
    let busy = spent.as_secs_f64() / outcome.took.as_secs_f64();
    outcome.with_each("server_us_op", spent.as_secs_f64() * 1e6).with("server_busy", busy)
}

/// How many events all watches were told.
#[derive(Default)]
struct Told {
    events: AtomicUsize,
    wanted: AtomicUsize,
    enough: Notify,
}

impl Told {
    fn more(&self, events: usize) {
        let before = self.events.fetch_add(events, Ordering::SeqCst);
        let wanted = self.wanted.load(Ordering::SeqCst);
        if before < wanted && before + events >= wanted {
            self.enough.notify_one();
        }
    }

    async fn at_least(&self, events: usize) {
        self.wanted.store(events, Ordering::SeqCst);
        while self.events.load(Ordering::SeqCst) < events {
            self.enough.notified().await;
        }
    }
}

/// Watches on one stream.
struct Watches {
    /// How many events each message has.
    messages: tonic::Streaming<usize>,
    /// Kept, or they end.
    _requests: mpsc::UnboundedSender<WatchRequest>,
}

impl Watches {
    /// Returns when all stand.
    async fn open(channel: &Channel, keys: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<Self> {
        let (sender, mut requests) = mpsc::unbounded_channel();
        let mut count = 0;
        for key in keys {
            let create = WatchCreateRequest { key, ..WatchCreateRequest::default() };
            let request_union = Some(RequestUnion::CreateRequest(create));
            sender.send(WatchRequest { request_union })?;
            count += 1;
        }
        let requests = futures::stream::poll_fn(move |cx| requests.poll_recv(cx));
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let request = tonic::Request::new(requests);
        let mut messages = grpc.streaming(request, path, Counted).await?.into_inner();
        for _ in 0..count {
            let created = messages.next().await;
            ensure!(created.is_some_and(|created| created.is_ok()), "a watch was not created");
        }
        Ok(Self { messages, _requests: sender })
    }
}

/// Events are counted, not read: what that costs is no matter of the server.
struct Counted;

/// The field of a watch's response that holds an event.
const EVENT: u32 = 11;

impl Codec for Counted {
    type Encode = WatchRequest;
    type Decode = usize;
    type Encoder = <ProstCodec<WatchRequest, WatchResponse> as Codec>::Encoder;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<WatchRequest, WatchResponse>::default().encoder()
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Decoder for Counted {
    type Item = usize;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<usize>, Status> {
        let mut events = 0;
        while message.has_remaining() {
            let bad = |error| Status::internal(format!("a watch's response: {error}"));
            let (tag, wire_type) = decode_key(message).map_err(bad)?;
            skip_field(wire_type, tag, message, DecodeContext::default()).map_err(bad)?;
            events += usize::from(tag == EVENT);
        }
        Ok(Some(events))
    }
}
