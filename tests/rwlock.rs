//! Readers and writers: who is inside together, in what order, and what they leave behind.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use tenure::{
    ClaimState, Client, ErrorKind, KeyRange, LossReason, ReadGuard, Release, Result, RwLock,
    WriteGuard,
};
use tenure_testkit::{eventually, on_each_etcd, on_each_server};

#[path = "support/asking.rs"]
mod asking;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use asking::{Asking, ask, got, keys, keys_are, take};
use lock::{ended, open, stranger, told, why};
use start::{SOON, cluster, start};

const KEYS: &str = "tenure/rwlock/";

async fn reader(client: &Client, lock: &RwLock) -> Asking<ReadGuard> {
    asking::queue_up(client, KEYS, lock.read()).await
}

async fn writer(client: &Client, lock: &RwLock) -> Asking<WriteGuard> {
    asking::queue_up(client, KEYS, lock.write()).await
}

async fn released(release: impl Future<Output = Result<Release>>) {
    assert_eq!(release.await.unwrap(), Release::Released);
}

/// Who is inside: readers count one, and a writer more than all of them.
#[derive(Default)]
struct Inside(AtomicUsize);

const WRITER: usize = 1000;

impl Inside {
    async fn enter(&self, weight: usize) {
        let before = self.0.fetch_add(weight, Ordering::SeqCst);
        assert!(before < WRITER, "a writer is inside");
        assert!(weight < WRITER || before == 0, "{before} readers are inside");
        tokio::task::yield_now().await;
    }

    fn leave(&self, weight: usize) {
        self.0.fetch_sub(weight, Ordering::SeqCst);
    }
}

/// The lock `config` in sessions of four processes, twice in each.
async fn contenders(connect: impl AsyncFn() -> Result<Client>) -> Vec<RwLock> {
    let mut contenders = Vec::new();
    for _ in 0..4 {
        let session = open(&connect().await.unwrap()).await;
        contenders.extend((0..2).map(|_| RwLock::new(&session, "config")));
    }
    contenders
}

/// Each of them reads and writes by turns, and downgrades now and then.
async fn contend(contenders: &[RwLock]) {
    let inside = Inside::default();
    let cycles = contenders.iter().enumerate().map(async |(number, lock)| {
        for round in 0..9 {
            if (number + round) % 3 != 0 {
                let guard = take(lock.read()).await;
                inside.enter(1).await;
                inside.leave(1);
                released(guard.release()).await;
                continue;
            }
            let guard = take(lock.write()).await;
            inside.enter(WRITER).await;
            inside.leave(WRITER);
            if round % 2 == 0 {
                released(guard.release()).await;
            } else {
                let guard = guard.downgrade().await.unwrap();
                inside.enter(1).await;
                inside.leave(1);
                drop(guard);
            }
        }
    });
    join_all(cycles).await;
    let lock = &contenders[0];
    eventually(SOON, "all have left", async || lock.holders().await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn readers_are_inside_together_and_writers_alone() {
    on_each_server(async |server| {
        let (server, _) = start(&server).await;
        contend(&contenders(async || server.client().await).await).await;
    })
    .await;
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        contend(&contenders(async || Client::connect(cluster.endpoints()).await).await).await;
    })
    .await;
}

