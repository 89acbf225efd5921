//! Long queues at a read-write lock, and contenders that leave them at the worst moment.

use std::time::Duration;

use futures::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use tenure::{Client, ErrorKind, KeyRange, LossReason, Release, RwLock, Session};
use tenure_testkit::{Call, Proxy, TestServer, eventually, on_each_listener, on_each_server};
use tokio::time::timeout;

#[path = "support/asking.rs"]
mod asking;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use asking::{ask, got, keys_are, queue_up, take};
use lock::{ended, open, stranger, why};
use start::{SOON, start};

const PREFIX: &str = "q/";

fn foreign(part: &str, number: u32) -> String {
    format!("{PREFIX}{part}/foreign-{number}")
}

async fn put_foreign(client: &Client, part: &str, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        client.put(foreign(part, number), "").await.unwrap();
    }
}

/// The lock whose keys are under [`PREFIX`].
fn at_prefix(session: &Session) -> RwLock {
    RwLock::at(session, PREFIX.trim_end_matches('/'))
}

async fn watches_are(server: &TestServer, count: u64) {
    eventually(SOON, "it watches what it must", async || server.watches().await == count).await;
}

#[tokio::test]
async fn far_back_in_a_queue_of_others_only_the_one_in_the_way_is_followed() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let others = server.client().await.unwrap();
        let lock = at_prefix(&open(&client).await);
        for (writes, part) in [(false, "write"), (true, "read"), (true, "write")] {
            put_foreign(&others, part, 0..40).await;
            let before = server.calls(Call::Txn).await;
            let mut reading = None;
            let mut writing = None;
            let in_the_way = 1;
            let watches = if writes {
                writing = Some(queue_up(&others, PREFIX, lock.write()).await);
                // Its second key is only kept an eye on.
                in_the_way + 1
            } else {
                reading = Some(queue_up(&others, PREFIX, lock.read()).await);
                in_the_way
            };
            watches_are(&server, watches).await;
            let events = server.events().await;
            for number in 0..40 {
                let is_over = reading.as_mut().is_some_and(|it| it.now_or_never().is_some())
                    || writing.as_mut().is_some_and(|it| it.now_or_never().is_some());
                assert!(!is_over, "{number} is ahead");
                others.delete(foreign(part, number)).await.unwrap();
            }
            let released = match (reading, writing) {
                (Some(reading), _) => got(reading).await.release().await,
                (_, Some(writing)) => got(writing).await.release().await,
                _ => unreachable!("one of them asks"),
            };
            assert_eq!(released.unwrap(), Release::Released);
            let txns = server.calls(Call::Txn).await - before;
            assert_eq!(txns, 3, "to ask, to look when the one ahead is gone, and to release");
            let events = server.events().await - events;
            assert!(events <= 4, "{events}: of the one ahead, and of its own keys at most");
            watches_are(&server, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn far_back_in_a_queue_a_reader_waits_for_writers_in_whatever_order_they_leave() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let others = server.client().await.unwrap();
        let lock = at_prefix(&open(&client).await);
        put_foreign(&others, "read", 0..40).await;
        put_foreign(&others, "write", [1, 2, 3]).await;
        put_foreign(&others, "read", 50..60).await;
        let mut reading = queue_up(&others, PREFIX, lock.read()).await;
        put_foreign(&others, "write", [4]).await;
        for number in [3, 1, 2] {
            assert!((&mut reading).now_or_never().is_none(), "a writer is ahead");
            others.delete(foreign("write", number)).await.unwrap();
        }
        let read = got(reading).await;
        // A second one of the same client waits for the one that came later.
        let second = queue_up(&others, PREFIX, lock.read()).await;
        assert!(read.is_held() && !second.is_finished());
        others.delete(foreign("write", 4)).await.unwrap();
        for read in [read, got(second).await] {
            assert_eq!(read.release().await.unwrap(), Release::Released);
        }

        // A writer waits for all of them, and can become a reader.
        let mut writing = queue_up(&others, PREFIX, lock.write()).await;
        let reading = queue_up(&others, PREFIX, lock.read()).await;
        for number in (50..60).chain((0..40).rev()) {
            assert!((&mut writing).now_or_never().is_none(), "a reader is ahead");
            others.delete(foreign("read", number)).await.unwrap();
        }
        let write = got(writing).await;
        assert!(!reading.is_finished());
        let read = write.downgrade().await.unwrap();
        let second = got(reading).await;
        assert!(read.is_held() && second.is_held());
        read.kv().put("k", "v").await.unwrap();
        drop((read, second));
        keys_are(&others, PREFIX, 0).await;
    })
    .await;
}

