//! Transactions when calls fail: unknown outcomes, late copies, members that lag behind, and a
//! storm of all of it.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tenure::{
    AtomicCounter, Client, ClientBuilder, Code, Error, ErrorKind, Isolation, Json, KeyRange,
    Result, Stm, View,
};
use tenure_testkit::{Call, Cluster, Embedded, Fault, TestServer, on_each_etcd, virtual_time};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn embedded(server: &TestServer) -> &Embedded {
    server.embedded().expect("virtual time has no other server")
}

async fn number(view: &View, key: &str) -> Result<i64> {
    let value = view.get(key).await?;
    value.map_or(Ok(0), |value| Ok(Json::read(&value)?.0))
}

async fn add(view: &View, key: &str, delta: i64) -> Result<()> {
    let before = number(view, key).await?;
    view.put(key, Json(before + delta))
}

/// Adds one, once for each request, however often it is run.
async fn add_once(stm: &Stm, key: &str, request: &str) -> Result<()> {
    stm.run(async |view| {
        if view.get_many([request, key]).await?[0].is_none() {
            add(&view, key, 1).await?;
            view.put(request, "done")?;
        }
        Ok(())
    })
    .await
}

async fn stored(client: &Client, key: &str) -> i64 {
    let kv = client.get(key).await.unwrap().into_kv();
    kv.map_or(0, |kv| Json::read(&kv.value).unwrap().0)
}

#[test]
fn of_an_unknown_outcome_a_key_of_the_request_tells() {
    for (fault, applied) in [
        (Fault::lose_answer(), 1),
        (Fault::silence(), 1),
        (Fault::lose_request(), 0),
        (Fault::ignore(), 0),
    ] {
        virtual_time(async |server: TestServer| {
            let client = server.client().await.unwrap();
            let stm = Stm::new(&client);
            let first = stm.run(async |view| {
                add(&view, "count", 1).await?;
                view.put("request/1", "done")?;
                // What is hit is the commit.
                embedded(&server).inject(fault.clone().on(Call::Txn).times(1)).forget();
                Ok::<_, Error>(())
            });
            let error = first.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
            assert!(error.may_have_been_applied());
            assert_eq!(stored(&client, "count").await, applied);
            for _ in 0..2 {
                add_once(&stm, "count", "request/1").await.unwrap();
                assert_eq!(stored(&client, "count").await, 1);
            }
        });
    }
}

#[test]
fn a_commit_that_comes_late_changes_nothing_that_others_did() {
    for isolation in
        [Isolation::SerializableSnapshot, Isolation::Serializable, Isolation::RepeatableReads]
    {
        virtual_time(async |server: TestServer| {
            let client = server.client().await.unwrap();
            let stm = Stm::new(&client).isolation(isolation);
            let first = stm.run(async |view| {
                add(&view, "count", 1).await?;
                let late = Fault::delay(60 * SECOND).on(Call::Txn).times(1);
                embedded(&server).inject(late).forget();
                Ok::<_, Error>(())
            });
            let error = first.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
            client.put("count", "10").await.unwrap();
            sleep(120 * SECOND).await;
            assert_eq!(stored(&client, "count").await, 10);
        });
    }
}

