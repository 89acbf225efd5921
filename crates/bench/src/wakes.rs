//! Who is woken when something becomes free: clients of their own wait for it, and the server
//! counts the events that it tells them.
//!
//! `semaphore-wakes` has one permit and `--tasks` waiters; an operation is a release, and the next
//! one's acquisition.

use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};

use tenure::{Client, Permits, Semaphore, Session};

use crate::{
    Order,
    locks::name_of,
    measure::{Outcome, cpu},
    peers,
    server::Counters,
};

/// In so long the server has told all that it has to tell.
const SETTLE: Duration = Duration::from_millis(200);

/// One who waits, with a client of its own as a process has.
async fn waiter(order: &Order) -> anyhow::Result<(Client, Session)> {
    let client = peers::tenure(order).await?;
    let session = Session::open(&client).await?;
    Ok((client, session))
}

pub async fn semaphore(order: &Order) -> anyhow::Result<()> {
    let name = name_of(order);
    let (client, session) = waiter(order).await?;
    let semaphore = Semaphore::new(&session, &name, 1);
    let mut held = semaphore.acquire(1).await?;
    let mut clients = vec![(client, session)];
    let mut waiting = Vec::new();
    for place in 1..=order.tasks {
        let (client, session) = waiter(order).await?;
        let next = Semaphore::new(&session, &name, 1);
        waiting.push(tokio::spawn(next.acquire(1).into_future()));
        clients.push((client, session));
        while semaphore.holders().await?.len() <= place {
            tokio::task::yield_now().await;
        }
    }
    let before = Counters::read(order).await?;
    let (began, cpu_before) = (Instant::now(), cpu());
    let mut latencies = Vec::new();
    for next in waiting {
        let released = Instant::now();
        held.release().await?;
        held = next.await?? as Permits;
        latencies.push(released.elapsed());
    }
    let took = began.elapsed();
    // What the last one wakes is told by now, or in a moment.
    tokio::time::sleep(SETTLE).await;
    let after = Counters::read(order).await?;
    Outcome::new(latencies, took, cpu() - cpu_before)
        .with_each("wakes_op", after.events() - before.events())
        .with_each("rpcs_op", after.calls() - before.calls())
        .report(order);
    Ok(())
}
