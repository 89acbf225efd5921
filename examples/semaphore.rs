//! A semaphore: of five workers, two at a time may upload.
//!
//!     cargo run --example semaphore
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example semaphore

use std::time::Duration;

use futures::future::try_join_all;
use tenure::{Client, ErrorKind, Semaphore, Session};
use tenure_testkit::Playground;
use tokio::time::sleep;

async fn upload(client: &Client, worker: usize) -> tenure::Result<()> {
    let session = Session::builder().name(format!("worker {worker}")).open(client).await?;
    let permit = Semaphore::new(&session, "uploads", 2).acquire(1).await?;
    println!("worker {worker} uploads");
    sleep(Duration::from_millis(100)).await;
    println!("worker {worker} is done");
    permit.release().await?;
    session.close().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;
    try_join_all((1..=5).map(|worker| upload(&client, worker))).await?;

    // All must agree on how many there are.
    let session = Session::open(&client).await?;
    let refused = Semaphore::new(&session, "uploads", 7).acquire(1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    println!("{refused}");

    // Or the number is changed, while others use it.
    let uploads = Semaphore::new(&session, "uploads", 2);
    let small = uploads.acquire(2).await?;
    println!("there were {}", uploads.resize(3).await?);
    let third = uploads.try_acquire(1).await?;
    println!("one more at once: {}", third.is_some());
    drop((small, third));
    uploads.resize(2).await?;

    session.close().await?;
    client.close().await;
    Ok(())
}