#[tokio::test]
async fn nobody_overtakes_whoever_came_before() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let one = RwLock::new(&open(&client).await, "config");
        // Of the same session, and of others.
        for other in [one.clone(), RwLock::new(&stranger(&server).await, "config")] {
            let (first, second) = (take(one.read()).await, take(other.read()).await);
            let write = writer(&client, &other).await;
            let third = reader(&client, &one).await;
            let last = writer(&client, &one).await;
            let fourth = reader(&client, &other).await;
            released(second.release()).await;
            assert!(!write.is_finished() && !third.is_finished(), "one reader is inside");
            let fences = [first.fence()];
            released(first.release()).await;
            let write = got(write).await;
            assert!(fences[0] < write.fence(), "higher than all before");
            assert!(!third.is_finished(), "the writer is inside");
            released(write.release()).await;
            let third = got(third).await;
            assert!(!last.is_finished() && !fourth.is_finished());
            released(third.release()).await;
            let last = got(last).await;
            assert!(!fourth.is_finished());
            released(last.release()).await;
            released(got(fourth).await.release()).await;
            assert_eq!(keys(&client, KEYS).await, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_becomes_a_reader_lets_readers_in_and_no_writer() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let one = RwLock::new(&open(&client).await, "config");
        for other in [one.clone(), RwLock::new(&stranger(&server).await, "config")] {
            let write = take(one.write()).await;
            let reading = [reader(&client, &other).await, reader(&client, &one).await];
            let second = writer(&client, &other).await;
            let late = reader(&client, &one).await;
            let fence = write.fence();
            let own = write.kv();
            own.put("k", "writer").await.unwrap();
            let read = write.downgrade().await.unwrap();
            assert_eq!(read.fence(), fence);
            let [first, next] = reading.map(got);
            let (first, next) = (first.await, next.await);
            assert!(read.is_held() && first.is_held() && next.is_held());
            assert!(!second.is_finished() && !late.is_finished());
            // What was made of the writer is the reader's now.
            own.put("k", "reader").await.unwrap();
            read.kv().put("k", "reader").await.unwrap();
            released(first.release()).await;
            released(next.release()).await;
            assert!(!second.is_finished(), "the first of them is inside");
            released(read.release()).await;
            own.put("k", "late").await.unwrap_err();
            let second = got(second).await;
            assert!(second.fence() > fence && !late.is_finished());
            drop(second);
            drop(got(late).await);
            keys_are(&client, KEYS, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn writes_of_a_writer_go_on_while_it_becomes_a_reader() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lock = RwLock::new(&open(&client).await, "config");
        for _ in 0..20 {
            let write = take(lock.write()).await;
            let own = write.kv();
            let writing = tokio::spawn(async move {
                for _ in 0..10 {
                    own.put("k", "v").await.unwrap();
                }
            });
            tokio::task::yield_now().await;
            let read = write.downgrade().await.unwrap();
            ended(writing).await;
            assert!(read.is_held());
            released(read.release()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_reader_does_not_become_a_writer() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lock = RwLock::new(&open(&client).await, "config");
        let read = take(lock.read()).await;
        let error = read.upgrade().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(read.is_held());
        // Nor does it get in by asking.
        assert!(take(lock.try_write()).await.is_none());
        let error = lock.write().timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        keys_are(&client, KEYS, 1).await;
        assert!(read.is_held());
    })
    .await;
}

#[tokio::test]
async fn who_only_tries_has_it_at_once_or_leaves_nothing() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let one = RwLock::new(&open(&client).await, "config");
        let other = RwLock::new(&stranger(&server).await, "config");
        let read = take(one.try_read()).await.expect("nobody is inside");
        let second = take(other.try_read()).await.expect("only a reader is inside");
        assert!(take(other.try_write()).await.is_none());
        assert_eq!(keys(&client, KEYS).await, 2);
        let waiting = writer(&client, &one).await;
        assert!(take(other.try_read()).await.is_none(), "a writer waits");
        assert_eq!(keys(&client, KEYS).await, 4);
        released(read.release()).await;
        released(second.release()).await;
        let write = got(waiting).await;
        let before = server.kv_calls().await;
        assert!(take(other.try_read()).await.is_none());
        assert!(take(other.try_write()).await.is_none());
        assert_eq!(server.kv_calls().await - before, 2, "one request for each");
        let read = write.downgrade().await.unwrap();
        let second = take(other.try_read()).await.expect("only a reader is inside");
        released(read.release()).await;
        assert!(take(one.try_write()).await.is_none());
        released(second.release()).await;
        let write = take(other.try_write()).await.expect("nobody is inside");
        assert!(write.is_held());
    })
    .await;
}

#[tokio::test]
async fn an_uncontended_cycle_is_two_requests_and_a_downgrade_one_more() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let lock = RwLock::new(&open(&client).await, "config");
        for _ in 0..2 {
            let before = server.kv_calls().await;
            released(take(lock.read()).await.release()).await;
            assert_eq!(server.kv_calls().await - before, 2);
            released(take(lock.write()).await.release()).await;
            assert_eq!(server.kv_calls().await - before, 4);
            let write = take(lock.write()).await;
            released(write.downgrade().await.unwrap().release()).await;
            assert_eq!(server.kv_calls().await - before, 7);
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_gives_up_leaves_no_key_and_holds_up_nobody() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let one = RwLock::new(&open(&client).await, "config");
        let other = RwLock::new(&stranger(&server).await, "config");
        let read = take(one.read()).await;
        let doomed = writer(&client, &other).await;
        let behind = reader(&client, &one).await;
        doomed.abort();
        let second = got(behind).await;
        assert!(read.is_held() && second.is_held());
        let error = other.write().timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        keys_are(&client, KEYS, 2).await;
        drop((read, second));
        let write = take(one.write()).await;
        let error = other.read().timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        keys_are(&client, KEYS, 2).await;
        drop(write);
        keys_are(&client, KEYS, 0).await;
    })
    .await;
}

