//! What transactions are kept apart from, level by level.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use futures::future::join_all;
use tenure::{Error, Isolation, Json, KeyRange, Put, Result, Stm, View};
use tenure_testkit::{Server, on_each_server};

#[path = "support/numbers.rs"]
mod numbers;
#[path = "support/start.rs"]
mod start;

use numbers::{add, amount, disturbed, text, value};
use start::start;

const SERIALIZABLE: [Isolation; 2] = [Isolation::SerializableSnapshot, Isolation::Serializable];
const CHECKED: [Isolation; 3] =
    [Isolation::SerializableSnapshot, Isolation::Serializable, Isolation::RepeatableReads];

#[tokio::test]
async fn what_was_read_must_not_be_changed_or_deleted() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        for isolation in CHECKED {
            let stm = Stm::new(&client).isolation(isolation);
            client.put("a", "1").await.unwrap();
            let transfer = async |view: &View| {
                let read = amount(view.get("a").await?)?;
                view.put("b", Json(read))
            };
            let change = async || drop(client.put("a", "2").await.unwrap());
            assert_eq!(disturbed(&stm, transfer, change).await, 2, "{isolation:?}");
            assert_eq!(value(&client, "b").await, text("2"));

            let delete = async || drop(client.delete("a").await.unwrap());
            assert_eq!(disturbed(&stm, transfer, delete).await, 2, "{isolation:?}");
            assert_eq!(value(&client, "b").await, text("0"));

            let make = async || drop(client.put("a", "3").await.unwrap());
            assert_eq!(disturbed(&stm, transfer, make).await, 2, "{isolation:?}");
            assert_eq!(value(&client, "b").await, text("3"));

            let other = async || drop(client.put("c", "3").await.unwrap());
            assert_eq!(disturbed(&stm, transfer, other).await, 1, "{isolation:?}");
        }
        let stm = Stm::new(&client).isolation(Isolation::ReadCommitted);
        let change = async || drop(client.put("a", "9").await.unwrap());
        assert_eq!(disturbed(&stm, async |view| add(view, "a", 1).await, change).await, 1);
        assert_eq!(value(&client, "a").await, text("4"), "the change is lost, as it may be");
    })
    .await;
}

#[tokio::test]
async fn a_blind_write_conflicts_with_others_under_the_snapshot_alone() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        client.put("a", "1").await.unwrap();
        for (isolation, runs) in [
            (Isolation::SerializableSnapshot, 2),
            (Isolation::Serializable, 1),
            (Isolation::RepeatableReads, 1),
            (Isolation::ReadCommitted, 1),
        ] {
            let stm = Stm::new(&client).isolation(isolation);
            let blind = async |view: &View| {
                view.put("b", "blind")?;
                view.get("a").await.map(drop)
            };
            let write = async || drop(client.put("b", "theirs").await.unwrap());
            assert_eq!(disturbed(&stm, blind, write).await, runs, "{isolation:?}");
            assert_eq!(value(&client, "b").await, text("blind"));
        }
        // Without a read there is no snapshot.
        let stm = Stm::new(&client);
        let write = async || drop(client.put("b", "theirs").await.unwrap());
        assert_eq!(disturbed(&stm, async |view| view.put("b", "blind"), write).await, 1);
    })
    .await;
}

#[tokio::test]
async fn whatever_happens_in_a_range_that_was_read_is_a_conflict() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        for isolation in CHECKED {
            let stm = Stm::new(&client).isolation(isolation);
            client.delete(KeyRange::all()).await.unwrap();
            client.put("r/a", "1").await.unwrap();
            let count = async |view: &View| {
                let keys = view.range(KeyRange::prefix("r/")).await?;
                view.put("count", Json(keys.len()))
            };
            let insert = async || drop(client.put("r/b", "2").await.unwrap());
            assert_eq!(disturbed(&stm, count, insert).await, 2, "{isolation:?}");
            assert_eq!(value(&client, "count").await, text("2"));
            let change = async || drop(client.put("r/a", "3").await.unwrap());
            assert_eq!(disturbed(&stm, count, change).await, 2, "{isolation:?}");
            let delete = async || drop(client.delete("r/a").await.unwrap());
            assert_eq!(disturbed(&stm, count, delete).await, 2, "{isolation:?}");
            assert_eq!(value(&client, "count").await, text("1"));
            let replace = async || {
                client.delete("r/b").await.unwrap();
                client.put("r/b", "2").await.unwrap();
            };
            assert_eq!(disturbed(&stm, count, replace).await, 2, "{isolation:?}");
            let empty = async || drop(client.delete(KeyRange::prefix("r/")).await.unwrap());
            assert_eq!(disturbed(&stm, count, empty).await, 2, "{isolation:?}");
            assert_eq!(value(&client, "count").await, text("0"));
            // An empty range is one, too.
            let insert = async || drop(client.put("r/c", "1").await.unwrap());
            assert_eq!(disturbed(&stm, count, insert).await, 2, "{isolation:?}");
            let beside = async || drop(client.put("r0", "1").await.unwrap());
            assert_eq!(disturbed(&stm, count, beside).await, 1, "{isolation:?}");
        }
    })
    .await;
}

