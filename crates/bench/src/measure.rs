//! Clocks and memory of this process, and the line that a run prints.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::Order;

/// Processor time of this process so far, user and system.
pub fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident memory of this process.
pub fn rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Runs `operation` so often by so many tasks as ordered, and prints what it took.
pub async fn closed_loop<F, Fut>(order: &Order, operation: F) -> anyhow::Result<()>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let share = order.count / order.tasks;
    let (began, cpu_before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..order.tasks)
        .map(|task| {
            let operation = operation.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(share);
                for number in 0..share {
                    let began = Instant::now();
                    operation(task * share + number).await?;
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
    report(order, latencies, began.elapsed(), cpu() - cpu_before);
    Ok(())
}

fn report(order: &Order, mut latencies: Vec<Duration>, took: Duration, cpu: Duration) {
    latencies.sort_unstable();
    let at = |percent: usize| {
        let place = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies.get(place).map(Duration::as_micros)
    };
    let operations = latencies.len().max(1) as f64;
    let line = json!({
        "peer": order.peer,
        "w": order.work,
        "c": order.tasks,
        "n": latencies.len(),
        "ops_s": (operations / took.as_secs_f64()).round(),
        "p50_us": at(50).map(|us| us as u64),
        "p99_us": at(99).map(|us| us as u64),
        "cpu_us_op": (cpu.as_secs_f64() * 1e7 / operations).round() / 10.0,
        "rss_kb": rss_kb(),
    });
    println!("{line}");
}
