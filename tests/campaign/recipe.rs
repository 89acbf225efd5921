//! What a campaign is about.

use futures::TryStreamExt;
use tenure::{Client, Event, KeyRange, KeyValue, Result, Revision};
use tenure_testkit::Cluster;

use crate::{faults::Fault, journal::Journal, worker::Worker};

/// Keys of one answer.
const PAGE: u32 = 1000;
/// Put by whoever wants to know all that happened before.
const UNTIL_HERE: &str = "campaign/until-here";

/// A recipe under faults: what a worker does with it, and whether what came of that is right.
pub(crate) trait Recipe: Sized + 'static {
    /// The name of the test.
    const TEST: &'static str;
    /// How many processes take part.
    const WORKERS: usize;

    /// In a worker's process: it begins.
    fn new(worker: Worker) -> Self;

    /// Takes part once, for a bounded time, and says so.
    async fn turn(&mut self);

    /// What is seen from outside meanwhile.
    type Observer;

    async fn observe(cluster: &Cluster) -> Self::Observer;

    /// When all workers have ended. What the recipe left in etcd on purpose, this takes away.
    async fn judge(evidence: Evidence<'_>, observer: &Self::Observer) -> Result<Verdict>;
}

/// What there is to judge by, beside what etcd has.
#[derive(Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub(crate) client: &'a Client,
    pub(crate) journals: &'a [Journal],
    pub(crate) faults: &'a [Fault],
}

impl Evidence<'_> {
    /// All keys of a prefix, as of one revision.
    pub(crate) async fn keys(&self, prefix: &str, at: Revision) -> Result<Vec<KeyValue>> {
        let end = tenure::prefix_end(prefix.as_bytes()).expect("there is one");
        let mut from = prefix.as_bytes().to_vec();
        let mut keys = Vec::new();
        loop {
            let rest = KeyRange::span(from, end.clone());
            let page = self.client.get(rest).limit(PAGE).revision(at).await?;
            let Some(last) = page.kvs.last() else { return Ok(keys) };
            from = [&last.key[..], &[0]].concat();
            keys.extend(page.kvs);
        }
    }

    /// All that ever happened to the keys of a prefix. Nothing is compacted.
    pub(crate) async fn history(&self, prefix: &str) -> Result<Vec<Event>> {
        let now = self.client.put(UNTIL_HERE, "").await?.header.revision;
        let mut watch = self.client.watch(KeyRange::all()).start_revision(Revision(1)).open();
        let mut events = Vec::new();
        while let Some(told) = watch.try_next().await? {
            events.extend(told.into_events());
            if events.last().is_some_and(|event: &Event| event.kv.mod_revision >= now) {
                break;
            }
        }
        events.retain(|event| event.kv.key.starts_with(prefix.as_bytes()));
        Ok(events)
    }
}

/// What came of a campaign.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) complaints: Vec<String>,
    /// For people to read.
    pub(crate) report: String,
    /// How much was done. It shall be more than one thing in a second.
    pub(crate) done: usize,
    /// What the observer saw, and when.
    pub(crate) seen: Vec<(u64, String)>,
}