#[tokio::test]
async fn closing_the_session_ends_holding_and_waiting_and_leaves_nothing() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let (session, other) = (stranger(&server).await, open(&client).await);
        let (lock, others) = (RwLock::new(&session, "config"), RwLock::new(&other, "config"));
        let write = take(lock.write()).await;
        let mut states = write.states();
        assert_eq!(told(&mut states).await, ClaimState::Held { fence: write.fence() });
        let (reads, writes) = (reader(&client, &lock).await, writer(&client, &lock).await);
        let last = reader(&client, &others).await;
        session.close().await.unwrap();
        let closed = Some(LossReason::Closed);
        assert_eq!(Some(why(write.lost()).await), closed);
        assert!(matches!(told(&mut states).await, ClaimState::Lost { .. } | ClaimState::Released));
        assert_eq!(ended(reads).await.unwrap_err().loss_reason(), closed);
        assert_eq!(ended(writes).await.unwrap_err().loss_reason(), closed);
        let last = got(last).await;
        assert_eq!(keys(&client, KEYS).await, 1);
        assert_eq!(keys(&client, "tenure/session/").await, 0);
        assert!(last.is_held());
        assert_eq!(write.release().await.unwrap(), Release::AlreadyLost(LossReason::Closed));
    })
    .await;
}

#[tokio::test]
async fn who_loses_a_key_has_lost_the_lock_and_writes_nothing() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let lock = RwLock::new(&stranger(&server).await, "config");
        for part in ["read/", "write/"] {
            let write = take(lock.write()).await;
            let own = write.kv();
            let deleted = KeyRange::prefix(format!("{KEYS}config/{part}"));
            assert_eq!(client.delete(deleted).await.unwrap().deleted, 1);
            let stale = own.put("k", "stale").await.unwrap_err();
            assert_eq!(stale.kind(), ErrorKind::Lost, "{stale}");
            assert_eq!(why(write.lost()).await, LossReason::KeyDeleted);
            assert!(!write.is_held());
            let lost = write.downgrade().await.unwrap_err();
            assert_eq!(lost.loss_reason(), Some(LossReason::KeyDeleted), "{lost}");
            // What was left of it is taken away.
            keys_are(&client, KEYS, 0).await;
        }
        let read = take(lock.read()).await;
        client.lease_revoke(lock.session().lease()).await.unwrap();
        assert_eq!(why(read.lost()).await, LossReason::Revoked);
        let error = read.kv().put("k", "stale").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert_eq!(client.count("k").await.unwrap().count, 0);
    })
    .await;
}

#[tokio::test]
async fn all_who_hold_or_wait_can_be_listed() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let lock = RwLock::at(&session, "team/config");
        assert!(lock.holders().await.unwrap().is_empty());
        let (read, second) = (take(lock.read()).await, take(lock.read()).await);
        let write = ask(lock.write());
        eventually(SOON, "it waits", async || lock.holders().await.unwrap().len() == 4).await;
        let all = RwLock::inspect_at(&client, "team/config").await.unwrap();
        let kinds: Vec<_> = all
            .iter()
            .map(|it| it.key.split(|byte| *byte == b'/').nth(2).unwrap().to_vec())
            .collect();
        assert_eq!(kinds, [&b"read"[..], b"read", b"read", b"write"]);
        assert!(all.iter().all(|it| it.lease == Some(session.lease()) && it.holder.is_some()));
        assert_eq!(all[0].key, read.fence().key);
        assert_eq!(all[1].create_revision, second.fence().create_revision);
        assert!(RwLock::inspect(&client, "config").await.unwrap().is_empty());
        write.abort();
        keys_are(&client, "team/", 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_bad_name_is_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let before = server.kv_calls().await;
        for lock in
            [RwLock::new(&session, ""), RwLock::new(&session, "a\0b"), RwLock::at(&session, "")]
        {
            for error in [lock.read().await.unwrap_err(), lock.write().await.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            }
            assert!(lock.try_read().await.is_err() && lock.try_write().await.is_err());
        }
        assert_eq!(server.kv_calls().await, before);
    })
    .await;
}