#[test]
fn a_refused_commit_is_told_and_nothing_is_written() {
    virtual_time(async |server: TestServer| {
        let client = server.client().await.unwrap();
        let refused = Stm::new(&client).run(async |view| {
            add(&view, "count", 1).await?;
            let full =
                Fault::refuse(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
            embedded(&server).inject(full.on(Call::Txn).times(1)).forget();
            Ok::<_, Error>(())
        });
        assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(stored(&client, "count").await, 0);
    });
}

#[test]
fn a_member_that_is_behind_is_asked_in_another_way() {
    virtual_time(async |server: TestServer| {
        let client = server.client().await.unwrap();
        let behind = || {
            Fault::refuse(
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            )
        };
        client.put("b", "2").await.unwrap();
        let stm = Stm::new(&client).tries(1);
        let read = stm.run(async |view| {
            number(&view, "a").await?;
            let behind = embedded(&server).inject(behind().on(Call::Range).times(1));
            let b = number(&view, "b").await?;
            Ok::<_, Error>((b, behind.is_spent()))
        });
        assert_eq!(read.await.unwrap(), (2, true));
    });
}

#[tokio::test]
async fn a_transaction_gets_on_beside_a_member_that_is_cut_off() {
    on_each_etcd(async |etcd| {
        let cluster = Cluster::builder(&etcd).members(3).proxied_peers(true).fast(true);
        let cluster = cluster.start().await.unwrap();
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        client.put("key/0", "1").await.unwrap();
        let follower = (cluster.leader().await.unwrap() + 1) % 3;
        cluster.isolate(follower).unwrap();
        // From here on it is behind.
        for key in 0..6 {
            while client.put(format!("key/{key}"), "2").await.is_err() {}
        }
        for isolation in [Isolation::SerializableSnapshot, Isolation::Serializable] {
            // A new client calls the first endpoint first, and the one that is cut off second.
            let mut endpoints = cluster.endpoints();
            endpoints.rotate_left((follower + 2) % 3);
            let client = Client::connect(endpoints).await.unwrap();
            let sum = Stm::new(&client).isolation(isolation).tries(1).run(async |view| {
                let mut sum = 0;
                for key in 0..6 {
                    sum += number(&view, &format!("key/{key}")).await?;
                }
                Ok::<_, Error>(sum)
            });
            assert_eq!(sum.await.unwrap(), 12, "{isolation:?}");
        }
    })
    .await;
}

/// What there is after so many steps of a future, which is dropped then.
async fn after_steps<T>(future: impl Future<Output = T>, steps: usize) -> Option<T> {
    let (mut future, mut left) = (pin!(future), steps);
    poll_fn(|cx| match left.checked_sub(1) {
        None => Poll::Ready(None),
        Some(rest) => {
            left = rest;
            future.as_mut().poll(cx).map(Some)
        }
    })
    .await
}

#[test]
fn dropped_at_any_step_a_transaction_is_whole_or_nothing() {
    virtual_time(async |server: TestServer| {
        let client = server.client().await.unwrap();
        let stm = Stm::new(&client);
        let (hot, mut whole) = (AtomicCounter::at(&client, "a"), 0);
        for step in 0..40 {
            let beaten = stm.run(async |view| {
                // The turn of the counter's, a conflict, and turns for both.
                add(&view, "a", 1).await?;
                add(&view, "b", 1).await?;
                if step % 2 == 0 && view.stored("b").await?.is_none() {
                    hot.set(0).await?;
                }
                Ok::<_, Error>(())
            });
            whole += usize::from(after_steps(beaten, step).await.is_some());
            // Longer than a turn is waited for, if one had been left behind.
            let begun = Instant::now();
            let read = stm.run(async |view| {
                Ok::<_, Error>((number(&view, "a").await?, number(&view, "b").await?))
            });
            let (a, b) = read.await.unwrap();
            assert_eq!(a, b, "at step {step}");
            assert!(begun.elapsed() < SECOND / 2, "a turn is left behind at step {step}");
        }
        assert!((1..40).contains(&whole), "{whole}");
    });
}

/// What a storm has of chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// Hurts calls until it is dropped.
async fn storm(server: &Embedded, mut chance: Chance) {
    loop {
        let call = if chance.below(4) == 0 { Call::Range } else { Call::Txn };
        let fault = match chance.below(7) {
            0 => Fault::lose_answer(),
            1 => Fault::lose_request(),
            2 => Fault::silence(),
            3 => Fault::ignore(),
            4 => Fault::delay(Duration::from_millis(chance.below(20_000))),
            5 => Fault::refuse(Code::Unavailable, "etcdserver: leader changed"),
            _ => {
                let revision = 1 + chance.below(400) as i64;
                // Of what is there, or not any more.
                let _ = server.client().await.unwrap().compact(revision.into()).await;
                continue;
            }
        };
        let injected = server.inject(fault.on(call).times(1 + chance.below(3) as usize));
        sleep(Duration::from_millis(chance.below(3_000))).await;
        drop(injected);
    }
}

/// Runs the same request until its outcome is known.
async fn persist(stm: &Stm, key: &str, request: &str) {
    while let Err(error) = add_once(stm, key, request).await {
        let expected = matches!(
            error.kind(),
            ErrorKind::Indeterminate | ErrorKind::Unavailable | ErrorKind::Timeout
        );
        assert!(expected, "{error}");
    }
}

#[test]
fn in_a_storm_each_request_is_done_once() {
    for seed in 1..=8 {
        virtual_time(async |server: TestServer| {
            let settings = |builder: ClientBuilder| builder.request_timeout(2 * SECOND);
            let mut tasks = Vec::new();
            for worker in 0..6 {
                let client = settings(server.connect()).connect().await.unwrap();
                for task in 0..2 {
                    let stm = Stm::new(&client);
                    tasks.push(tokio::spawn(async move {
                        for round in 0..8 {
                            let request = format!("request/{worker}/{task}/{round}");
                            persist(&stm, ["a", "b"][round % 2], &request).await;
                        }
                    }));
                }
            }
            let client = server.client().await.unwrap();
            let work = async {
                for task in tasks {
                    task.await.unwrap();
                }
            };
            let chance = Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            tokio::select! {
                () = work => {}
                () = storm(embedded(&server), chance) => {}
            }
            // Copies that are late, too.
            sleep(60 * SECOND).await;
            let done = client.count(KeyRange::prefix("request/")).await.unwrap().count;
            assert_eq!(done, 12 * 8, "with seed {seed}");
            assert_eq!(stored(&client, "a").await, 48, "with seed {seed}");
            assert_eq!(stored(&client, "b").await, 48, "with seed {seed}");
        });
    }
}
