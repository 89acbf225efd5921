//! What tests of queues do, beside what they test. It wants `support/start.rs` as `start`.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::future::IntoFuture;

use bytes::Bytes;
use tenure::{Client, Delivery, KeyRange, Queue, QueueItem};
use tenure_testkit::eventually;
use tokio::{task::JoinHandle, time::timeout};

use crate::start::SOON;

pub(crate) async fn put(queue: &Queue, value: &str) -> Bytes {
    timeout(SOON, queue.enqueue(value)).await.expect("it is put").unwrap()
}

pub(crate) async fn take(queue: &Queue) -> QueueItem {
    timeout(SOON, queue.take()).await.expect("there is an item").unwrap()
}

pub(crate) async fn take_leased(queue: &Queue) -> Delivery {
    timeout(SOON, queue.take_leased()).await.expect("there is an item").unwrap()
}

pub(crate) async fn is_empty(queue: &Queue) {
    eventually(SOON, "nothing is in it", async || queue.items().await.unwrap().is_empty()).await;
}

/// How many consumers stand in line.
pub(crate) async fn idle(client: &Client) -> usize {
    let all = client.get(KeyRange::prefix("tenure/queue-work/")).keys_only().await.unwrap();
    let in_line = |key: &Bytes| key.windows(6).any(|part| part == b"/idle/");
    all.kvs.iter().filter(|kv| in_line(&kv.key)).count()
}

pub(crate) async fn idle_are(client: &Client, count: usize) {
    let what = format!("{count} stand in line");
    eventually(SOON, &what, async || idle(client).await == count).await;
}

/// Takes in the background, and returns once it stands in line.
pub(crate) async fn wait_for_item(
    client: &Client,
    queue: &Queue,
) -> JoinHandle<tenure::Result<QueueItem>> {
    let before = idle(client).await;
    let waiting = tokio::spawn(queue.take().into_future());
    idle_are(client, before + 1).await;
    waiting
}
