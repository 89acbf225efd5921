//! What tests of sessions and locks do, beside what they test. It wants `support/start.rs` as
//! `start`.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{future::IntoFuture, time::Duration};

use futures::{Stream, StreamExt};
use tenure::{Client, LossReason, Mutex, MutexGuard, Session};
use tenure_testkit::{TestServer, eventually};
use tokio::{task::JoinHandle, time::timeout};

use crate::start::{MINUTE, SOON};

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A session that outlives any test.
pub(crate) async fn open(client: &Client) -> Session {
    open_for(client, MINUTE).await
}

pub(crate) async fn open_for(client: &Client, ttl: Duration) -> Session {
    Session::builder().ttl(ttl).open(client).await.unwrap()
}

/// A session of a process of its own, as far as the server can tell.
pub(crate) async fn stranger(server: &TestServer) -> Session {
    open(&server.client().await.unwrap()).await
}

pub(crate) async fn acquire(mutex: &Mutex) -> MutexGuard {
    timeout(SOON, mutex.acquire()).await.expect("it is our turn").unwrap()
}

/// Somebody who asks in the background.
pub(crate) type Waiting = JoinHandle<tenure::Result<MutexGuard>>;

/// Asks in the background, and returns once the key is in the queue.
pub(crate) async fn queue_up(mutex: &Mutex) -> Waiting {
    let before = mutex.holders().await.unwrap().len();
    let waiting = tokio::spawn(mutex.acquire().into_future());
    holders_are(mutex, before + 1).await;
    waiting
}

/// What whoever asked in the background got.
pub(crate) async fn granted(waiting: Waiting) -> MutexGuard {
    ended(waiting).await.unwrap()
}

pub(crate) async fn ended<T>(task: JoinHandle<T>) -> T {
    timeout(SOON, task).await.expect("it ends").unwrap()
}

pub(crate) async fn holders_are(mutex: &Mutex, count: usize) {
    let what = format!("{count} contend");
    eventually(SOON, &what, async || mutex.holders().await.unwrap().len() == count).await;
}

/// Waits until so many contend for the lock `jobs`, as this client sees it.
pub(crate) async fn contenders_are(client: &Client, count: usize) {
    let what = format!("{count} contend");
    eventually(SOON, &what, async || Mutex::inspect(client, "jobs").await.unwrap().len() == count)
        .await;
}

pub(crate) async fn told<S>(states: &mut (impl Stream<Item = S> + Unpin)) -> S {
    timeout(SOON, states.next()).await.expect("a state is told").expect("it goes on")
}

pub(crate) async fn why(lost: impl Future<Output = LossReason>) -> LossReason {
    timeout(SOON, lost).await.expect("the loss is told")
}
