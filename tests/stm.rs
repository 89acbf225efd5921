//! Transactions as code: what they see, what conflicts with them, and what they cost.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use futures::future::join_all;
use tenure::{
    AtomicCounter, Client, Counted, Error, ErrorKind, IdBlocks, Isolation, Json, KeepValue,
    KeyRange, LeaseId, Mutex, Put, Result, Sequence, Session, Stm, View,
};
use tenure_testkit::{Server, TestServer, on_each_server};

#[path = "support/numbers.rs"]
mod numbers;
#[path = "support/start.rs"]
mod start;

use numbers::{add, amount, disturbed, text, value};
use start::{MINUTE, start};

#[tokio::test]
async fn a_transaction_sees_the_store_and_its_own_writes() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        for key in ["r/a", "r/b", "r/c", "x"] {
            client.put(key, "old").await.unwrap();
        }
        let seen = Stm::new(&client)
            .run(async |view| {
                assert_eq!(view.get("new").await?, None);
                view.put("new", "mine")?;
                view.put("r/b", "mine")?;
                view.put("r/d", "mine")?;
                view.delete("r/c")?;
                view.delete("x")?;
                // One is cached, one pending, one deleted, and two are still to be read.
                let many = view.get_many(["new", "r/b", "x", "r/a", "none"]).await?;
                let stored = view.stored("r/b").await?.expect("it is there");
                assert_eq!((stored.value, stored.version), ("old".into(), 1));
                assert_eq!(view.stored("new").await?, None);
                Ok::<_, Error>((many, view.range(KeyRange::prefix("r/")).await?))
            })
            .await
            .unwrap();
        let (old, mine) = (text("old"), text("mine"));
        assert_eq!(seen.0, [mine.clone(), mine.clone(), None, old.clone(), None]);
        let range: BTreeMap<_, _> = seen.1.into_iter().collect();
        let expected = [("r/a", "old"), ("r/b", "mine"), ("r/d", "mine")];
        assert_eq!(range, expected.map(|(key, value)| (key.into(), value.into())).into());

        assert_eq!(value(&client, "new").await, mine);
        assert_eq!(value(&client, "r/b").await, mine);
        assert_eq!(value(&client, "r/c").await, None);
        assert_eq!(value(&client, "x").await, None);
        // All of it at one revision.
        let written = client.get(KeyRange::all()).await.unwrap();
        let revisions: Vec<_> = ["new", "r/b", "r/d"]
            .map(|key| written.kvs.iter().find(|kv| kv.key == key).map(|kv| kv.mod_revision))
            .into();
        assert_eq!(revisions, [Some(written.header.revision); 3]);
    })
    .await;
}

#[derive(Debug)]
enum Refused {
    Poor,
    Etcd(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Etcd(error)
    }
}

#[tokio::test]
async fn an_error_of_the_closure_comes_back_and_nothing_is_written() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        let refused: Result<(), _> = Stm::new(&client)
            .run(async |view| {
                let before = amount(view.get("purse").await?)?;
                view.put("purse", Json(before - 1))?;
                if before == 0 { Err(Refused::Poor) } else { Ok(()) }
            })
            .await;
        assert!(matches!(refused, Err(Refused::Poor)), "{refused:?}");
        assert_eq!(value(&client, "purse").await, None);

        client.put("purse", "lint").await.unwrap();
        let refused: Result<(), _> = Stm::new(&client)
            .run(async |view| add(&view, "purse", 1).await.map_err(Refused::from))
            .await;
        let Err(Refused::Etcd(error)) = refused else { panic!("{refused:?}") };
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    })
    .await;
}

#[tokio::test]
async fn the_tries_are_bounded_and_the_error_tells_the_keys() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        let (runs, stm) = (AtomicU32::new(0), Stm::new(&client).tries(4));
        let beaten = stm
            .run(async |view| {
                let run = runs.fetch_add(1, Relaxed);
                let keys = ["a", "b", "c", "d", "e"];
                view.get_many(keys).await?;
                view.range(KeyRange::prefix("r/")).await?;
                view.put("mine", "1")?;
                let others = ["b", "c", "d", "r/x"].map(|key| Put::new(key, run.to_string()));
                client.txn().and_then(others).await?;
                Ok::<_, Error>(())
            })
            .await;
        let error = beaten.unwrap_err();
        assert_eq!((error.kind(), runs.into_inner()), (ErrorKind::Conflict, 4), "{error}");
        assert_eq!(error.conflicting_keys(), ["b", "c", "d", "r/x"]);
        assert!(error.is_retryable() && !error.may_have_been_applied());
        let told = "transaction: given up after 4 tries: others changed b, c, d, 1 more";
        assert_eq!(error.to_string(), told);
        assert_eq!(value(&client, "mine").await, None);

        let never = stm.clone().tries(0).run(async |_| Ok::<_, Error>(())).await;
        assert_eq!(never.unwrap_err().kind(), ErrorKind::InvalidInput);
    })
    .await;
}

