//! Who is woken when something becomes free: clients of their own wait for it, and the server
//! counts the events that it tells them.
//!
//! `semaphore-wakes` has one permit and `--tasks` waiters; an operation is a release, and the next
//! one's acquisition. `queue-wakes` has `--tasks` consumers with nothing to do; an operation is an
//! item that is put and taken.

use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};

use anyhow::Context;
use tenure::{Client, Permits, Queue, Semaphore, Session};

use crate::{
    Order,
    locks::name_of,
    measure::{Outcome, cpu},
    peers,
    server::Counters,
};

/// In so long the server has told all that it has to tell.
const SETTLE: Duration = Duration::from_millis(200);
/// How many items are put, one after the other.
const ITEMS: usize = 20;

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
    woken(order, Outcome::new(latencies, took, cpu() - cpu_before), &before).await
}

pub async fn queue(order: &Order) -> anyhow::Result<()> {
    let name = name_of(order);
    let (client, session) = waiter(order).await?;
    let items = Queue::new(&session, &name);
    let (told, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let mut clients = vec![(client, session)];
    let mut consumers = Vec::new();
    for _ in 0..order.tasks {
        let (client, session) = waiter(order).await?;
        let (queue, told) = (Queue::new(&session, &name), told.clone());
        clients.push((client, session));
        consumers.push(tokio::spawn(async move {
            while let Ok(item) = queue.take().await {
                let _ = told.send(item);
            }
        }));
    }
    // All stand in line, and the first of them is ready.
    tokio::time::sleep(SETTLE * 10).await;
    let before = Counters::read(order).await?;
    let (began, cpu_before) = (Instant::now(), cpu());
    let mut latencies = Vec::new();
    for _ in 0..order.count.min(ITEMS) {
        let put = Instant::now();
        items.enqueue("item").await?;
        taken.recv().await.context("somebody takes it")?;
        latencies.push(put.elapsed());
        // Whoever took it has gone to the end of the line.
        tokio::time::sleep(SETTLE).await;
    }
    let took = began.elapsed();
    let outcome = Outcome::new(latencies, took, cpu() - cpu_before);
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
    woken(order, outcome, &before).await
}

/// Reports what the server told whom since then.
async fn woken(order: &Order, outcome: Outcome, before: &Counters) -> anyhow::Result<()> {
    // What the last one wakes is told by now, or in a moment.
    tokio::time::sleep(SETTLE).await;
    let after = Counters::read(order).await?;
    outcome
        .with_each("wakes_op", after.events() - before.events())
        .with_each("rpcs_op", after.calls() - before.calls())
        .report(order);
    Ok(())
}
