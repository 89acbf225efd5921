//! Ten thousand leases kept alive over one stream: what is lost, sent, and used.
//!
//!     crates/bench/run leases
//!
//! Starts an etcd of its own, found as the tests find theirs. Prints one line of JSON. `TENURE_BENCH_SECS` is how long they are
//! kept, 60 by default. What the machine decides (CPU, memory) is printed only; fails when a lease
//! is lost, or renewed more often than its TTL asks for.

use std::{env, fs, future::IntoFuture, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use tenure::{Client, KeepAlive, LeaseState};
use tenure_testkit::{Cluster, find_servers};

const LEASES: usize = 10_000;
const TTL: Duration = Duration::from_secs(15);
const RECEIVED: &str = concat!(
    r#"grpc_server_msg_received_total{grpc_method="LeaseKeepAlive","#,
    r#"grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}"#,
);
const STREAMS: &str = concat!(
    r#"grpc_server_started_total{grpc_method="LeaseKeepAlive","#,
    r#"grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}"#,
);

/// What this process uses.
struct Usage {
    resident_kib: f64,
    cpu: Duration,
}

impl Usage {
    /// Linux only: zeros elsewhere.
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident_kib = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        // Nanoseconds on the CPU, of each thread.
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let nanos = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Self { resident_kib: resident_kib.unwrap_or(0.0), cpu: Duration::from_nanos(nanos.sum()) }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let seconds = env::var("TENURE_BENCH_SECS").ok().map_or(Ok(60), |text| text.parse())?;
    let etcd = find_servers()?.remove(0);
    let cluster = Cluster::builder(&etcd).start().await?;
    let client = Client::connect(cluster.endpoints()).await?;
    let metric = async |name| cluster.member(0).metric(name).await.unwrap_or(0.0);

    client.leases().await?;
    let before = Usage::now();
    let grants: Vec<_> = stream::iter(0..LEASES)
        .map(|_| client.lease_grant(TTL).into_future())
        .buffer_unordered(64)
        .try_collect()
        .await?;
    let mut kept: Vec<KeepAlive> = Vec::with_capacity(LEASES);
    for grant in &grants {
        kept.push(client.lease_keep_alive(grant).await?);
    }
    drop(grants);
    tokio::time::sleep(TTL / 3).await;

    let (sent, begin) = (metric(RECEIVED).await, Usage::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (sent, end) = (metric(RECEIVED).await - sent, Usage::now());

    let lost = kept.iter().filter(|kept| kept.state() != LeaseState::Healthy).count();
    let streams = metric(STREAMS).await;
    let renewals = sent / LEASES as f64;
    let micros = (end.cpu - begin.cpu).as_secs_f64() * 1e6 / sent;
    let kib = (end.resident_kib - before.resident_kib) / LEASES as f64;
    println!(
        r#"{{"bench":"ten_thousand_leases","etcd":"{etcd}","leases":{LEASES},"ttl_s":{},"seconds":{seconds},"lost":{lost},"streams":{streams},"renewals_per_lease":{renewals:.2},"cpu_us_per_renewal":{micros:.2},"kib_per_lease":{kib:.3}}}"#,
        TTL.as_secs(),
    );
    // A lease rests for three tenths of its TTL after each renewal.
    let most = seconds as f64 / (0.3 * TTL.as_secs_f64()) + 1.0;
    anyhow::ensure!(lost == 0, "{lost} leases are lost, or in jeopardy");
    anyhow::ensure!(renewals <= most, "{renewals} renewals of each lease, at most {most} are due");
    anyhow::ensure!(streams == 1.0, "{streams} streams");
    Ok(())
}
