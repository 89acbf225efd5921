//! What happens when the holder of a lock is stopped for longer than its session lives.
//!
//!     cargo run --example lock_loss

use std::{process::Command, time::Duration};

use tenure::{Client, Mutex, Session};
use tenure_testkit::Playground;

/// A process of its own: takes the lock, and wants to write when it is let go on.
async fn holder() -> anyhow::Result<()> {
    let client = Client::connect(Playground::new().await?.endpoints()).await?;
    let session = Session::builder().ttl(Duration::from_secs(2)).open(&client).await?;
    let guard = Mutex::new(&session, "report").acquire().await?;
    println!("first: mine, as {}", guard.fence());

    while client.get("report").await?.kv().is_none() {} // its work: stopped in the middle of it
    println!("first: back again; do I hold it? {}", guard.is_held());
    println!("first: lost, since {}", guard.lost().await);
    let refused = guard.kv().put("report", "old news").await.unwrap_err();
    println!("first: my write? {refused}");
    Ok(())
}

fn signal(name: &str, process: u32) -> anyhow::Result<()> {
    anyhow::ensure!(Command::new("kill").args([name, &process.to_string()]).status()?.success());
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).is_some() {
        return holder().await;
    }
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;
    client.delete("report").await?;
    let session = Session::open(&client).await?;
    let report = Mutex::new(&session, "report");

    let mut first = Command::new(std::env::current_exe()?)
        .arg("holder")
        .env("TENURE_ENDPOINTS", playground.endpoints().join(","))
        .spawn()?;
    while report.holders().await?.is_empty() {} // until the first has it
    signal("-STOP", first.id())?;
    println!("second: stopped the first, and wait");
    let guard = report.acquire().await?;
    println!("second: mine, as {}", guard.fence());
    guard.kv().put("report", "news").await?;

    signal("-CONT", first.id())?;
    anyhow::ensure!(first.wait()?.success());
    guard.release().await?;
    session.close().await?;
    Ok(())
}
