//! The read-write lock while answers are lost, copies come late, and sessions end in the queue.

use futures::FutureExt;
use tenure::{ErrorKind, LossReason, Release, RwLock, Session};
use tenure_testkit::{
    Call, Embedded, Fault, TestServer, eventually, on_each_listener, virtual_time,
};
use tokio::time::{Instant, sleep};

#[path = "support/asking.rs"]
mod asking;
#[path = "support/copies.rs"]
mod copies;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use asking::{ask, got, keys_are, queue_up, take};
use copies::{comes_late, txns};
use lock::{ended, open, open_for, seconds, stranger};
use start::{MINUTE, SOON, behind_a_proxy};

const KEYS: &str = "tenure/rwlock/";

fn embedded(server: &TestServer) -> &Embedded {
    server.embedded().expect("virtual time has no other server")
}

fn of(session: &Session) -> RwLock {
    RwLock::new(session, "config")
}

#[test]
fn an_acquire_whose_answers_are_lost_makes_one_entry() {
    for fault in [Fault::lose_answer(), Fault::silence()] {
        for (times, tried) in [(1, false), (2, false), (1, true)] {
            let fault = fault.clone().on(Call::Txn).times(times);
            virtual_time(async |server| {
                let direct = server.client().await.unwrap();
                let (lock, other) = (of(&stranger(&server).await), of(&open(&direct).await));
                for contended in [false, true] {
                    let before = if contended { Some(take(other.read()).await) } else { None };
                    let lost = embedded(&server).inject(fault.clone());
                    let writing = match tried && !contended {
                        true => {
                            let tried = lock.try_write().into_future();
                            tokio::spawn(async move { Ok(tried.await?.expect("it is free")) })
                        }
                        false => ask(lock.write()),
                    };
                    eventually(SOON, "all are lost", async || lost.is_spent()).await;
                    let reading = queue_up(&direct, KEYS, other.read()).await;
                    if let Some(before) = before {
                        sleep(MINUTE / 2).await;
                        assert!(!writing.is_finished() && !reading.is_finished());
                        before.release().await.unwrap();
                    }
                    let write = got(writing).await;
                    keys_are(&direct, KEYS, 3).await;
                    assert_eq!(write.fence().mod_revision, write.fence().create_revision);
                    write.kv().put("k", "v").await.unwrap();
                    assert_eq!(write.release().await.unwrap(), Release::Released);
                    got(reading).await.release().await.unwrap();
                    keys_are(&direct, KEYS, 0).await;
                }
            });
        }
    }
}

#[test]
fn a_downgrade_whose_answers_are_lost_is_done_once_and_lets_no_writer_in() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request()] {
        for times in [1, 3] {
            let fault = fault.clone().on(Call::Txn).times(times);
            virtual_time(async |server| {
                let direct = server.client().await.unwrap();
                let lock = of(&stranger(&server).await);
                let write = take(lock.write()).await;
                let reading = queue_up(&direct, KEYS, of(&open(&direct).await).read()).await;
                let writing = queue_up(&direct, KEYS, of(&open(&direct).await).write()).await;
                let lost = embedded(&server).inject(fault);
                let read = write.downgrade().await.unwrap();
                assert!(lost.is_spent());
                let second = got(reading).await;
                sleep(MINUTE).await;
                assert!(read.is_held() && second.is_held() && !writing.is_finished());
                read.kv().put("k", "v").await.unwrap();
                assert_eq!(read.release().await.unwrap(), Release::Released);
                second.release().await.unwrap();
                assert!(got(writing).await.is_held());
            });
        }
    }
}

