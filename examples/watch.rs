//! Watches: every change, once, in order.
//!
//!     cargo run --example watch

use futures::TryStreamExt;
use tenure::{Client, EventKind, KeyRange, Put, Txn};
use tenure_testkit::Playground;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;

    // Awaiting it means: the server has it, nothing from here on is missed.
    let mut changes = client.watch(KeyRange::prefix("job/")).prev_kv().await?;
    println!("watching `job/`");

    client.put("job/1", "ready").await?;
    // What one transaction does arrives together.
    let both = Txn::new().and_then([Put::new("job/1", "done"), Put::new("job/2", "ready")]);
    client.execute(both).await?;
    client.delete(KeyRange::prefix("job/")).await?;

    let mut gone = 0;
    while gone < 2 {
        let Some(change) = changes.try_next().await? else { break };
        for event in change.events() {
            let key = String::from_utf8_lossy(&event.kv.key);
            let before = event.prev_kv.as_ref().map(|kv| String::from_utf8_lossy(&kv.value));
            let at = event.kv.mod_revision;
            match event.kind {
                EventKind::Put => {
                    println!("revision {at}: {key} = {:?}, before: {before:?}", event.kv.value);
                }
                EventKind::Delete => {
                    println!("revision {at}: {key} deleted, was: {before:?}");
                    gone += 1;
                }
            }
        }
    }

    // The past can be watched too, as long as it is not compacted away.
    client.compact(changes.created_revision().expect("it was accepted").next()).await?;
    let past = client.watch("job/1").start_revision(1.into()).await?.try_next().await;
    println!("watching from revision 1: {}", past.expect_err("it is compacted away"));
    client.close().await;
    Ok(())
}
