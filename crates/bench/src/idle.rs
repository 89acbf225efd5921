//! Watches that nothing happens to, a task waiting at each: the memory that they take.

use std::time::{Duration, Instant};

use futures::StreamExt;

use crate::{
    Order,
    measure::{Outcome, cpu, rss_kb},
    peers,
};

/// Opened before anything is measured: what is there once for all of them.
const FIRST: usize = 10;

pub async fn run(order: &Order) -> anyhow::Result<()> {
    let mut open = Watches::of(order).await?;
    for number in 0..FIRST {
        open.one(format!("bench/idle/first/{number}")).await?;
    }
    let before = rss_kb();
    let (began, cpu_before) = (Instant::now(), cpu());
    for number in 0..order.tasks {
        open.one(format!("bench/idle/{number}")).await?;
    }
    let (took, spent) = (began.elapsed(), cpu() - cpu_before);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let kib = rss_kb().saturating_sub(before) as f64;
    Outcome::untimed(order.tasks, took, spent).with_each("kib_each", kib).report(order);
    Ok(())
}

enum Watches {
    Tenure(tenure::Client),
    EtcdClient(Box<etcd_client::Client>),
}

impl Watches {
    async fn of(order: &Order) -> anyhow::Result<Self> {
        Ok(match order.peer.as_str() {
            "tenure" | "tenure-local" => Self::Tenure(peers::tenure(order).await?),
            "etcd-client" => Self::EtcdClient(Box::new(peers::etcd_client(order).await?)),
            _ => return peers::none_such(order),
        })
    }

    async fn one(&mut self, key: String) -> anyhow::Result<()> {
        match self {
            Self::Tenure(client) => {
                let mut watch = client.watch(key).await?;
                tokio::spawn(async move { while watch.next().await.is_some() {} });
            }
            Self::EtcdClient(client) => {
                let mut watch = client.watch(key, None).await?;
                tokio::spawn(async move { while let Ok(Some(_)) = watch.message().await {} });
            }
        }
        Ok(())
    }
}
