//! A thousand that wait for one lock in one process. Alone in its file, to be alone on the machine.

use std::{
    future::IntoFuture,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tenure::{Client, Mutex, MutexGuard, Release, Session};
use tenure_testkit::{Cluster, EtcdBinary, eventually, on_each_server};
use tokio::time::timeout;

/// Long for anything that should happen; only a failure takes it.
const SOON: Duration = Duration::from_secs(20);
const TXNS: &str = concat!(
    r#"grpc_server_started_total{grpc_method="Txn","#,
    r#"grpc_service="etcdserverpb.KV",grpc_type="unary"}"#,
);

async fn start(etcd: &EtcdBinary) -> (Cluster, Client) {
    let cluster = Cluster::builder(etcd).fast(true).start().await.unwrap();
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    (cluster, client)
}

async fn open(client: &Client) -> Session {
    Session::builder().ttl(Duration::from_secs(60)).open(client).await.unwrap()
}

async fn acquire(mutex: &Mutex) -> MutexGuard {
    timeout(SOON, mutex.acquire()).await.expect("it is our turn").unwrap()
}

async fn holders_are(mutex: &Mutex, count: usize) {
    let what = format!("{count} contend");
    eventually(SOON, &what, async || mutex.holders().await.unwrap().len() == count).await;
}

/// All that a lock asks for itself; what the tests ask is of other kinds.
async fn txns(cluster: &Cluster) -> u64 {
    cluster.member(0).metric(TXNS).await.map_or(0, |count| count as u64)
}

/// A future that counts how often it was polled.
struct Counted<F> {
    future: Pin<Box<F>>,
    polls: Arc<AtomicUsize>,
}

impl<F: Future> Counted<F> {
    fn new(future: F, polls: &Arc<AtomicUsize>) -> Self {
        Self { future: Box::pin(future), polls: Arc::clone(polls) }
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.future.as_mut().poll(context)
    }
}

#[tokio::test]
async fn of_a_thousand_waiters_each_release_wakes_one_and_costs_one_request() {
    on_each_server(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        let first = acquire(&jobs).await;
        let polls = Arc::new(AtomicUsize::new(0));
        let mut waiting = FuturesUnordered::new();
        let before = txns(&cluster).await;
        for asked in 1..=20 {
            waiting.extend((0..50).map(|_| Counted::new(jobs.acquire().into_future(), &polls)));
            assert!(waiting.next().now_or_never().is_none());
            holders_are(&jobs, 50 * asked + 1).await;
        }
        let asked = txns(&cluster).await - before;
        assert!(asked <= 1010, "{asked}: once each, but for what was slow to be answered");
        assert_eq!(polls.load(Ordering::Relaxed), 1000, "each has asked");

        let before = txns(&cluster).await;
        let mut guard = first;
        let mut fences = Vec::new();
        for woken in 1..=1000 {
            fences.push(guard.fence());
            assert_eq!(guard.release().await.unwrap(), Release::Released);
            guard = timeout(SOON, waiting.next()).await.expect("one is woken").unwrap().unwrap();
            assert_eq!(polls.load(Ordering::Relaxed), 1000 + woken, "and only one");
        }
        let released = txns(&cluster).await - before;
        assert!((1000..=1010).contains(&released), "{released}: nobody looks around");
        assert!(fences.windows(2).all(|pair| pair[0] < pair[1]));
        guard.release().await.unwrap();
        holders_are(&jobs, 0).await;
    })
    .await;
}
