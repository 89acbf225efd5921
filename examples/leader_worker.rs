//! A worker that runs only while its process leads: start this twice, and end one with Ctrl-C.
//!
//!     cargo run --example leader_worker
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example leader_worker
//!
//! Without endpoints it is alone on an embedded server, and ends after three steps.

use std::{sync::Arc, time::Duration};

use tenure::{Client, Election, Reign, Session};
use tenure_testkit::Playground;

/// The work of one term: step after step, until it is told to stop.
async fn work(reign: Arc<Reign>) {
    println!("leading in term {}", reign.term());
    for step in 1.. {
        tokio::select! {
            () = reign.stopping() => break,
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
        }
        // Refused by etcd if another one leads by now.
        if let Err(error) = reign.kv().put("worker/step", step.to_string()).await {
            println!("step {step} was not done: {error}");
            break;
        }
        println!("step {step}");
    }
    println!("the work has stopped");
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let alone = std::env::var_os("TENURE_ENDPOINTS").is_none();
    let client = Client::connect(playground.endpoints()).await?;
    let session = Session::builder().reenter().open(&client).await?;

    let leading = Election::new(&session, "worker").lead(work).value("a worker").start()?;
    let health = leading.health(); // for the service's liveness probe
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = tokio::time::sleep(Duration::from_secs(1)), if alone => {}
        ended = leading.ended() => ended?,
    }
    health.check()?;

    // In this order: the work, the leadership, the session. The next one leads at once.
    leading.stop().await?;
    session.close().await?;
    client.close().await;
    Ok(())
}
