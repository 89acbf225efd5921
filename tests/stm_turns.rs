//! Transactions of one client that fight over keys take turns, which cost nobody else anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use tenure::{AtomicCounter, Client, Error, Json, Put, Result, Stm, View};
use tenure_testkit::{Server, TestServer, on_each_server, virtual_time};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

#[path = "support/start.rs"]
mod start;
use start::{MINUTE, SOON, start};

const SECOND: Duration = Duration::from_secs(1);

async fn number(view: &View, key: &str) -> Result<i64> {
    let value = view.get(key).await?;
    value.map_or(Ok(0), |value| Ok(Json::read(&value)?.0))
}

async fn add(stm: &Stm, keys: &[&str]) -> Result<()> {
    stm.run(async |view| {
        for key in keys {
            let before = number(&view, key).await?;
            view.put(*key, Json(before + 1))?;
        }
        Ok(())
    })
    .await
}

async fn stored(client: &Client, key: &str) -> i64 {
    let kv = client.get(key).await.unwrap().into_kv();
    kv.map_or(0, |kv| Json::read(&kv.value).unwrap().0)
}

/// So many tasks of one client, each of which adds to a key so often.
async fn crowd(client: &Client, tasks: usize, rounds: usize, keys: &'static [&'static str]) {
    let tasks = (0..tasks).map(|_| {
        let stm = Stm::new(client);
        tokio::spawn(async move {
            for _ in 0..rounds {
                add(&stm, keys).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        timeout(SOON, task).await.expect("they get on").unwrap();
    }
}

#[tokio::test]
async fn tasks_that_fight_over_a_key_cost_about_a_call_each() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let before = server.kv_calls().await;
        crowd(&client, 16, 20, &["hot"]).await;
        let calls = server.kv_calls().await - before;
        assert_eq!(stored(&client, "hot").await, 320);
        // Without turns each of 16 would lose 15 times of 16.
        assert!(calls < 2 * 320, "{calls} calls for 320 additions");
    })
    .await;
}

#[tokio::test]
async fn those_who_need_several_keys_get_on_in_whatever_order_they_take_them() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        futures::join!(
            crowd(&client, 3, 10, &["a", "b", "c"]),
            crowd(&client, 3, 10, &["c", "b", "a"]),
            crowd(&client, 3, 10, &["b", "c"]),
            crowd(&client, 3, 10, &["a"]),
        );
        for (key, sum) in [("a", 90), ("b", 90), ("c", 90)] {
            assert_eq!(stored(&client, key).await, sum, "{key}");
        }
    })
    .await;
}

/// A transaction of this client that has the turn for a key, and keeps it until it is told.
struct Holder {
    go_on: Arc<Notify>,
    task: JoinHandle<Result<()>>,
}

impl Holder {
    async fn of(server: &TestServer, client: &Client, key: &'static str) -> Self {
        let other = server.client().await.unwrap();
        let (go_on, has_it) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, tells) = (Arc::clone(&go_on), Arc::clone(&has_it));
        let stm = Stm::new(client);
        let task = tokio::spawn(async move {
            let runs = AtomicU32::new(0);
            let (runs, told, tells, other) = (&runs, &told, &tells, &other);
            stm.run(async |view| {
                let before = number(&view, key).await?;
                view.put(key, Json(before + 1))?;
                // The first run is beaten, so that the second one has a turn.
                match runs.fetch_add(1, Relaxed) {
                    0 => drop(other.put(key, "10").await?),
                    1 => {
                        tells.notify_one();
                        told.notified().await;
                    }
                    _ => {}
                }
                Ok(())
            })
            .await
        });
        timeout(SOON, has_it.notified()).await.expect("it gets the turn");
        Self { go_on, task }
    }

    async fn finish(self) {
        self.go_on.notify_one();
        timeout(SOON, self.task).await.expect("it ends").unwrap().unwrap();
    }
}

#[test]
fn a_turn_is_waited_for_and_hands_on_what_was_written() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let holder = Holder::of(&server, &client, "hot").await;
        let stm = Stm::new(&client);
        let before = server.kv_calls().await;
        let mut next = Box::pin(add(&stm, &["hot"]));
        assert!(timeout(SECOND / 2, &mut next).await.is_err(), "it is not its turn");
        assert_eq!(server.kv_calls().await, before, "nothing is asked meanwhile");
        holder.finish().await;
        next.await.unwrap();
        assert_eq!(stored(&client, "hot").await, 12);
        // Two commits, and the look just now.
        assert_eq!(server.kv_calls().await, before + 3);
    });
}

