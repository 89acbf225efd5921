//! What is in a queue.

use serde_json::{Map, Value, json};
use tenure::{Client, PriorityQueue, Queue, Queued, QueuedState};

use super::{
    contenders::{as_json, describe},
    table::table,
};
use crate::{
    bytes_text::{insert, shown},
    exit::Failure,
    target::Target,
};

/// The items of a queue: those that wait, those that are worked on, and dead letters.
pub(super) struct Items(Vec<Queued>);

impl Items {
    pub(super) async fn fifo(client: &Client, target: &Target) -> Result<Self, Failure> {
        Ok(Self(match target.raw_prefix() {
            Some(prefix) => Queue::inspect_at(client, prefix).await?,
            None => Queue::inspect(client, target.name()).await?,
        }))
    }

    pub(super) async fn by_priority(client: &Client, target: &Target) -> Result<Self, Failure> {
        Ok(Self(match target.raw_prefix() {
            Some(prefix) => PriorityQueue::inspect_at(client, prefix).await?,
            None => PriorityQueue::inspect(client, target.name()).await?,
        }))
    }

    pub(super) fn add_to(&self, object: &mut Map<String, Value>) {
        let items: Vec<Value> = self.0.iter().map(item_as_json).collect();
        object.insert("items".into(), items.into());
    }

    pub(super) fn as_text(&self, target: &Target) -> String {
        if self.0.is_empty() {
            return format!("nothing is in the queue {target}");
        }
        let head = ["", "ATTEMPTS", "VALUE", "REVISION", "KEY", "WORKER"];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(self.0.iter().map(row));
        table(&rows)
    }
}

fn state(item: &Queued) -> &'static str {
    match item.state {
        QueuedState::Waiting => "waits",
        QueuedState::Running(Some(_)) => "runs",
        QueuedState::Running(None) => "orphaned",
        QueuedState::Dead => "dead",
        _ => "unknown",
    }
}

fn item_as_json(item: &Queued) -> Value {
    let mut object = Map::new();
    insert(&mut object, "key", &item.key);
    insert(&mut object, "value", &item.value);
    object.insert("state".into(), state(item).into());
    object.insert("attempts".into(), json!(item.attempts));
    object.insert("revision".into(), item.revision.0.into());
    if let QueuedState::Running(Some(worker)) = &item.state {
        object.insert("worker".into(), as_json(worker).into());
    }
    object.into()
}

fn row(item: &Queued) -> Vec<String> {
    let worker = match &item.state {
        QueuedState::Running(Some(worker)) => describe(worker),
        _ => "-".to_owned(),
    };
    let (attempts, revision) = (item.attempts.to_string(), item.revision.to_string());
    let (value, key) = (shown(&item.value), shown(&item.key));
    vec![state(item).to_owned(), attempts, value, revision, key, worker]
}