/// How many calls of the key space it takes.
async fn calls(server: &TestServer, work: impl Future<Output = Result<()>>) -> u64 {
    let before = server.kv_calls().await;
    work.await.unwrap();
    server.kv_calls().await - before
}

#[tokio::test]
async fn a_conflict_costs_one_call() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        client.put("a", "1").await.unwrap();
        let stm = Stm::new(&client);
        assert_eq!(calls(&server, stm.run(async |_| Ok(()))).await, 0);
        let blind = stm.run(async |view| view.put("a", "1"));
        assert_eq!(calls(&server, blind).await, 1);
        let reads = stm.run(async |view| {
            view.get_many(["a", "b", "c"]).await?;
            view.get("b").await.map(drop)
        });
        assert_eq!(calls(&server, reads).await, 1, "what is read as of one revision stands");
        assert_eq!(calls(&server, stm.run(async |view| add(&view, "a", 1).await)).await, 2);
        let ranges = stm.run(async |view| {
            view.range(KeyRange::prefix("")).await?;
            view.range(KeyRange::prefix("")).await?;
            add(&view, "a", 1).await
        });
        assert_eq!(calls(&server, ranges).await, 2);

        let (runs, other) = (AtomicU32::new(0), server.client().await.unwrap());
        let disturbed = stm.run(async |view| {
            add(&view, "a", 1).await?;
            view.range(KeyRange::prefix("r/")).await?;
            if runs.fetch_add(1, Relaxed) < 2 {
                other.put("a", "7").await?;
            }
            Ok(())
        });
        // Two reads, three commits, and what the other one did.
        assert_eq!(calls(&server, disturbed).await, 2 + 3 + 2);
        assert_eq!(value(&client, "a").await, text("8"));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let stm = Stm::new(&client);
        let before = server.kv_calls().await;
        stm.run(async |view| {
            let refused = [
                view.get("").await.unwrap_err(),
                view.get_many(["a", ""]).await.unwrap_err(),
                view.stored("").await.unwrap_err(),
                view.range(KeyRange::span("b", "a")).await.unwrap_err(),
                view.put("", "1").unwrap_err(),
                view.write(Put::new("a", KeepValue)).unwrap_err(),
                view.delete("").unwrap_err(),
            ];
            assert!(refused.iter().all(|error| error.kind() == ErrorKind::InvalidInput));
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
        let many = async |count: usize| -> Result<()> {
            let fill = async |view: View| {
                (0..count).try_for_each(|number| view.put(format!("k/{number}"), "1"))
            };
            stm.run(fill).await
        };
        assert_eq!(many(129).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(server.kv_calls().await, before);
        many(128).await.unwrap();
        // Each key of a range is looked at; to read only, all of them may.
        let range = async |view: &View| view.range(KeyRange::prefix("k/")).await;
        let read = stm.run(async |view| Ok::<_, Error>(range(&view).await?.len())).await;
        assert_eq!(read.unwrap(), 128);
        let written = stm.run(async |view| {
            range(&view).await?;
            view.put("l", "1")
        });
        let error = written.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(value(&client, "l").await, None);
    })
    .await;
}

#[tokio::test]
async fn a_view_is_of_no_use_when_its_transaction_is_over() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        let kept = Stm::new(&client).run(async |view| Ok::<_, Error>(view)).await.unwrap();
        for error in [
            kept.get("a").await.unwrap_err(),
            kept.put("a", "late").unwrap_err(),
            kept.delete("a").unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert_eq!(value(&client, "a").await, None);
    })
    .await;
}

async fn lease_of(client: &Client, key: &str) -> Option<LeaseId> {
    client.get(key).await.unwrap().into_kv().expect("it is there").lease
}

