//! A read-write lock: a configuration that many look at, and one changes.
//!
//!     cargo run --example rwlock
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example rwlock

use tenure::{Client, RwLock, Session};
use tenure_testkit::Playground;

/// Reads two keys that belong together.
async fn look(client: &Client, name: &str) -> tenure::Result<()> {
    let session = Session::builder().name(name).open(client).await?;
    let reading = RwLock::new(&session, "config").read().await?;
    let host = client.get("config/host").await?.into_kv();
    let port = client.get("config/port").await?.into_kv();
    println!("{name} sees {:?}", host.zip(port).map(|(host, port)| (host.value, port.value)));
    reading.release().await?;
    session.close().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;
    let session = Session::builder().name("operator").open(&client).await?;

    // Alone inside: nobody sees the one key without the other.
    let writing = RwLock::new(&session, "config").write().await?;
    let looking = tokio::spawn({
        let client = client.clone();
        async move { tokio::try_join!(look(&client, "ann"), look(&client, "bob")) }
    });
    writing.kv().put("config/host", "db-1").await?;
    writing.kv().put("config/port", "5432").await?;
    println!("operator wrote both, under fence {}", writing.fence());

    // From now on others may look, but nobody else can write before this one has looked, too.
    let reading = writing.downgrade().await?;
    looking.await??;
    assert!(reading.is_held());
    println!("{} inside still", RwLock::inspect(&client, "config").await?.len());
    reading.release().await?;

    session.close().await?;
    client.close().await;
    Ok(())
}
