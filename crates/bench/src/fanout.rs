//! Many watches of one key: what an event costs that all of them are told.
//!
//! Another process puts; never more than a few puts ahead of what all watchers have seen, so that
//! the server need not put anybody off.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use tokio::sync::Notify;

use crate::{
    Order,
    measure::{Outcome, cpu, machine_time},
    pb::etcdserverpb::{
        WatchCreateRequest, WatchRequest, watch_client::WatchClient, watch_request::RequestUnion,
    },
    peers,
    processes::start_putter,
};

/// So many puts may be under way.
const AHEAD: usize = 64;
/// Of so many events the latency of one is kept.
const SAMPLE: usize = 97;

/// What all watchers have been told together.
#[derive(Default)]
struct Told {
    events: AtomicUsize,
    latencies: Mutex<Vec<Duration>>,
    enough: AtomicUsize,
    changed: Notify,
}

impl Told {
    fn event(&self, value: &[u8]) {
        let before = self.events.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(SAMPLE)
            && let Ok(nanos) = value.try_into()
        {
            let sent = Duration::from_nanos(u64::from_le_bytes(nanos));
            let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.push(machine_time() - sent);
        }
        if before + 1 == self.enough.load(Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    async fn at_least(&self, events: usize) {
        self.enough.store(events, Ordering::Relaxed);
        while self.events.load(Ordering::Relaxed) < events {
            // Counted between the store and the load.
            let looked = tokio::time::timeout(Duration::from_millis(1), self.changed.notified());
            let _ = looked.await;
        }
    }
}

pub async fn run(order: &Order) -> anyhow::Result<()> {
    let key = format!("bench/fanout/{}", std::process::id());
    let told = Arc::new(Told::default());
    // Whatever keeps the watches.
    let _watches: Box<dyn std::any::Any> = match order.peer.as_str() {
        "tenure" | "tenure-local" => Box::new(tenure(order, &key, &told).await?),
        "etcd-client" => Box::new(etcd_client(order, &key, &told).await?),
        "etcd-client-shared" => Box::new(etcd_client_shared(order, &key, &told).await?),
        "tonic" => Box::new(tonic(order, &key, &told).await?),
        _ => return peers::none_such(order),
    };
    let mut putter = start_putter(order, &key).await?;
    let rounds = order.count.div_ceil(order.tasks);
    let (began, cpu_before) = (Instant::now(), cpu());
    for round in 0..rounds {
        putter.tell("put").await?;
        told.at_least(order.tasks * (round + 1).saturating_sub(AHEAD)).await;
    }
    told.at_least(order.tasks * rounds).await;
    let (took, spent) = (began.elapsed(), cpu() - cpu_before);
    putter.finish::<()>().await?;
    let latencies =
        std::mem::take(&mut *told.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    let operations = told.events.load(Ordering::Relaxed);
    Outcome { operations, ..Outcome::new(latencies, took, spent) }.report(order);
    Ok(())
}

/// A task for each watch, as whoever waits for it would have.
async fn tenure(order: &Order, key: &str, told: &Arc<Told>) -> anyhow::Result<tenure::Client> {
    let client = peers::tenure(order).await?;
    for _ in 0..order.tasks {
        let mut watch = client.watch(key).await?;
        let told = Arc::clone(told);
        tokio::spawn(async move {
            while let Some(Ok(response)) = watch.next().await {
                response.events().iter().for_each(|event| told.event(&event.kv.value));
            }
        });
    }
    Ok(client)
}

/// The same: a stream for each watch is what its interface gives.
async fn etcd_client(
    order: &Order,
    key: &str,
    told: &Arc<Told>,
) -> anyhow::Result<etcd_client::Client> {
    let mut client = peers::etcd_client(order).await?;
    for _ in 0..order.tasks {
        let mut watch = client.watch(key, None).await?;
        let told = Arc::clone(told);
        tokio::spawn(async move {
            while let Ok(Some(response)) = watch.message().await {
                tell(&told, response.events());
            }
        });
    }
    Ok(client)
}

/// All on one stream, read by one task that does not tell the watches apart: the least there is.
async fn etcd_client_shared(
    order: &Order,
    key: &str,
    told: &Arc<Told>,
) -> anyhow::Result<etcd_client::WatchRequestSender> {
    let mut client = peers::etcd_client(order).await?;
    let (mut sender, mut stream) = client.watch(key, None).await?.split();
    let mut created = 0;
    let mut more = order.tasks - 1;
    while created < order.tasks {
        if more > 0 {
            sender.watch(key, None).await?;
            more -= 1;
        }
        created += usize::from(stream.message().await?.is_some_and(|response| response.created()));
    }
    let told = Arc::clone(told);
    tokio::spawn(async move {
        while let Ok(Some(response)) = stream.message().await {
            tell(&told, response.events());
        }
    });
    Ok(sender)
}

fn tell(told: &Told, events: &[etcd_client::Event]) {
    events.iter().filter_map(etcd_client::Event::kv).for_each(|kv| told.event(kv.value()));
}

/// The same by the bare generated code.
async fn tonic(
    order: &Order,
    key: &str,
    told: &Arc<Told>,
) -> anyhow::Result<tokio::sync::mpsc::UnboundedSender<WatchRequest>> {
    let (sender, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let create = WatchCreateRequest { key: key.into(), ..WatchCreateRequest::default() };
    for _ in 0..order.tasks {
        let request_union = Some(RequestUnion::CreateRequest(create.clone()));
        sender.send(WatchRequest { request_union })?;
    }
    let requests = futures::stream::poll_fn(move |cx| requests.poll_recv(cx));
    let mut client = WatchClient::new(peers::tonic(order).await?);
    let mut stream = client.watch(requests).await?.into_inner();
    let mut created = 0;
    while created < order.tasks {
        created += usize::from(stream.message().await?.is_some_and(|response| response.created));
    }
    let told = Arc::clone(told);
    tokio::spawn(async move {
        while let Ok(Some(response)) = stream.message().await {
            let kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
            kvs.for_each(|kv| told.event(&kv.value));
        }
    });
    Ok(sender)
}
