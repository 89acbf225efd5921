//! Other processes of this program, where a run needs some.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin, stdin},
    process::{self, ChildStdin, ChildStdout, Command},
};

use crate::{
    Order,
    locks::{Spent, Window, contend, locks, name_of},
    measure::{Outcome, cpu, machine_time, rss_kb},
    pb::etcdserverpb::{PutRequest, kv_client::KvClient},
    peers,
};

/// A process of this program. It says when it is ready, does what lines tell it, and after the
/// last of them says what came of it.
pub struct Child {
    said: Lines<BufReader<ChildStdout>>,
    told: ChildStdin,
    _process: process::Child,
}

impl Child {
    /// Starts it, and waits until it is ready.
    pub async fn start(order: &Order) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([&order.work, "--peer", &order.peer, "--endpoint", &order.endpoint])
            .args(["--tasks", &order.tasks.to_string(), "--name", &order.name])
            .args(["--seconds", &order.time.as_secs_f64().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = process.stdout.take().context("a pipe from it")?;
        let told = process.stdin.take().context("a pipe to it")?;
        let mut child = Self { said: BufReader::new(said).lines(), told, _process: process };
        match child.said.next_line().await? {
            Some(line) if line == "ready" => Ok(child),
            other => bail!("{} said {other:?}", order.work),
        }
    }

    pub async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.told.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// Tells it no more, and waits for what it says at the end.
    pub async fn finish<T: for<'de> Deserialize<'de>>(self) -> anyhow::Result<T> {
        let Self { mut said, told, _process } = self;
        drop(told);
        let line = said.next_line().await?.context("a process ended too early")?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// The other side of that: what it is told.
fn ready() -> Lines<BufReader<Stdin>> {
    println!("ready");
    BufReader::new(stdin()).lines()
}

fn say(result: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}

/// What one of several contending processes did.
#[derive(Serialize, Deserialize)]
struct Share {
    latencies: Vec<Duration>,
    cpu: Duration,
    rss_kb: u64,
}

/// As many processes as ordered, each with a client and a session of its own, and one lock.
pub async fn contend_all(order: &Order) -> anyhow::Result<()> {
    let each = Order { work: "contender".into(), tasks: 1, name: name_of(order), ..order.clone() };
    let mut children = Vec::with_capacity(order.tasks);
    for _ in 0..order.tasks {
        children.push(Child::start(&each).await?);
    }
    for child in &mut children {
        child.tell("go").await?;
    }
    let spent = Spent::during(order, Window::of(order.time)).await?;
    let mut shares: Vec<Share> = Vec::with_capacity(children.len());
    for child in children {
        shares.push(child.finish().await?);
    }
    let cpu = shares.iter().map(|share| share.cpu).sum();
    let rss_kb = shares.iter().map(|share| share.rss_kb).sum::<u64>() / shares.len().max(1) as u64;
    let latencies = shares.into_iter().flat_map(|share| share.latencies).collect();
    let outcome = Outcome { rss_kb, ..Outcome::new(latencies, order.time, cpu) };
    spent.add_to(outcome).report(order);
    Ok(())
}

/// One of the processes that contend.
pub async fn contender(order: &Order) -> anyhow::Result<()> {
    let locks = locks(order, &vec![order.name.clone(); order.tasks]).await?;
    ready().next_line().await?;
    let window = Window::of(order.time);
    let spent = tokio::spawn(async move {
        window.begins().await;
        let began = cpu();
        window.ends().await;
        cpu() - began
    });
    let latencies = contend(locks, window).await?;
    say(&Share { latencies, cpu: spent.await?, rss_kb: rss_kb() })
}

/// The process that writes other keys meanwhile, with two tasks.
pub async fn start_writers(order: &Order) -> anyhow::Result<Child> {
    let writers = Order { work: "writers".into(), peer: "tonic".into(), tasks: 2, ..order.clone() };
    Child::start(&writers).await
}

/// Writes as fast as the server lets so many tasks, until it is told no more; says how many puts
/// a second that were.
pub async fn writers(order: &Order) -> anyhow::Result<()> {
    let kv = KvClient::new(peers::tonic(order).await?);
    let written = Arc::new(AtomicU64::new(0));
    let mut input = ready();
    let began = machine_time();
    for task in 0..order.tasks {
        let (mut kv, written) = (kv.clone(), Arc::clone(&written));
        let key = format!("bench/writer/{task}");
        tokio::spawn(async move {
            while kv.put(put(&key, vec![b'v'; 256])).await.is_ok() {
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while input.next_line().await?.is_some() {}
    let took = machine_time() - began;
    say(&(written.load(Ordering::Relaxed) as f64 / took.as_secs_f64()))
}

/// The process that puts the key of this name, the time of the put in it, once for each line.
pub async fn start_putter(order: &Order, key: &str) -> anyhow::Result<Child> {
    let (peer, name) = ("tonic".into(), key.to_owned());
    Child::start(&Order { work: "putter".into(), peer, name, ..order.clone() }).await
}

pub async fn putter(order: &Order) -> anyhow::Result<()> {
    let mut kv = KvClient::new(peers::tonic(order).await?);
    let mut input = ready();
    while input.next_line().await?.is_some() {
        let now = machine_time().as_nanos() as u64;
        kv.put(put(&order.name, now.to_le_bytes().to_vec())).await?;
    }
    say(&())
}

fn put(key: &str, value: Vec<u8>) -> PutRequest {
    PutRequest { key: key.as_bytes().to_vec(), value, ..PutRequest::default() }
}