#[test]
fn copies_that_come_late_make_no_entry_and_end_no_later_hold() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let direct = server.client().await.unwrap();
        let lock = of(&stranger(&server).await);
        let tap = embedded.tap(1000);
        for writes in [false, true] {
            // What asked, and what took it back.
            let lost = embedded.inject(Fault::silence().on(Call::Txn).times(2));
            let error = match writes {
                true => lock.write().timeout(seconds(1)).await.unwrap_err(),
                false => lock.read().timeout(seconds(1)).await.unwrap_err(),
            };
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            eventually(SOON, "it is taken back", async || lost.is_spent()).await;
            keys_are(&direct, KEYS, 0).await;
        }
        // A downgrade, and a release.
        let write = take(lock.write()).await;
        let lost = embedded.inject(Fault::silence().on(Call::Txn).times(1));
        let read = write.downgrade().await.unwrap();
        assert!(lost.is_spent());
        let lost = embedded.inject(Fault::silence().on(Call::Txn).times(1));
        assert_eq!(read.release().await.unwrap(), Release::Released);
        assert!(lost.is_spent());

        let copies = txns(&tap);
        drop(tap);
        let before = embedded.revision();
        for copy in &copies {
            comes_late(embedded, copy).await;
        }
        keys_are(&direct, KEYS, 0).await;
        assert!(embedded.revision().0 <= before.0 + 1, "a guard key at most");
        let write = take(lock.write()).await;
        for copy in &copies {
            comes_late(embedded, copy).await;
        }
        keys_are(&direct, KEYS, 2).await;
        sleep(MINUTE).await;
        assert!(write.is_held());
        write.kv().put("k", "v").await.unwrap();
        assert_eq!(write.release().await.unwrap(), Release::Released);
    });
}

#[test]
fn a_writer_whose_renewals_are_not_heard_knows_it_before_another_is_inside() {
    for phase in 0..5 {
        virtual_time(async |server| {
            let ttl = seconds(15);
            let (first, second) = (server.client().await.unwrap(), server.client().await.unwrap());
            let write = take(of(&open_for(&first, ttl).await).write()).await;
            let waiter = open_for(&second, MINUTE * 60).await;
            let mut reading = queue_up(&second, KEYS, of(&waiter).read()).await;
            sleep(ttl * (10 + phase) / 20).await;
            let deaf = [Call::LeaseKeepAlive, Call::LeaseRevoke]
                .map(|call| embedded(&server).inject(Fault::ignore().on(call)));
            embedded(&server).cut_streams();
            let begun = Instant::now();
            tokio::select! {
                biased;
                reason = write.lost() => assert_eq!(reason, LossReason::Expired),
                _ = &mut reading => panic!("a reader is inside"),
            }
            let held = begun.elapsed();
            assert!(held >= ttl / 2 && held < ttl, "held for {held:?}");
            let read = got(reading).await;
            assert!(begun.elapsed() - held >= ttl / 20);
            assert!(read.fence() > write.fence());
            let late = write.kv().put("k", "late").into_future().now_or_never();
            assert_eq!(
                late.expect("at once").unwrap_err().loss_reason(),
                Some(LossReason::Expired)
            );
            drop(deaf);
        });
    }
}

#[tokio::test]
async fn whoever_lost_its_session_in_the_queue_never_gets_in_and_holds_up_nobody() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let lock = of(&open(&direct).await);
        for revoked in [false, true] {
            let read = take(lock.read()).await;
            let doomed = open_for(&client, seconds(3)).await;
            let dead = queue_up(&direct, KEYS, of(&doomed).write()).await;
            let dead_too = queue_up(&direct, KEYS, of(&doomed).read()).await;
            let reading = queue_up(&direct, KEYS, lock.read()).await;
            let writing = queue_up(&direct, KEYS, lock.write()).await;
            let reason = if revoked {
                proxy.refuse();
                proxy.reset();
                direct.lease_revoke(doomed.lease()).await.unwrap();
                read.release().await.unwrap();
                let second = got(reading).await;
                second.release().await.unwrap();
                let write = got(writing).await;
                write.release().await.unwrap();
                proxy.pass();
                None
            } else {
                proxy.pause();
                // Its keys are gone with its lease, though nobody can tell it.
                let second = got(reading).await;
                assert!(read.is_held());
                drop((read, second));
                got(writing).await.release().await.unwrap();
                Some(LossReason::Expired)
            };
            for error in [ended(dead).await.unwrap_err(), ended(dead_too).await.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
                assert!(reason.is_none() || error.loss_reason() == reason, "{error}");
            }
            proxy.pass();
            keys_are(&direct, KEYS, 0).await;
        }
    })
    .await;
}
