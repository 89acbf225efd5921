//! A work queue: what a worker does not acknowledge comes to another one.
//!
//!     cargo run --example queue
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example queue

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::{Client, Json, Queue, QueuedState, Session};
use tenure_testkit::Playground;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

/// Sends mails until there are none for a while.
async fn work(client: Client, name: &str) -> tenure::Result<()> {
    let session = Session::builder().name(name).open(&client).await?;
    let mails = Queue::new(&session, "mails").max_attempts(3);
    while let Ok(delivery) = mails.take_leased().timeout(Duration::from_millis(500)).await {
        let (mail, attempt) = (delivery.json::<Mail>()?, delivery.attempts());
        if mail.to == "nobody" {
            println!("{name} cannot reach {}, attempt {attempt}", mail.to);
            delivery.nack().await?; // comes again, as the last
            continue;
        }
        // Written once, though the mail be delivered twice: etcd refuses whoever has lost it.
        delivery.kv().put(format!("sent/{}", mail.to), name).await?;
        println!("{name} reached {}, attempt {attempt}", mail.to);
        delivery.ack().await?;
    }
    session.close().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;
    let session = Session::open(&client).await?;
    let mails = Queue::new(&session, "mails");
    for to in ["ann", "nobody", "bob", "eve"] {
        mails.enqueue(Json(Mail { to: to.into() })).await?;
    }
    tokio::try_join!(work(client.clone(), "one"), work(client.clone(), "two"))?;

    for left in mails.items().await? {
        assert_eq!(left.state, QueuedState::Dead);
        println!("after {} attempts: {:?}", left.attempts, left.value);
        mails.remove(left.key).await?;
    }
    session.close().await?;
    client.close().await;
    Ok(())
}
