//! Leases: keys that go when their owner goes.
//!
//!     cargo run --example lease

use std::time::Duration;

use futures::TryStreamExt;
use tenure::{Client, EventKind, LeaseState};
use tenure_testkit::Playground;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;

    let lease = client.lease_grant(Duration::from_secs(2)).await?;
    println!("lease {} lives for {:?} without a renewal", lease.id, lease.ttl);

    client.put("worker/1", "alive").lease(lease.id).await?;
    let mut key = client.watch("worker/1").await?;

    // Renewals happen in the background for as long as this is held.
    let kept = client.lease_keep_alive(&lease).await?;
    assert_eq!(kept.state(), LeaseState::Healthy);
    let left = kept.deadline().since(client.clock().now());
    println!("it is ours for {left:.1?} more, whatever happens to the network");

    let found = client.lease_time_to_live(lease.id).keys().await?;
    println!("it holds {:?}", found.keys);

    println!("letting go of it...");
    drop(kept);
    while let Some(change) = key.try_next().await? {
        if change.events().iter().any(|event| event.kind == EventKind::Delete) {
            println!("the key went with its lease");
            break;
        }
    }
    client.close().await;
    Ok(())
}