#[test]
fn a_turn_keeps_nobody_who_has_other_keys() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let holder = Holder::of(&server, &client, "hot").await;
        let begun = Instant::now();
        let stm = Stm::new(&client);
        add(&stm, &["cold"]).await.unwrap();
        // Nor another client.
        add(&Stm::new(&server.client().await.unwrap()), &["hot"]).await.unwrap();
        assert!(begun.elapsed() < SECOND / 10, "after {:?}", begun.elapsed());
        holder.finish().await;
        assert_eq!((stored(&client, "hot").await, stored(&client, "cold").await), (12, 1));
    });
}

#[test]
fn a_turn_that_never_ends_is_not_waited_for_long() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let holder = Holder::of(&server, &client, "hot").await;
        let begun = Instant::now();
        add(&Stm::new(&client), &["hot"]).await.unwrap();
        assert!(begun.elapsed() < SECOND * 3 / 2, "after {:?}", begun.elapsed());
        holder.finish().await;
        assert_eq!(stored(&client, "hot").await, 12);
    });
}

#[test]
fn whoever_waits_goes_on_waiting_while_turns_end() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let stm = Stm::new(&client).contended("hot");
        let before = server.kv_calls().await;
        let slow = (0..5).map(|_| {
            stm.run(async |view| {
                let before = number(&view, "hot").await?;
                sleep(SECOND * 2 / 3).await;
                view.put("hot", Json(before + 1))
            })
        });
        for ended in join_all(slow).await {
            ended.unwrap();
        }
        // One read, and a commit of each.
        assert_eq!(server.kv_calls().await, before + 6);
    });
}

#[test]
fn a_transaction_inside_a_transaction_gets_on() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let (outer, inner) = (AtomicCounter::at(&client, "hot"), Stm::new(&client));
        outer.add(1).await.unwrap();
        let runs = AtomicU32::new(0);
        let nested = inner.run(async |view| {
            let before = number(&view, "hot").await?;
            if runs.fetch_add(1, Relaxed) == 0 {
                outer.add(1).await?;
            }
            view.put("hot", Json(before + 1))
        });
        timeout(10 * SECOND, nested).await.expect("it gets on").unwrap();
        assert_eq!(stored(&client, "hot").await, 3);
    });
}

#[test]
fn whoever_is_dropped_gives_its_turn_back() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let holder = Holder::of(&server, &client, "hot").await;
        let stm = Stm::new(&client);
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(add(&stm, &["hot"]))).collect();
        for next in &mut waiting {
            assert!(next.now_or_never().is_none());
        }
        // One in the middle of the queue, and the one whose turn it is.
        drop(waiting.remove(1));
        holder.task.abort();
        let begun = Instant::now();
        for ended in join_all(waiting).await {
            ended.unwrap();
        }
        assert!(begun.elapsed() < SECOND / 10, "after {:?}", begun.elapsed());
        assert_eq!(stored(&client, "hot").await, 12);
    });
}

#[tokio::test]
async fn what_was_handed_on_is_no_ground_for_a_refusal() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let other = AtomicCounter::at(&server.client().await.unwrap(), "stock");
        // Its task remembers what it left, and the other process fills up.
        let stock = AtomicCounter::at(&client, "stock");
        assert_eq!(stock.add(1).await.unwrap().after, 1);
        assert_eq!(stock.add(-1).await.unwrap().after, 0);
        other.add(5).await.unwrap();
        let taken: anyhow::Result<_> = Stm::new(&client)
            .run(async |view| {
                let left = number(&view, "stock").await?;
                anyhow::ensure!(left > 0, "sold out");
                view.put("stock", Json(left - 1))?;
                Ok(left)
            })
            .await;
        assert_eq!(taken.unwrap(), 5);
        // Nor for an answer.
        other.add(5).await.unwrap();
        assert!(stock.compare_and_set(9, 1).await.unwrap());
        other.add(1).await.unwrap();
        let seen = Stm::new(&client).run(async |view| number(&view, "stock").await).await;
        assert_eq!(seen.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_is_handed_on_is_what_is_in_the_store() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let stm = Stm::new(&client).contended("count");
        let lease = client.lease_grant(MINUTE).await.unwrap().id;
        let writes = [
            Some(Put::new("count", "1").lease(lease)),
            Some(Put::new("count", "2").keep_lease()),
            Some(Put::new("count", "3")),
            None,
            Some(Put::new("count", "4")),
        ];
        for write in writes {
            let written = stm.run(async |view| {
                view.get("count").await?;
                write.clone().map_or_else(|| view.delete("count"), |put| view.write(put))
            });
            written.await.unwrap();
            let stored = client.get("count").await.unwrap().into_kv();
            let before = server.kv_calls().await;
            let seen = stm.run(async |view| {
                let seen = view.stored("count").await?;
                view.put("seen", "yes")?;
                Ok::<_, Error>(seen)
            });
            assert_eq!(seen.await.unwrap(), stored);
            assert_eq!(server.kv_calls().await, before + 1, "it was not read");
        }
    })
    .await;
}