#[tokio::test]
async fn far_back_in_a_queue_losses_are_told_too() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let others = server.client().await.unwrap();
        let session = open(&client).await;
        let lock = at_prefix(&session);
        for part in ["read/", "write/"] {
            // Of one that holds after the long way.
            put_foreign(&others, "read", 0..40).await;
            let writing = queue_up(&others, PREFIX, lock.write()).await;
            others.delete(KeyRange::prefix("q/read/foreign-")).await.unwrap();
            let write = got(writing).await;
            others.delete(KeyRange::prefix(format!("{PREFIX}{part}"))).await.unwrap();
            assert_eq!(why(write.lost()).await, LossReason::KeyDeleted);
            drop(write);
            keys_are(&others, PREFIX, 0).await;
            // Of one that waits: never granted.
            put_foreign(&others, "write", 0..40).await;
            let writing = queue_up(&others, PREFIX, lock.write()).await;
            let own = lock.holders().await.unwrap();
            let own = own.iter().rfind(|it| it.lease == Some(session.lease()));
            let own = own.filter(|it| it.key.starts_with(format!("{PREFIX}{part}").as_bytes()));
            let own = match own {
                Some(own) => own.key.clone(),
                None => lock.holders().await.unwrap()[40].key.clone(),
            };
            others.delete(own).await.unwrap();
            others.delete(KeyRange::prefix("q/write/foreign-")).await.unwrap();
            let error = ended(writing).await.unwrap_err();
            assert_eq!(error.loss_reason(), Some(LossReason::KeyDeleted), "{error}");
            keys_are(&others, PREFIX, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_compaction_during_a_long_wait_changes_nothing() {
    on_each_listener(async |server| {
        let (server, direct) = start(&server).await;
        for (foreigners, writes) in [(1, false), (1, true), (40, false), (40, true)] {
            let proxy = Proxy::start(&server.endpoint()).await.unwrap();
            let client = Client::connect([proxy.endpoint()]).await.unwrap();
            let lock = at_prefix(&open(&client).await);
            put_foreign(&direct, "write", 0..foreigners).await;
            let mut waiting = tokio::spawn(async move {
                match writes {
                    true => take(lock.write()).await.release().await,
                    false => take(lock.read()).await.release().await,
                }
            });
            let own = if writes { 2 } else { 1 };
            keys_are(&direct, PREFIX, u64::from(foreigners) + own).await;
            for cut in [false, true] {
                if cut {
                    proxy.refuse();
                    proxy.reset();
                }
                // All but the last leave, unseen by a watch that is cut.
                for number in 1..if cut { foreigners } else { 1 } {
                    direct.delete(foreign("write", number)).await.unwrap();
                }
                for _ in 0..5 {
                    direct.put("elsewhere", "").await.unwrap();
                }
                let now = direct.put("elsewhere", "").await.unwrap().header.revision;
                direct.compact(now).physical().await.unwrap();
                proxy.pass();
                assert_eq!(client.get("elsewhere").await.unwrap().kvs.len(), 1);
                assert!((&mut waiting).now_or_never().is_none(), "one is ahead");
            }
            let before = server.kv_calls().await;
            direct.delete(foreign("write", 0)).await.unwrap();
            assert_eq!(ended(waiting).await.unwrap(), Release::Released);
            let calls = server.kv_calls().await - before;
            assert!(calls <= 8, "{calls} calls: it does not spin");
        }
    })
    .await;
}

#[tokio::test]
async fn hundreds_who_wait_are_let_in_without_further_requests() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let lock = RwLock::new(&open(&client).await, "config");
        let first = take(lock.write()).await;
        let mut readers: FuturesUnordered<_> =
            (0..200).map(|_| lock.read().into_future()).collect();
        assert!(readers.next().now_or_never().is_none());
        keys_are(&client, "tenure/rwlock/", 202).await;
        let mut writers = Vec::new();
        for _ in 0..50 {
            writers.push(queue_up(&client, "tenure/rwlock/", lock.write()).await);
        }
        let before = server.calls(Call::Txn).await;
        first.release().await.unwrap();
        let mut inside = Vec::new();
        while let Some(read) = timeout(SOON, readers.next()).await.expect("they are let in") {
            inside.push(read.unwrap());
        }
        assert_eq!(inside.len(), 200);
        let txns = server.calls(Call::Txn).await - before;
        assert_eq!(txns, 1, "the release");
        assert!(writers.iter().all(|writer| !writer.is_finished()));
        join_all(inside.into_iter().map(|read| read.release())).await;
        for number in 0..50 {
            let write = got(writers.remove(0)).await;
            assert!(writers.iter().all(|writer| !writer.is_finished()), "after {number}");
            assert_eq!(write.release().await.unwrap(), Release::Released);
        }
        let txns = server.calls(Call::Txn).await - before;
        assert!((251..=260).contains(&txns), "{txns}: nobody looks around");
        keys_are(&client, "tenure/rwlock/", 0).await;
    })
    .await;
}

