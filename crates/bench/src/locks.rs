//! Locks: taken and given back over and over, with nothing done in between.
//!
//! `lock` has as many names as tasks, `handover` one name for all. A hand-over is a release and the
//! next holder's acquisition, so there are as many of them as there are critical sections. Each
//! task has a session (for etcd-client a lease) of its own, as in Go's recipe, and all have one
//! client.

use std::time::{Duration, Instant};

use tenure::{Mutex, Session};

use crate::{
    Order,
    bare_lock::{self, BareLock},
    measure::{Outcome, cpu},
    peers,
    processes::start_writers,
    server::Counters,
};

/// The name that was ordered, else a new one: every run has locks of its own, whatever is left of
/// earlier ones.
pub fn name_of(order: &Order) -> String {
    match order.name.as_str() {
        "" => format!("bench/lock/{}", std::process::id()),
        name => name.to_owned(),
    }
}

/// A worn lock has been handed over for so many times as long as is measured: what contenders leave
/// behind in the server's index stays there until the next compaction, which may be hours away.
const WEAR: u32 = 4;

/// How a peer's user has a lock.
pub enum Lock {
    Tenure(Mutex),
    /// The server's lock service, and the lease that owns the key.
    EtcdClient(Box<etcd_client::LockClient>, String, i64),
    Tonic(Box<BareLock>),
}

impl Lock {
    pub async fn cycle(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Tenure(mutex) => {
                mutex.acquire().await?.release().await?;
            }
            Self::EtcdClient(client, name, lease) => {
                let options = etcd_client::LockOptions::new().with_lease(*lease);
                let held = client.lock(name.as_str(), Some(options)).await?;
                client.unlock(held.key()).await?;
            }
            Self::Tonic(lock) => lock.cycle().await?,
        }
        Ok(())
    }
}

/// A lock for each of these names, all from one client.
pub async fn locks(order: &Order, names: &[String]) -> anyhow::Result<Vec<Lock>> {
    let mut locks = Vec::with_capacity(names.len());
    match order.peer.as_str() {
        "tenure" | "tenure-local" | "tenure-at" | "tenure-one-session" => {
            let client = peers::tenure(order).await?;
            let mut session = Session::open(&client).await?;
            for name in names {
                locks.push(Lock::Tenure(match order.peer.as_str() {
                    "tenure-at" => Mutex::at(&session, name.clone()),
                    _ => Mutex::new(&session, name),
                }));
                if order.peer != "tenure-one-session" {
                    session = Session::open(&client).await?;
                }
            }
        }
        "etcd-client" => {
            let mut client = peers::etcd_client(order).await?;
            for name in names {
                // Longer than any run, so that nothing need be spent on keeping it.
                let lease = client.lease_grant(300, None).await?.id();
                locks.push(Lock::EtcdClient(Box::new(client.lock_client()), name.clone(), lease));
            }
        }
        "tonic" => {
            let bare = bare_lock::locks(order, names).await?;
            locks.extend(bare.into_iter().map(|lock| Lock::Tonic(Box::new(lock))));
        }
        _ => return peers::none_such(order),
    }
    Ok(locks)
}

/// What is measured: from when to when.
#[derive(Clone, Copy)]
pub struct Window {
    from: Instant,
    till: Instant,
}

impl Window {
    /// Begins when everybody has found a place in the queue, and has a watch that stands.
    pub fn of(time: Duration) -> Self {
        Self::after((time / 3).min(Duration::from_millis(500)), time)
    }

    fn after(wait: Duration, time: Duration) -> Self {
        let from = Instant::now() + wait;
        Self { from, till: from + time }
    }

    pub fn is_open(self) -> bool {
        Instant::now() >= self.from && !self.is_over()
    }

    pub fn is_over(self) -> bool {
        Instant::now() >= self.till
    }

    pub async fn begins(self) {
        tokio::time::sleep_until(self.from.into()).await;
    }

    pub async fn ends(self) {
        tokio::time::sleep_until(self.till.into()).await;
    }
}

/// Has every lock taken and given back, each by a task of its own, until the window ends; tells
/// how long each turn took that ended within it.
pub async fn contend(locks: Vec<Lock>, window: Window) -> anyhow::Result<Vec<Duration>> {
    let turns = locks.into_iter().map(|mut lock| {
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let began = Instant::now();
                lock.cycle().await?;
                let now = Instant::now();
                if now >= window.till {
                    return anyhow::Ok(latencies);
                }
                if now >= window.from {
                    latencies.push(now - began);
                }
            }
        })
    });
    let mut latencies = Vec::new();
    for task in turns.collect::<Vec<_>>() {
        latencies.extend(task.await??);
    }
    Ok(latencies)
}

/// What was spent while a window was open, by this process and by the server.
pub struct Spent {
    pub cpu: Duration,
    calls: f64,
    watch: f64,
    server: f64,
}

impl Spent {
    pub async fn during(order: &Order, window: Window) -> anyhow::Result<Self> {
        window.begins().await;
        let before = Counters::read(order).await?;
        let began = cpu();
        window.ends().await;
        let spent = cpu() - began;
        let after = Counters::read(order).await?;
        Ok(Self {
            cpu: spent,
            calls: after.calls() - before.calls(),
            watch: after.told("Watch") - before.told("Watch"),
            server: after.cpu() - before.cpu(),
        })
    }

    /// What the server did is of no use where others kept it busy.
    pub fn add_to(&self, outcome: Outcome) -> Outcome {
        outcome
            .with_each("rpcs_op", self.calls)
            .with_each("watch_msgs_op", self.watch)
            .with_each("server_us_op", self.server * 1e6)
    }
}

pub async fn run(order: &Order) -> anyhow::Result<()> {
    let name = name_of(order);
    let names: Vec<_> = match order.work.as_str() {
        "lock" => (0..order.tasks).map(|task| format!("{name}/{task}")).collect(),
        _ => vec![name; order.tasks],
    };
    let writers = match order.work.as_str() {
        "handover-busy" => Some(start_writers(order).await?),
        _ => None,
    };
    let locks = locks(order, &names).await?;
    let window = match order.work.as_str() {
        "handover-worn" => Window::after(order.time * WEAR, order.time),
        _ => Window::of(order.time),
    };
    let (latencies, spent) =
        tokio::try_join!(contend(locks, window), Spent::during(order, window))?;
    let outcome = Outcome::new(latencies, order.time, spent.cpu);
    let outcome = match writers {
        Some(writers) => outcome.with("writes_s", writers.finish().await?),
        None => spent.add_to(outcome),
    };
    outcome.report(order);
    Ok(())
}
