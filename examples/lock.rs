//! A lock: two workers, one critical section, and a write that only the holder can make.
//!
//!     cargo run --example lock
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example lock

use tenure::{Client, ErrorKind, Mutex, Session};
use tenure_testkit::Playground;

/// Adds a stroke to a counter, three times, each time under the lock.
async fn work(client: Client, name: &str) -> tenure::Result<()> {
    let session = Session::builder().name(name).open(&client).await?;
    let lock = Mutex::new(&session, "counter");
    for _ in 0..3 {
        let guard = lock.acquire().await?;
        let read = client.get("counter").await?;
        let count = 1 + read.into_kv().map_or(0, |kv| kv.value.len());
        guard.kv().put("counter", "|".repeat(count)).await?;
        println!("{name} counts {count} under fence {}", guard.fence());
        guard.release().await?;
    }
    session.close().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;
    client.delete("counter").await?;

    tokio::try_join!(work(client.clone(), "ann"), work(client.clone(), "bob"))?;
    let counted = client.get("counter").await?.into_kv().map(|kv| kv.value);
    println!("both are done: {counted:?}");

    // What a holder believes does not matter: etcd refuses its writes once the lock is gone.
    let session = Session::open(&client).await?;
    let guard = Mutex::new(&session, "counter").acquire().await?;
    client.delete(guard.key()).await?; // an administrator was here
    let refused = guard.kv().put("counter", "").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Lost);
    println!("after that: {refused}");

    session.close().await?;
    client.close().await;
    Ok(())
}
