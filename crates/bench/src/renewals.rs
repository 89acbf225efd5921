//! Locks on one session: however many, it sends the keep-alives of one lease.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use tenure::{Mutex, Session};

use crate::{
    Order,
    locks::name_of,
    measure::{Outcome, cpu},
    peers,
    server::Counters,
};

const TTL: Duration = Duration::from_secs(3);
const METHOD: &str = "LeaseKeepAlive";

pub async fn run(order: &Order) -> anyhow::Result<()> {
    let client = match order.peer.as_str() {
        "tenure" | "tenure-local" => peers::tenure(order).await?,
        _ => return peers::none_such(order),
    };
    let session = Session::builder().ttl(TTL).open(&client).await?;
    let name = name_of(order);
    let guards: Vec<_> = stream::iter(0..order.tasks)
        .map(|number| {
            let mutex = Mutex::new(&session, format!("{name}/{number}"));
            async move { mutex.acquire().await }
        })
        .buffer_unordered(64)
        .try_collect()
        .await?;

    let before = Counters::read(order).await?;
    let (began, cpu_before) = (Instant::now(), cpu());
    tokio::time::sleep(order.time).await;
    let (took, spent) = (began.elapsed(), cpu() - cpu_before);
    let after = Counters::read(order).await?;

    let renewals = after.told(METHOD) - before.told(METHOD);
    let lost = guards.iter().filter(|guard| !guard.is_held()).count();
    Outcome::untimed(renewals as usize, took, spent).with("lost", lost as f64).report(order);
    session.close().await?;
    Ok(())
}
