//! Asking for whatever a recipe gives. It wants `support/start.rs` as `start`.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::future::IntoFuture;

use tenure::{Acquire, Client, KeyRange};
use tenure_testkit::eventually;
use tokio::{task::JoinHandle, time::timeout};

use crate::start::SOON;

/// Somebody who asks in the background.
pub(crate) type Asking<G> = JoinHandle<tenure::Result<G>>;

pub(crate) async fn take<G>(acquire: Acquire<G>) -> G {
    timeout(SOON, acquire.into_future()).await.expect("it is our turn").unwrap()
}

/// What whoever asked in the background got.
pub(crate) async fn got<G>(asking: Asking<G>) -> G {
    timeout(SOON, asking).await.expect("it is our turn").unwrap().unwrap()
}

pub(crate) fn ask<G: Send + 'static>(acquire: Acquire<G>) -> Asking<G> {
    tokio::spawn(acquire.into_future())
}

/// Asks in the background, and returns once there are more keys under the prefix.
pub(crate) async fn queue_up<G: Send + 'static>(
    client: &Client,
    prefix: &str,
    acquire: Acquire<G>,
) -> Asking<G> {
    let before = keys(client, prefix).await;
    let asking = ask(acquire);
    eventually(SOON, "it is in the queue", async || keys(client, prefix).await > before).await;
    asking
}

pub(crate) async fn keys(client: &Client, prefix: &str) -> u64 {
    client.count(KeyRange::prefix(prefix)).await.unwrap().count
}

pub(crate) async fn keys_are(client: &Client, prefix: &str, count: u64) {
    let what = format!("{count} keys are under {prefix}");
    eventually(SOON, &what, async || keys(client, prefix).await == count).await;
}
