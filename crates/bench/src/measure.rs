//! Clocks and memory of this process, and the line that a run prints.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::Order;

/// Processor time of this process so far, user and system.
pub fn cpu() -> Duration {
    time_of(rustix::time::ClockId::ProcessCPUTime)
}

/// A clock that all processes of the machine share.
pub fn machine_time() -> Duration {
    time_of(rustix::time::ClockId::Monotonic)
}

fn time_of(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Resident memory of this process.
pub fn rss_kb() -> u64 {
    rss_kb_of(std::process::id())
}

/// Resident memory of a process.
pub fn rss_kb_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// What a run came to.
pub struct Outcome {
    /// How many operations there were; as many as latencies, unless those are a sample.
    pub operations: usize,
    pub latencies: Vec<Duration>,
    pub took: Duration,
    pub cpu: Duration,
    pub rss_kb: u64,
    /// What only this work has.
    pub more: Map<String, Value>,
}

impl Outcome {
    pub fn new(latencies: Vec<Duration>, took: Duration, cpu: Duration) -> Self {
        let operations = latencies.len();
        Self { operations, latencies, took, cpu, rss_kb: rss_kb(), more: Map::new() }
    }

    /// Of so many operations, none of them timed by itself.
    pub fn untimed(operations: usize, took: Duration, cpu: Duration) -> Self {
        Self { operations, ..Self::new(Vec::new(), took, cpu) }
    }

    /// Something that only this work has.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.more.insert(name.to_owned(), json!((value * 1000.0).round() / 1000.0));
        self
    }

    /// Something that was counted, for each operation.
    pub fn with_each(self, name: &str, count: f64) -> Self {
        let each = count / self.operations.max(1) as f64;
        self.with(name, each)
    }

    /// Prints the line.
    pub fn report(mut self, order: &Order) {
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let place = self.latencies.len() * percent / 100;
            let place = place.min(self.latencies.len().saturating_sub(1));
            self.latencies.get(place).map(|latency| latency.as_micros() as u64)
        };
        let operations = self.operations.max(1) as f64;
        let mut line = json!({
            "peer": order.peer,
            "w": order.work,
            "c": order.tasks,
            "n": self.operations,
            "ops_s": (self.operations as f64 / self.took.as_secs_f64() * 10.0).round() / 10.0,
            "p50_us": at(50),
            "p99_us": at(99),
            "cpu_us_op": (self.cpu.as_secs_f64() * 1e8 / operations).round() / 100.0,
            "rss_kb": self.rss_kb,
        });
        line.as_object_mut().into_iter().for_each(|line| line.append(&mut self.more));
        println!("{line}");
    }
}

/// Runs `operation` so often by so many tasks as ordered, and prints what it took.
pub async fn closed_loop<F, Fut, T, E>(order: &Order, operation: F) -> anyhow::Result<()>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send,
    E: Into<anyhow::Error>,
{
    timed_loop(order, operation).await?.report(order);
    Ok(())
}

/// Runs `operation` so often by so many tasks as ordered.
pub async fn timed_loop<F, Fut, T, E>(order: &Order, operation: F) -> anyhow::Result<Outcome>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send,
    E: Into<anyhow::Error>,
{
    let share = order.count.div_ceil(order.tasks);
    let (began, cpu_before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..order.tasks)
        .map(|task| {
            let operation = operation.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(share);
                for number in 0..share {
                    let began = Instant::now();
                    operation(task * share + number).await.map_err(Into::into)?;
                    latencies.push(began.elapsed());
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::with_capacity(order.count);
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Outcome::new(latencies, began.elapsed(), cpu() - cpu_before))
}
