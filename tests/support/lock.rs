//! What tests of locks begin with.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::time::Duration;

use tenure::{Client, Mutex, MutexGuard, Session};
use tenure_testkit::{Cluster, EtcdBinary, eventually};
use tokio::time::timeout;

/// Long for anything that should happen; only a failure takes it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn start(etcd: &EtcdBinary) -> (Cluster, Client) {
    let cluster = Cluster::builder(etcd).fast(true).start().await.unwrap();
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    (cluster, client)
}

/// A session that outlives any test.
pub(crate) async fn open(client: &Client) -> Session {
    Session::builder().ttl(Duration::from_secs(60)).open(client).await.unwrap()
}

pub(crate) async fn acquire(mutex: &Mutex) -> MutexGuard {
    timeout(SOON, mutex.acquire()).await.expect("it is our turn").unwrap()
}

pub(crate) async fn holders_are(mutex: &Mutex, count: usize) {
    let what = format!("{count} contend");
    eventually(SOON, &what, async || mutex.holders().await.unwrap().len() == count).await;
}