/// Two are on call, and each may leave if the other one stays.
async fn leave(stm: &Stm, who: &str, meanwhile: impl AsyncFn()) -> Result<()> {
    stm.run(async |view| {
        let on_call = view.get_many(["ann", "bob"]).await?;
        if on_call.iter().flatten().count() == 2 {
            view.delete(who)?;
        }
        meanwhile().await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn write_skew_is_prevented_where_reads_are_checked() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        for isolation in CHECKED.into_iter().chain([Isolation::ReadCommitted]) {
            client.put("ann", "here").await.unwrap();
            client.put("bob", "here").await.unwrap();
            let stm = Stm::new(&client).isolation(isolation);
            let first = AtomicU32::new(0);
            let bob_leaves = async || {
                if first.fetch_add(1, Relaxed) == 0 {
                    leave(&stm, "bob", async || ()).await.unwrap();
                }
            };
            leave(&stm, "ann", bob_leaves).await.unwrap();
            let left = client.count(KeyRange::prefix("")).await.unwrap().count;
            let skewed = isolation == Isolation::ReadCommitted;
            assert_eq!(left, if skewed { 0 } else { 1 }, "{isolation:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn everything_is_read_as_of_one_revision_where_there_is_a_snapshot() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        let both = async |value: &str| {
            let puts = [Put::new("a", value), Put::new("b", value)];
            client.txn().and_then(puts).await.unwrap();
        };
        for isolation in SERIALIZABLE {
            both("1").await;
            let stm = Stm::new(&client).isolation(isolation);
            let read: (_, _, _) = stm
                .run(async |view| {
                    let a = view.get("a").await?;
                    both("2").await;
                    let all = view.range(KeyRange::prefix("")).await?;
                    Ok::<_, Error>((a, view.get("b").await?, all))
                })
                .await
                .unwrap();
            assert_eq!((read.0, read.1), (text("1"), text("1")), "{isolation:?}");
            assert!(read.2.iter().all(|(_, value)| value == "1"), "{isolation:?}");
        }
        // Elsewhere another revision may be seen, and then the run does not count.
        let runs = AtomicU32::new(0);
        let read: (_, _) = Stm::new(&client)
            .isolation(Isolation::RepeatableReads)
            .run(async |view| {
                let a = view.get("a").await?;
                if runs.fetch_add(1, Relaxed) == 0 {
                    both("3").await;
                }
                assert_eq!(view.get("a").await?, a, "what was read stays");
                Ok::<_, Error>((a, view.get("b").await?))
            })
            .await
            .unwrap();
        assert_eq!((read, runs.into_inner()), ((text("3"), text("3")), 2));
    })
    .await;
}

#[tokio::test]
async fn transfers_keep_the_sum_whoever_looks() {
    const ACCOUNTS: usize = 5;
    let account = |number: usize| format!("account/{}", number % ACCOUNTS);
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        for isolation in CHECKED {
            for number in 0..ACCOUNTS {
                client.put(account(number), "100").await.unwrap();
            }
            let mut clients = vec![client.clone(), client.clone()];
            clients.push(server.client().await.unwrap());
            clients.push(server.client().await.unwrap());
            let tasks = clients.into_iter().enumerate().map(|(task, client)| {
                let stm = Stm::new(&client).isolation(isolation);
                tokio::spawn(async move {
                    for round in 0..25 {
                        let (from, to) = (account(task + round), account(task * 2 + round + 1));
                        let transfer = stm.run(async |view| {
                            add(&view, &from, -7).await?;
                            add(&view, &to, 7).await
                        });
                        transfer.await.unwrap();
                        let seen = stm.run(async |view| {
                            let all = view.range(KeyRange::prefix("account/")).await?;
                            let all = all.into_iter().map(|(_, value)| amount(Some(value)));
                            all.sum::<Result<i64>>()
                        });
                        assert_eq!(seen.await.unwrap(), 500, "{isolation:?}");
                    }
                })
            });
            for ended in join_all(tasks).await {
                ended.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn readers_never_see_half_of_a_transaction() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        for isolation in SERIALIZABLE {
            let writer = Stm::new(&server.client().await.unwrap()).isolation(isolation);
            let keys = ["a", "b", "c"];
            let writing = tokio::spawn(async move {
                for number in 0..50 {
                    let all = writer.run(async |view| {
                        keys.iter().try_for_each(|key| view.put(*key, Json(number)))
                    });
                    all.await.unwrap();
                }
            });
            let reader = Stm::new(&client).isolation(isolation);
            while !writing.is_finished() {
                let read = reader.run(async |view| {
                    let first = view.get("a").await?;
                    Ok::<_, Error>((first, view.get_many(["b", "c"]).await?))
                });
                let (first, others) = read.await.unwrap();
                assert!(others.iter().all(|other| *other == first), "{first:?} {others:?}");
            }
            writing.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn reads_that_are_made_at_once_see_one_revision() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        for isolation in SERIALIZABLE {
            let writer = Stm::new(&server.client().await.unwrap()).contended("a");
            let writing = tokio::spawn(async move {
                for number in 0..60 {
                    let both = writer.run(async |view| {
                        view.get("a").await?;
                        view.put("a", Json(number))?;
                        view.put("b", Json(number))
                    });
                    both.await.unwrap();
                }
            });
            let reader = Stm::new(&client).isolation(isolation).contended("a");
            while !writing.is_finished() {
                let read = reader.run(async |view| {
                    let all = view.range(KeyRange::span("a", "c"));
                    let read = futures::try_join!(view.get("a"), view.get("b"), all)?;
                    view.put("seen", Json(read.2.len()))?;
                    Ok::<_, Error>(read)
                });
                let (a, b, all) = read.await.unwrap();
                let all: Vec<_> = all.into_iter().map(|(_, value)| Some(value)).collect();
                assert!(a == b && all.iter().all(|value| *value == a), "{a:?} {b:?} {all:?}");
            }
            writing.await.unwrap();
        }
    })
    .await;
}
