//! Transactions: seats are moved by many at once, and none is lost or taken twice.
//!
//!     cargo run --example stm
//!     TENURE_ENDPOINTS=10.0.0.1:2379 cargo run --example stm

use tenure::{AtomicCounter, Client, KeyRange, Stm};
use tenure_testkit::Playground;

#[derive(Debug, PartialEq)]
enum Refused {
    Full,
    Etcd(tenure::ErrorKind),
}

impl From<tenure::Error> for Refused {
    fn from(error: tenure::Error) -> Self {
        Self::Etcd(error.kind())
    }
}

/// Takes the first seat that is free. The closure runs again if somebody else was quicker.
async fn take_a_seat(stm: &Stm, guest: &str) -> Result<String, Refused> {
    stm.run(async |view| {
        let seats = view.range(KeyRange::prefix("seat/")).await?;
        let free = seats.into_iter().find(|(_, taken_by)| taken_by.is_empty());
        let (seat, _) = free.ok_or(Refused::Full)?;
        view.put(&seat, guest)?;
        Ok(String::from_utf8_lossy(&seat).into_owned())
    })
    .await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;
    let stm = Stm::new(&client);
    let free_all = stm.run(async |view| {
        ["seat/1", "seat/2", "seat/3"].into_iter().try_for_each(|seat| view.put(seat, ""))
    });
    free_all.await?;

    let guests = ["ann", "bob", "cid", "dan"];
    let seats = futures::future::join_all(guests.map(|guest| take_a_seat(&stm, guest))).await;
    for (guest, seat) in guests.into_iter().zip(&seats) {
        println!("{guest}: {seat:?}");
    }
    let full = seats.iter().filter(|seat| **seat == Err(Refused::Full));
    assert_eq!(full.count(), 1);

    // What needs one number only has a handle of its own.
    let guests = AtomicCounter::new(&client, "guests").add(3).await?;
    println!("{} guests so far", guests.after);

    client.close().await;
    Ok(())
}
