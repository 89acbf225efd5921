//! Barriers: nobody starts before the data is there, and all three workers go step by step.
//!
//!     cargo run --example barrier
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example barrier

use tenure::{Barrier, Client, CountDownLatch, DoubleBarrier, Session};
use tenure_testkit::Playground;

const WORKERS: usize = 3;

/// Waits for the data, does two steps together with the others, and says that it is done.
async fn work(client: Client, name: &str) -> tenure::Result<()> {
    Barrier::new(&client, "data").wait().await?;
    println!("{name} sees the data");

    let session = Session::builder().name(name).open(&client).await?;
    let step = DoubleBarrier::new(&session, "step", WORKERS);
    for number in 1..=2 {
        let member = step.enter().await?; // all are there
        println!("{name} does step {number}");
        member.leave().await?; // all have done it
    }
    // Said again after a failure, it would still count once.
    let missing = CountDownLatch::new(&client, "done").count_down().arrival(name).await?;
    println!("{name} is done, {missing} to go");
    session.close().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;

    let done = CountDownLatch::new(&client, "done");
    done.try_set_count(WORKERS as u64).await?;

    // Should this process die, its session ends, and the barrier opens.
    let session = Session::open(&client).await?;
    let guard = Barrier::new(&client, "data").hold(&session).await?;
    let workers = ["ann", "bob", "eve"].map(|name| tokio::spawn(work(client.clone(), name)));
    println!("loading the data...");
    client.put("data", "loaded").await?;
    if let Some(guard) = guard {
        guard.release().await?;
    }

    done.wait().await?;
    println!("all are done");
    for worker in workers {
        worker.await??;
    }
    session.close().await?;
    client.close().await;
    Ok(())
}