#[tokio::test]
async fn whoever_gives_up_at_the_instant_of_the_grant_had_it_or_leaves_no_key() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let lock = RwLock::new(&open(&client).await, "config");
        let other = RwLock::new(&stranger(&server).await, "config");
        let mut granted = 0;
        for round in 0..120_u32 {
            let release = match round % 2 {
                0 => tokio::spawn(take(other.write()).await.release()),
                _ => {
                    let write = take(other.write()).await;
                    tokio::spawn(async move { write.downgrade().await?.release().await })
                }
            };
            let patience = Duration::from_micros(u64::from(round) * 25);
            let (reading, writing) = (ask(lock.read().timeout(patience)), lock.write());
            match round % 3 {
                0 => drop(timeout(patience, writing.into_future()).await),
                1 => match writing.timeout(patience).await {
                    Ok(write) => {
                        assert!(write.is_held());
                        granted += 1;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
                },
                _ => {
                    let mut writing = Box::pin(writing.into_future());
                    for _ in 0..round % 7 {
                        tokio::task::yield_now().await;
                        if writing.as_mut().now_or_never().is_some() {
                            break;
                        }
                    }
                }
            }
            match ended(reading).await {
                Ok(read) => granted += usize::from(read.is_held()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
            }
            assert_eq!(release.await.unwrap().unwrap(), Release::Released);
        }
        println!("{granted} were granted");
        keys_are(&client, "tenure/rwlock/", 0).await;
        assert!(lock.try_write().await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn readers_that_die_inside_let_the_writer_in_after_the_last_of_them() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let dying = server.client().await.unwrap();
        let (mut sessions, mut inside) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            let session = open(&dying).await;
            inside.push(take(RwLock::new(&session, "config").read()).await);
            sessions.push(session);
        }
        let lock = RwLock::new(&open(&client).await, "config");
        let writing = queue_up(&client, "tenure/rwlock/", lock.write()).await;
        for (session, read) in sessions.iter().zip(&inside) {
            assert!(!writing.is_finished(), "a reader is inside");
            client.lease_revoke(session.lease()).await.unwrap();
            assert_eq!(why(read.lost()).await, LossReason::Revoked);
        }
        let write = got(writing).await;
        assert!(inside.iter().all(|read| read.fence() < write.fence()));
    })
    .await;
}
