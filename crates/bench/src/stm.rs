//! One counter that many tasks of a process add to, by one client: increments a second.

use std::time::{Duration, Instant};

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use tenure::{AtomicCounter, Error, Json, Stm};

use crate::{
    Order,
    locks::{Spent, Window, name_of},
    measure::Outcome,
    peers,
};

/// How a peer's user counts.
#[derive(Clone)]
enum Counter {
    Stm(Stm, String),
    Counter(AtomicCounter),
    /// Compared and set by hand.
    EtcdClient(Box<etcd_client::Client>, String),
}

impl Counter {
    async fn of(order: &Order) -> anyhow::Result<Self> {
        let key = name_of(order);
        Ok(match order.peer.as_str() {
            "tenure" => Self::Stm(Stm::new(&peers::tenure(order).await?), key),
            "tenure-counter" => Self::Counter(AtomicCounter::at(&peers::tenure(order).await?, key)),
            "etcd-client" => Self::EtcdClient(Box::new(peers::etcd_client(order).await?), key),
            _ => return peers::none_such(order),
        })
    }

    async fn increment(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Stm(stm, key) => {
                let added = stm.run(async |view| {
                    let value = view.get(key.as_str()).await?;
                    let number = value.map_or(Ok(Json(0_i64)), |value| Json::read(&value))?;
                    view.put(key.as_str(), Json(number.0 + 1))?;
                    Ok::<_, Error>(())
                });
                added.await?;
            }
            Self::Counter(counter) => drop(counter.add(1).await?),
            Self::EtcdClient(client, key) => compare_and_set(client, key).await?,
        }
        Ok(())
    }
}

async fn compare_and_set(client: &mut etcd_client::Client, key: &str) -> anyhow::Result<()> {
    let read = client.get(key, None).await?;
    let mut stored = read.kvs().first().cloned();
    loop {
        let revision = stored.as_ref().map_or(0, |kv| kv.mod_revision());
        let number: i64 = match &stored {
            Some(kv) => kv.value_str()?.parse()?,
            None => 0,
        };
        let txn = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, revision)])
            .and_then([TxnOp::put(key, (number + 1).to_string(), None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = client.txn(txn).await?;
        if answer.succeeded() {
            return Ok(());
        }
        for response in answer.op_responses() {
            if let TxnOpResponse::Get(get) = response {
                stored = get.kvs().first().cloned();
            }
        }
    }
}

async fn count(mut counter: Counter, window: Window) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    loop {
        let began = Instant::now();
        counter.increment().await?;
        if window.is_over() {
            return Ok(latencies);
        }
        if window.is_open() {
            latencies.push(began.elapsed());
        }
    }
}

pub async fn run(order: &Order) -> anyhow::Result<()> {
    let counter = Counter::of(order).await?;
    let window = Window::of(order.time);
    let tasks = (0..order.tasks).map(|_| tokio::spawn(count(counter.clone(), window)));
    let tasks: Vec<_> = tasks.collect();
    let spent = Spent::during(order, window).await?;
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    spent.add_to(Outcome::new(latencies, order.time, spent.cpu)).report(order);
    Ok(())
}
