//! Keys: write, read, change only if nobody else did.
//!
//!     cargo run --example kv
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example kv

use tenure::{Client, Compare, Get, KeyRange, Put};
use tenure_testkit::Playground;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;

    let written = client.put("greeting", "hello").await?;
    println!("wrote `greeting` at revision {}", written.header.revision);

    let read = client.get("greeting").await?;
    let greeting = read.kv().expect("it was just written");
    println!("read it back: {:?}", greeting.value);

    // Both happen, or neither: and only if nobody wrote in between.
    let changed = client
        .txn()
        .when([Compare::mod_revision("greeting").equal(greeting.mod_revision)])
        .and_then([Put::new("greeting", "good evening"), Put::new("greeted", "world")])
        .or_else([Get::new("greeting")])
        .await?;
    println!("changed it without stepping on anybody: {}", changed.succeeded);

    let old = client.get("greeting").revision(greeting.mod_revision).await?;
    println!("what it was before is still there: {:?}", old.into_kv().map(|kv| kv.value));

    let all = client.get(KeyRange::prefix("greet")).keys_only().await?;
    let keys: Vec<_> = all.kvs.iter().map(|kv| &kv.key).collect();
    println!("keys that begin with `greet`: {keys:?}");

    let deleted = client.delete(KeyRange::prefix("greet")).await?;
    println!("deleted {} of them", deleted.deleted);

    client.close().await;
    Ok(())
}
