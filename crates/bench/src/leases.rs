//! Leases kept alive by one client: what is lost, sent, and used.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use tenure::{KeepAlive, LeaseState};

use crate::{
    Order,
    measure::{Outcome, cpu, rss_kb},
    peers,
    server::Counters,
};

const TTL: Duration = Duration::from_secs(15);
const METHOD: &str = "LeaseKeepAlive";
/// So many grants or revocations at once.
const AT_ONCE: usize = 64;

enum Kept {
    Tenure(tenure::Client, Vec<KeepAlive>),
    EtcdClient(Box<etcd_client::Client>, Vec<i64>, Arc<AtomicUsize>),
}

pub async fn run(order: &Order) -> anyhow::Result<()> {
    let before = Counters::read(order).await?;
    let kept = match order.peer.as_str() {
        "tenure" | "tenure-local" => tenure(order).await?,
        "etcd-client" => etcd_client(order).await?,
        _ => return peers::none_such(order),
    };
    let (memory, kept) = kept;
    tokio::time::sleep(TTL / 3).await;

    let first = Counters::read(order).await?;
    let (began, cpu_before) = (Instant::now(), cpu());
    tokio::time::sleep(order.time).await;
    let (took, spent) = (began.elapsed(), cpu() - cpu_before);
    let last = Counters::read(order).await?;

    let renewals = last.told(METHOD) - first.told(METHOD);
    let streams = last.streams(METHOD) - before.streams(METHOD);
    let kib = rss_kb().saturating_sub(memory) as f64 / order.tasks as f64;
    let each = renewals / order.tasks as f64;
    let lost = kept.lost();
    Outcome::untimed(renewals as usize, took, spent)
        .with("kib_each", kib)
        .with("streams", streams)
        .with("renewals_each", each)
        .with("lost", lost as f64)
        .report(order);
    kept.end().await?;
    // A lease of ours rests for three tenths of its TTL after each renewal.
    let most = took.as_secs_f64() / (0.3 * TTL.as_secs_f64()) + 1.0;
    ensure!(lost == 0, "{lost} leases are lost, or in jeopardy");
    if order.peer.starts_with("tenure") {
        ensure!(each <= most, "{each} renewals of each lease, at most {most} are due");
        ensure!(streams == 1.0, "{streams} streams");
    }
    Ok(())
}

/// One stream for all.
async fn tenure(order: &Order) -> anyhow::Result<(u64, Kept)> {
    let client = peers::tenure(order).await?;
    let memory = rss_kb();
    let grants: Vec<_> = stream::iter(0..order.tasks)
        .map(|_| client.lease_grant(TTL).into_future())
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let mut kept = Vec::with_capacity(order.tasks);
    for grant in &grants {
        kept.push(client.lease_keep_alive(grant).await?);
    }
    Ok((memory, Kept::Tenure(client, kept)))
}

/// A stream, a task and a timer for each, which is what its interface gives.
async fn etcd_client(order: &Order) -> anyhow::Result<(u64, Kept)> {
    let client = peers::etcd_client(order).await?;
    let memory = rss_kb();
    let lost = Arc::new(AtomicUsize::new(0));
    let leases = stream::iter(0..order.tasks)
        .map(|_| {
            let (mut client, lost) = (client.clone(), Arc::clone(&lost));
            async move {
                let id = client.lease_grant(TTL.as_secs().cast_signed(), None).await?.id();
                let (mut keeper, mut answers) = client.lease_keep_alive(id).await?;
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(TTL / 3).await;
                        let sent = keeper.keep_alive().await;
                        let answer = answers.message().await;
                        let lives =
                            answer.is_ok_and(|answer| answer.is_some_and(|it| it.ttl() > 0));
                        if sent.is_err() || !lives {
                            lost.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    }
                });
                anyhow::Ok(id)
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok((memory, Kept::EtcdClient(Box::new(client), leases, lost)))
}

impl Kept {
    fn lost(&self) -> usize {
        match self {
            Self::Tenure(_, kept) => {
                kept.iter().filter(|kept| kept.state() != LeaseState::Healthy).count()
            }
            Self::EtcdClient(_, _, lost) => lost.load(Ordering::Relaxed),
        }
    }

    /// Leaves the server without them, for the next run.
    async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Tenure(client, kept) => {
                let revoke = async |lease: KeepAlive| client.lease_revoke(lease.id()).await;
                let ends = stream::iter(kept).map(revoke).buffer_unordered(AT_ONCE);
                ends.try_for_each(|_| async { Ok(()) }).await?;
            }
            Self::EtcdClient(client, leases, _) => {
                let revoke = async |lease| client.lease_client().revoke(lease).await;
                let ends = stream::iter(leases).map(revoke).buffer_unordered(AT_ONCE);
                ends.try_for_each(|_| async { Ok(()) }).await?;
            }
        }
        Ok(())
    }
}
