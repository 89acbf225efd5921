//! A thousand that wait for one lock in one process. Alone in its file, to be alone on the machine.

use std::{
    future::IntoFuture,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tenure::{Mutex, Release};
use tenure_testkit::{Call, on_each_server};
use tokio::time::timeout;

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{acquire, holders_are, open};
use start::{SOON, start};

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
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        let first = acquire(&jobs).await;
        let polls = Arc::new(AtomicUsize::new(0));
        let mut waiting = FuturesUnordered::new();
        let before = server.calls(Call::Txn).await;
        for asked in 1..=20 {
            waiting.extend((0..50).map(|_| Counted::new(jobs.acquire().into_future(), &polls)));
            assert!(waiting.next().now_or_never().is_none());
            holders_are(&jobs, 50 * asked + 1).await;
        }
        let asked = server.calls(Call::Txn).await - before;
        assert!(asked <= 1010, "{asked}: once each, but for what was slow to be answered");
        assert_eq!(polls.load(Ordering::Relaxed), 1000, "each has asked");

        let before = server.calls(Call::Txn).await;
        let mut guard = first;
        let mut fences = Vec::new();
        for woken in 1..=1000 {
            fences.push(guard.fence());
            assert_eq!(guard.release().await.unwrap(), Release::Released);
            guard = timeout(SOON, waiting.next()).await.expect("one is woken").unwrap().unwrap();
            assert_eq!(polls.load(Ordering::Relaxed), 1000 + woken, "and only one");
        }
        let released = server.calls(Call::Txn).await - before;
        assert!((1000..=1010).contains(&released), "{released}: nobody looks around");
        assert!(fences.windows(2).all(|pair| pair[0] < pair[1]));
        guard.release().await.unwrap();
        holders_are(&jobs, 0).await;
    })
    .await;
}
