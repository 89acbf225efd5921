//! What is in a queue, for people to read.

use std::collections::HashMap;

use bytes::Bytes;
use tenure_core::{Key, KeyValue, Revision};

use super::{
    layout::{Discipline, Layout, failures_of, name_of},
    work::Work,
};
use crate::{
    client::Client,
    error::{Error, Result},
    ops::{Delete, Get, Op, OpResponse, Order, SortBy},
    recipes::holder::Contender,
};

/// One item of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queued {
    /// The key that it is at now.
    pub key: Bytes,
    /// What was put into the queue.
    pub value: Bytes,
    /// How often it was delivered so far, to be worked on.
    pub attempts: u32,
    /// When it came there.
    pub revision: Revision,
    /// What becomes of it.
    pub state: QueuedState,
}

/// Where an item stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueuedState {
    /// It waits to be taken.
    Waiting,
    /// This worker has it. None: its worker is gone, and whoever looks for work next puts it back.
    Running(Option<Contender>),
    /// It failed too often.
    Dead,
}

/// All items: those that wait, in the order in which they are taken, those that are worked on, and
/// dead letters.
pub(super) async fn items(client: &Client, layout: &Layout) -> Result<Vec<Queued>> {
    let order = match layout.discipline {
        Discipline::Fifo => SortBy::ModRevision,
        Discipline::Priority => SortBy::Key,
    };
    let waiting = Get::new(layout.items()).sort(order, Order::Ascending);
    let others = [layout.runs(), layout.workers(), layout.dead_letters()].map(Get::new);
    let answer = client.txn().and_then([waiting]).and_then(others).await?;
    let mut read = answer.responses.into_iter().filter_map(OpResponse::into_get);
    let mut next = || read.next().map(|get| get.kvs).ok_or_else(crate::ops::other_kind);
    let (waiting, runs, workers, dead) = (next()?, next()?, next()?, next()?);
    let mut workers: HashMap<_, _> = workers
        .iter()
        .filter_map(|kv| Some((layout.job_of_worker(&kv.key)?, worker(kv))))
        .collect();
    let one = |kv: KeyValue, attempts, state| {
        let KeyValue { key, value, mod_revision: revision, .. } = kv;
        Queued { key, value, attempts, revision, state }
    };
    let waiting = waiting.into_iter().map(|kv| {
        let failures = failures_of(&kv.key);
        one(kv, failures, QueuedState::Waiting)
    });
    let running = runs.into_iter().map(|kv| {
        let job = layout.job_of_run(&kv.key).unwrap_or_default();
        let attempts = failures_of(name_of(&job)).saturating_add(1);
        one(kv, attempts, QueuedState::Running(workers.remove(&job)))
    });
    let dead = dead.into_iter().map(|kv| {
        let job = layout.job_of_dead(&kv.key).unwrap_or_default();
        one(kv, failures_of(name_of(&job)).saturating_add(1), QueuedState::Dead)
    });
    Ok(waiting.chain(running).chain(dead).collect())
}

fn worker(kv: &KeyValue) -> Contender {
    Contender {
        key: kv.key.clone(),
        lease: kv.lease,
        create_revision: kv.create_revision,
        holder: serde_json::from_slice(&kv.value).ok(),
        value: kv.value.clone(),
    }
}

/// Deletes an item that waits, or a dead letter.
pub(super) async fn remove(work: &Work, key: Key) -> Result<bool> {
    let (layout, key) = (work.layout(), key.into_bytes());
    if !layout.items().contains(&key) && !layout.dead_letters().contains(&key) {
        return Err(Error::invalid("key", "it is not that of an item that waits, or is dead"));
    }
    let delete = Op::from(Delete::new(key));
    let deleted = work.client().execute(delete).await?.into_delete();
    Ok(deleted.ok_or_else(crate::ops::other_kind)?.deleted > 0)
}
