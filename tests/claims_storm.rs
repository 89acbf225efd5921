//! Crowds at a read-write lock and at a semaphore, so large that some follow everybody and others
//! only whoever is in their way; they give up, come again, and the number of permits changes. In
//! virtual time, in which nobody waits for much longer than those before it hold.

use std::{cell::Cell, time::Duration};

use futures::future::join_all;
use tenure::{Acquire, Held, RwLock, Semaphore};
use tenure_testkit::virtual_time;
use tokio::time::{sleep, timeout};

#[path = "support/asking.rs"]
mod asking;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;
#[path = "support/weather.rs"]
mod weather;

use asking::{keys_are, take};
use lock::stranger;
use weather::Chance;

const CROWD: usize = 45;
const ROUNDS: usize = 4;
/// How long one holds, in milliseconds.
const HOLD: u64 = 20;

/// Waits for it, or gives up early, in one way or another.
async fn ask<G>(acquire: Acquire<G>, chance: &mut Chance) -> Option<G> {
    match chance.below(6) {
        0 => timeout(chance.millis(300), acquire.into_future()).await.ok()?.ok(),
        1 => acquire.timeout(chance.millis(300)).await.ok(),
        _ => Some(take(acquire).await),
    }
}

/// How much is out.
#[derive(Default)]
struct Out(Cell<u64>);

impl Out {
    /// Holds for a while.
    async fn hold(&self, held: &Held, weight: u64, most: &Cell<u64>, chance: &mut Chance) {
        assert!(held.is_held());
        self.0.set(self.0.get() + weight);
        assert!(self.0.get() <= most.get(), "{} are out", self.0.get());
        sleep(chance.millis(HOLD)).await;
        self.0.set(self.0.get() - weight);
    }
}

#[test]
fn in_a_crowd_of_readers_and_writers_everybody_has_its_turn() {
    const WRITER: u64 = 1000;
    for seed in 1..3 {
        virtual_time(async |server| {
            let (out, most) = (Out::default(), Cell::new(WRITER));
            let one = async |number: usize| {
                let mut chance = Chance(seed * 1000 + number as u64);
                let lock = RwLock::new(&stranger(&server).await, "config");
                for _ in 0..ROUNDS {
                    if chance.below(3) > 0 {
                        if let Some(read) = ask(lock.read(), &mut chance).await {
                            out.hold(&read, 1, &most, &mut chance).await;
                        }
                        continue;
                    }
                    let Some(write) = ask(lock.write(), &mut chance).await else { continue };
                    out.hold(&write, WRITER, &most, &mut chance).await;
                    if chance.below(2) == 0 {
                        let read = write.downgrade().await.unwrap();
                        out.hold(&read, 1, &most, &mut chance).await;
                    }
                }
            };
            join_all((0..CROWD).map(one)).await;
            let client = server.client().await.unwrap();
            keys_are(&client, "tenure/rwlock/", 0).await;
        });
    }
}

#[test]
fn in_a_crowd_that_shares_permits_everybody_has_its_turn_though_their_number_changes() {
    // With few of them most wait; with many, a queue is long before anybody waits.
    for (seed, permits) in [(1, 3), (2, 40)] {
        virtual_time(async |server| {
            let out = Out::default();
            // What is out may be as much as there ever were.
            let most = Cell::new(u64::from(permits) + 5);
            let is_over = Cell::new(false);
            let one = async |number: usize| {
                let mut chance = Chance(seed * 1000 + number as u64);
                let jobs = Semaphore::new(&stranger(&server).await, "jobs", permits);
                drop(take(jobs.acquire(1)).await);
                for _ in 0..ROUNDS {
                    let wanted = 1 + chance.below(3) as u32;
                    if let Some(held) = ask(jobs.acquire(wanted), &mut chance).await {
                        out.hold(&held, wanted.into(), &most, &mut chance).await;
                    }
                }
            };
            let resize = async {
                let mut chance = Chance(seed);
                let jobs = Semaphore::new(&stranger(&server).await, "jobs", permits);
                drop(take(jobs.acquire(1)).await);
                while !is_over.get() {
                    // Never fewer than somebody may ask for.
                    let now = (permits - 3).max(3) + chance.below(5) as u32;
                    jobs.resize(now).await.unwrap();
                    sleep(Duration::from_millis(100) + chance.millis(300)).await;
                }
            };
            // Whoever is the first to come agrees with the rest, before it changes.
            let crowd = async {
                join_all((0..CROWD).map(one)).await;
                is_over.set(true);
            };
            let late = async {
                sleep(Duration::from_millis(500)).await;
                resize.await;
            };
            futures::join!(crowd, late);
            let client = server.client().await.unwrap();
            keys_are(&client, "tenure/semaphore/jobs/permits/", 0).await;
        });
    }
}
