//! A client stays connected to a cluster whose members die, freeze and are cut off.
//!
//! Wall time is measured in `timing` alone; the bounds here only show that nothing hangs.

#[path = "connectivity/black_hole.rs"]
mod black_hole;
#[path = "connectivity/choice.rs"]
mod choice;
#[path = "connectivity/dialling.rs"]
mod dialling;
#[path = "connectivity/endpoints.rs"]
mod endpoints;
#[path = "support/fake.rs"]
#[allow(dead_code, reason = "other test files use the rest")]
mod fake;
#[path = "connectivity/partition.rs"]
mod partition;
#[path = "connectivity/resources.rs"]
mod resources;
#[path = "connectivity/shutdown.rs"]
mod shutdown;
#[path = "support/unanswered.rs"]
mod unanswered;

use std::{future::IntoFuture, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use tenure::{Client, Compare, Delete, Get, Put, Result, WatchStream};
use tenure_testkit::{Builder, Cluster, EtcdBinary};
use tokio::time::timeout;

/// Long for what takes milliseconds: only shows that it ends.
const PATIENCE: Duration = Duration::from_secs(30);

async fn three(etcd: &EtcdBinary) -> Cluster {
    start(Cluster::builder(etcd).members(3)).await
}

async fn start(builder: Builder) -> Cluster {
    builder.fast(true).start().await.unwrap()
}

async fn connect(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Client {
    Client::connect(endpoints).await.unwrap()
}

/// The endpoints with `index` first: a new client calls them in turn, this one first.
fn beginning_with(mut endpoints: Vec<String>, index: usize) -> Vec<String> {
    endpoints.rotate_left(index);
    endpoints
}

/// Calls each of the three endpoints once, so that the next call goes to the first one again.
async fn visit_all(client: &Client) {
    for _ in 0..3 {
        client.get("visit").await.unwrap();
    }
}

/// An operation with a time limit of its own.
type Operation = fn(Client) -> BoxFuture<'static, Result<()>>;

/// How long a write of [`WRITES`] waits: for longer than it takes to find out that a member is
/// frozen, so that the next one goes elsewhere.
const WRITE: Duration = Duration::from_secs(3);

const WRITES: [(&str, Operation); 3] = [
    ("put", |client| client.put("a", "1").timeout(WRITE).into_future().map(done).boxed()),
    ("delete", |client| client.delete("a").timeout(WRITE).into_future().map(done).boxed()),
    ("txn", |client| {
        client
            .txn()
            .when([Compare::missing("b")])
            .and_then([Put::new("a", "1")])
            .or_else([Delete::new("b")])
            .timeout(WRITE)
            .into_future()
            .map(done)
            .boxed()
    }),
];

const READS: [(&str, Operation); 3] = [
    ("linearizable get", |client| client.get("a").into_future().map(done).boxed()),
    ("serializable get", |client| client.get("a").serializable().into_future().map(done).boxed()),
    ("read txn", |client| client.txn().and_then([Get::new("a")]).into_future().map(done).boxed()),
];

fn done<T>(result: Result<T>) -> Result<()> {
    result.map(drop)
}

/// The write succeeds within five tries, and failures before that leave open whether it was
/// applied.
async fn succeeds_soon(client: &Client, name: &str, write: Operation) {
    for _ in 0..5 {
        match write(client.clone()).await {
            Ok(()) => return,
            Err(error) => assert!(error.may_have_been_applied(), "{name}: {error:?}"),
        }
    }
    panic!("{name} does not succeed");
}

/// Awaits the next event of a watch: it is a put of `key`.
async fn next_put(watch: &mut WatchStream, key: &str) {
    let change = timeout(PATIENCE, watch.next()).await.expect("the event comes");
    let change = change.expect("the watch goes on").unwrap();
    let keys: Vec<_> = change.events().iter().map(|event| &event.kv.key[..]).collect();
    assert_eq!(keys, [key.as_bytes()]);
}