#[tokio::test]
async fn a_put_has_its_lease_and_may_keep_it() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(MINUTE).await.unwrap().id;
        let stm = Stm::new(&client);
        stm.run(async |view| view.write(Put::new("a", "1").lease(lease))).await.unwrap();
        assert_eq!(lease_of(&client, "a").await, Some(lease));
        stm.run(async |view| view.write(Put::new("a", "2").keep_lease())).await.unwrap();
        assert_eq!(lease_of(&client, "a").await, Some(lease));
        // Of what this transaction itself did before.
        let twice = stm.run(async |view| {
            view.write(Put::new("b", "1").lease(lease))?;
            view.write(Put::new("b", "2").keep_lease())?;
            view.delete("a")?;
            view.write(Put::new("a", "3").keep_lease())
        });
        twice.await.unwrap();
        assert_eq!(lease_of(&client, "b").await, Some(lease));
        assert_eq!(lease_of(&client, "a").await, None);
        stm.run(async |view| view.put("b", "3")).await.unwrap();
        assert_eq!(lease_of(&client, "b").await, None);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_through_a_guard_commits_only_while_it_holds() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        let session = Session::builder().ttl(MINUTE).open(&client).await.unwrap();
        let guard = Mutex::new(&session, "jobs").acquire().await.unwrap();
        let stm = Stm::new(&guard.kv());
        let runs = AtomicU32::new(0);
        let fenced = stm.run(async |view| {
            if runs.fetch_add(1, Relaxed) == 0 {
                client.put("job", "5").await?;
            }
            add(&view, "job", 1).await
        });
        fenced.await.unwrap();
        let conflicted = disturbed(
            &stm,
            async |view| add(view, "job", 1).await,
            async || drop(client.put("job", "1").await.unwrap()),
        );
        assert_eq!(conflicted.await, 2, "conflicts are told through the fence");
        assert_eq!(value(&client, "job").await, text("2"));

        let late = stm.run(async |view| {
            add(&view, "job", 1).await?;
            client.delete(guard.key()).await?;
            Ok::<_, Error>(())
        });
        assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(value(&client, "job").await, text("2"));
    })
    .await;
}

#[tokio::test]
async fn a_compaction_begins_a_transaction_anew() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        client.put("a", "1").await.unwrap();
        client.put("b", "1").await.unwrap();
        let compact = async || {
            let put = client.put("a", "2").await.unwrap();
            client.compact(put.header.revision).await.unwrap();
        };
        for isolation in [Isolation::SerializableSnapshot, Isolation::Serializable] {
            let (runs, stm) = (AtomicU32::new(0), Stm::new(&client).isolation(isolation));
            let sum: i64 = stm
                .run(async |view| {
                    let a = amount(view.get("a").await?)?;
                    // The first one meets a compaction, the second one a conflict and another.
                    if runs.fetch_add(1, Relaxed) < 2 {
                        compact().await;
                    }
                    let b = amount(view.get("b").await?)?;
                    view.put("sum", Json(a + b))?;
                    Ok::<_, Error>(a + b)
                })
                .await
                .unwrap();
            assert_eq!((sum, runs.into_inner()), (3, 3), "{isolation:?}");
            assert_eq!(value(&client, "sum").await, text("3"));
        }
        // What is compacted away every time is an error in the end.
        let stm = Stm::new(&client).tries(3);
        let never = stm.run(async |view| {
            view.get("a").await?;
            compact().await;
            view.get("b").await.map(drop)
        });
        assert_eq!(never.await.unwrap_err().kind(), ErrorKind::Compacted);
    })
    .await;
}

#[tokio::test]
async fn of_many_who_bring_a_seed_the_first_one_sets_it() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let mut clients = vec![client.clone(), client];
        clients.push(server.client().await.unwrap());
        let seeds = clients.iter().enumerate().map(|(number, client)| {
            let stm = Stm::new(client);
            tokio::spawn(async move {
                let seed = stm.run(async |view| match view.stored("seed").await? {
                    Some(kv) => Ok::<_, Error>((kv.value, false)),
                    None => {
                        view.put("seed", number.to_string())?;
                        Ok((number.to_string().into(), true))
                    }
                });
                seed.await.unwrap()
            })
        });
        let seeds: Vec<_> = join_all(seeds).await.into_iter().map(|seed| seed.unwrap()).collect();
        assert_eq!(seeds.iter().filter(|(_, set)| *set).count(), 1, "{seeds:?}");
        assert!(seeds.iter().all(|(seed, _)| *seed == seeds[0].0), "{seeds:?}");
        // Set again by whoever knows its version.
        let expected = clients[0].get("seed").await.unwrap().into_kv().unwrap().version;
        for set in [true, false] {
            let versioned = Stm::new(&clients[2]).run(async |view| {
                let version = view.stored("seed").await?.map_or(0, |kv| kv.version);
                if version == expected {
                    view.put("seed", "new")?;
                }
                Ok::<_, Error>(version == expected)
            });
            assert_eq!(versioned.await.unwrap(), set);
        }
    })
    .await;
}

#[test]
fn its_types_may_cross_threads() {
    fn shared<T: Send + Sync + Unpin + 'static>() {}
    shared::<(Stm, View, Isolation, AtomicCounter, Counted, IdBlocks, Sequence)>();
}

/// Never called: that it compiles is the test.
#[allow(dead_code, reason = "that it compiles is the test")]
fn a_transaction_may_cross_threads(stm: Stm, counter: AtomicCounter, key: String) {
    fn send<T: Send + 'static>(_: T) {}
    send(stm.run(move |view| {
        let key = key.clone();
        async move { view.put(key, "1") }
    }));
    send(async move {
        let key = String::from("a");
        let added = stm.run(async |view| add(&view, &key, 1).await);
        (added.await, counter.add(1).await)
    });
}
