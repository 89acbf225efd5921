//! What a campaign is about.

use tenure::{Client, Result};
use tenure_testkit::Cluster;

use crate::{faults::Fault, journal::Journal, worker::Worker};

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
