//! An election: three candidates, an observer, and a leader that hands over.
//!
//!     cargo run --example election
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example election

use futures::TryStreamExt;
use tenure::{Client, Election, Observer, Session};
use tenure_testkit::Playground;

/// Stands, leads for a while, and resigns.
async fn candidate(client: Client, name: &str) -> tenure::Result<()> {
    let session = Session::builder().name(name).open(&client).await?;
    let election = Election::new(&session, "scheduler");
    let leadership = election.campaign(name).await?;
    println!("{name} leads in term {}", leadership.term());
    leadership.proclaim(format!("{name}, busy")).await?;
    leadership.kv().put("scheduler/last", name).await?; // refused once another one leads
    leadership.resign().await?;
    session.close().await
}

/// Tells who leads, until each of so many has.
async fn observe(observer: Observer, mut terms: usize) -> tenure::Result<()> {
    let mut leaders = observer.observe();
    let mut last = None;
    while let Some(leader) = leaders.try_next().await? {
        match &leader {
            Some(leader) => println!("seen: {}", String::from_utf8_lossy(&leader.value)),
            None => println!("seen: nobody"),
        }
        let term = leader.map(|leader| leader.term);
        terms -= usize::from(last.is_some() && term != last);
        last = term;
        if terms == 0 {
            break;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;
    tokio::try_join!(
        observe(Observer::new(&client, "scheduler"), 3),
        candidate(client.clone(), "ann"),
        candidate(client.clone(), "bob"),
        candidate(client.clone(), "eve"),
    )?;
    client.close().await;
    Ok(())
}
