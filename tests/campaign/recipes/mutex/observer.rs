//! Sees the queue of the lock through each member, so that it is known when whose turn it was.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::TryStreamExt;
use tenure::{Client, EventKind, Holder, KeyRange, Revision};
use tenure_testkit::Cluster;
use tokio::task::JoinSet;

use super::LOCK;
use crate::journal::now;

/// A key that came or went, and when the first member said so.
struct Change {
    at: u64,
    /// Of one that came: when it was created, and by whom.
    came: Option<(Revision, String)>,
}

/// Each key changes once in a revision.
type Changes = Arc<Mutex<BTreeMap<(Revision, Bytes), Change>>>;

/// When a key was the first of the queue.
pub(crate) struct Turn {
    pub(crate) whose: String,
    pub(crate) from: u64,
    pub(crate) until: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Observer {
    changes: Changes,
    _watching: JoinSet<()>,
}

impl Observer {
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        let mut observer = Self::default();
        for endpoint in cluster.endpoints() {
            let client = Client::connect([endpoint]).await.expect("the endpoint is good");
            observer._watching.spawn(watch(client, Arc::clone(&observer.changes)));
        }
        observer
    }

    /// When it was the turn of each key, by its creation.
    pub(crate) fn turns(&self) -> BTreeMap<Revision, Turn> {
        let mut queue = BTreeMap::new();
        let mut created = HashMap::new();
        let mut turns = BTreeMap::new();
        for ((_, key), Change { at, came }) in &*self.changes.lock().unwrap() {
            if let Some((create, whose)) = came {
                created.insert(key, *create);
                queue.insert(*create, whose);
            } else if let Some(create) = created.remove(key) {
                queue.remove(&create);
                if let Some(Turn { until, .. }) = turns.get_mut(&create) {
                    *until = Some(*at);
                }
            }
            if let Some((first, whose)) = queue.first_key_value() {
                let turn = || Turn { whose: (*whose).clone(), from: *at, until: None };
                turns.entry(*first).or_insert_with(turn);
            }
        }
        turns
    }
}

async fn watch(client: Client, changes: Changes) {
    let range = KeyRange::prefix(format!("tenure/mutex/{LOCK}/"));
    let mut watch = client.watch(range).start_revision(Revision(1)).open();
    while let Some(told) = watch.try_next().await.expect("nothing is compacted") {
        let at = now();
        for event in told.into_events() {
            let kv = event.kv;
            let came = (event.kind == EventKind::Put).then(|| {
                let holder = serde_json::from_slice::<Holder>(&kv.value);
                (kv.create_revision, holder.map_or_else(|_| "?".to_owned(), |holder| holder.name))
            });
            let mut changes = changes.lock().unwrap();
            let seen = changes.entry((kv.mod_revision, kv.key)).or_insert(Change { at, came });
            seen.at = seen.at.min(at);
        }
    }
}

/// How soon the lock was granted to those whose turn it was, and the longest turn of one to whom it
/// was not: as a rule, of a dead or stopped worker.
pub(crate) fn report(
    turns: &BTreeMap<Revision, Turn>,
    granted: &BTreeMap<Revision, u64>,
) -> String {
    let latency =
        |(create, at): (&Revision, &u64)| Some(at.saturating_sub(turns.get(create)?.from));
    let mut latencies: Vec<u64> = granted.iter().filter_map(latency).collect();
    latencies.sort_unstable();
    let within = |percent: usize| {
        let place = latencies.len().saturating_sub(1) * percent / 100;
        latencies.get(place).map_or(0.0, |nanos| *nanos as f64 / 1e6)
    };
    let mut text = format!(
        "from the turn to the grant, ms: half within {:.1}, 90 % within {:.1}, all within {:.0}\n",
        within(50),
        within(90),
        within(100)
    );
    let idle = turns.iter().filter(|(create, _)| !granted.contains_key(create));
    let idle = idle.filter_map(|(create, Turn { whose, from, until })| {
        Some(((*until)?.saturating_sub(*from), format!("{whose} with {create}")))
    });
    if let Some((nanos, whose)) = idle.max() {
        let millis = nanos / 1_000_000;
        text += &format!("longest turn that was not granted: {millis} ms, of {whose}\n");
    }
    text
}

pub(crate) fn timeline(turns: &BTreeMap<Revision, Turn>) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    for (create, Turn { whose, from, until }) in turns {
        lines.push((*from, format!("-- turn of {whose} with {create}")));
        lines.extend(until.map(|until| (until, format!("-- {whose} with {create} is gone"))));
    }
    lines
}
