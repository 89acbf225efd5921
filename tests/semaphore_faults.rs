//! Permits while answers are lost, copies come late, and sessions end in the queue.

use futures::FutureExt;
use tenure::{ErrorKind, KeyRange, LossReason, Permits, Release, Semaphore, Session};
use tenure_testkit::{
    Call, Embedded, Fault, TestServer, embed::Data, eventually, on_each_etcd, on_each_listener,
    virtual_time,
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

use asking::{Asking, ask, got, keys, keys_are, take};
use copies::{comes_late, txns};
use lock::{ended, open, open_for, seconds, stranger, why};
use start::{MINUTE, SOON, behind_a_proxy, cluster};

/// Where the claims on the semaphore `jobs` are.
const CLAIMS: &str = "tenure/semaphore/jobs/permits/";

fn embedded(server: &TestServer) -> &Embedded {
    server.embedded().expect("virtual time has no other server")
}

fn of(session: &Session, permits: u32) -> Semaphore {
    Semaphore::new(session, "jobs", permits)
}

async fn queue_up(client: &tenure::Client, semaphore: &Semaphore, permits: u32) -> Asking<Permits> {
    asking::queue_up(client, CLAIMS, semaphore.acquire(permits)).await
}

async fn release(permits: Permits) {
    assert_eq!(permits.release().await.unwrap(), Release::Released);
}

#[test]
fn whatever_answer_is_lost_permits_are_taken_once() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request()] {
        // Those that agree on the number, that ask, and that say that they were let in.
        for (spared, times) in [(0, 1), (0, 2), (1, 1), (1, 3), (2, 1)] {
            for tried in [false, true] {
                let fault = fault.clone().on(Call::Txn).times(times);
                virtual_time(async |server| {
                    let embedded = embedded(&server);
                    let direct = server.client().await.unwrap();
                    let other = of(&open(&direct).await, 4);
                    let held = take(other.acquire(if tried { 1 } else { 3 })).await;
                    let jobs = of(&stranger(&server).await, 4);
                    let before = embedded.calls(Call::Txn);
                    let asking = match tried {
                        true => {
                            let tried = jobs.try_acquire(2).into_future();
                            tokio::spawn(async move { Ok(tried.await?.expect("two are free")) })
                        }
                        false => ask(jobs.acquire(2)),
                    };
                    eventually(SOON, "it has asked so often", async || {
                        embedded.calls(Call::Txn) >= before + spared
                    })
                    .await;
                    let lost = embedded.inject(fault);
                    if !tried {
                        keys_are(&direct, CLAIMS, 2).await;
                        sleep(MINUTE).await;
                        assert!(!asking.is_finished(), "one is free");
                        release(held).await;
                    }
                    let permits = got(asking).await;
                    drop(lost);
                    let mine = permits.fence();
                    let there = direct.get(mine.key.clone()).await.unwrap().into_kv().unwrap();
                    assert_eq!(there.create_revision, mine.create_revision);
                    assert_eq!(there.mod_revision, mine.mod_revision);
                    permits.kv().put("k", "v").await.unwrap();
                    sleep(MINUTE).await;
                    assert!(permits.is_held());
                    let one = take(other.acquire(1)).await;
                    release(one).await;
                    release(permits).await;
                });
            }
        }
    }
}

#[test]
fn copies_that_come_late_take_no_permits_and_end_no_later_hold() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let direct = server.client().await.unwrap();
        let jobs = of(&stranger(&server).await, 2);
        let tap = embedded.tap(1000);
        // What writes the number down.
        let lost = embedded.inject(Fault::silence().on(Call::Txn).times(1));
        release(take(jobs.acquire(1)).await).await;
        assert!(lost.is_spent());
        // What asks, and what takes it back.
        let lost = embedded.inject(Fault::silence().on(Call::Txn).times(2));
        let error = jobs.acquire(2).timeout(seconds(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        eventually(SOON, "it is taken back", async || lost.is_spent()).await;
        keys_are(&direct, CLAIMS, 0).await;
        // What gives back.
        let permits = take(jobs.acquire(1)).await;
        let lost = embedded.inject(Fault::silence().on(Call::Txn).times(1));
        release(permits).await;
        assert!(lost.is_spent());
        jobs.resize(3).await.unwrap();

        let copies = txns(&tap);
        drop(tap);
        let held = take(jobs.acquire(3)).await;
        // But for those that were answered: of them there is no other copy.
        for copy in copies.iter().filter(|copy| copy.took >= seconds(2) || copy.answer.is_none()) {
            comes_late(embedded, copy).await;
        }
        assert_eq!(jobs.size().await.unwrap(), Some(3));
        assert_eq!(keys(&direct, CLAIMS).await, 1);
        sleep(MINUTE).await;
        assert!(held.is_held());
        held.kv().put("k", "v").await.unwrap();
        release(held).await;
    });
}

#[test]
fn permits_end_for_their_holder_before_others_have_them() {
    for phase in 0..5 {
        virtual_time(async |server| {
            let ttl = seconds(15);
            let (first, second) = (server.client().await.unwrap(), server.client().await.unwrap());
            let jobs = of(&open_for(&first, ttl).await, 2);
            let held = [take(jobs.acquire(1)).await, take(jobs.acquire(1)).await];
            let waiter = open_for(&second, MINUTE * 60).await;
            let mut waiting = queue_up(&second, &of(&waiter, 2), 2).await;
            sleep(ttl * (10 + phase) / 20).await;
            let deaf = [Call::LeaseKeepAlive, Call::LeaseRevoke]
                .map(|call| embedded(&server).inject(Fault::ignore().on(call)));
            embedded(&server).cut_streams();
            let begun = Instant::now();
            tokio::select! {
                biased;
                reason = held[0].lost() => assert_eq!(reason, LossReason::Expired),
                _ = &mut waiting => panic!("others have them"),
            }
            assert_eq!(why(held[1].lost()).await, LossReason::Expired);
            let believed = begun.elapsed();
            assert!(believed >= ttl / 2 && believed < ttl, "held for {believed:?}");
            let next = got(waiting).await;
            assert!(begun.elapsed() - believed >= ttl / 20);
            for permits in &held {
                let late = permits.kv().put("k", "late").into_future().now_or_never();
                let late = late.expect("at once").unwrap_err();
                assert_eq!(late.loss_reason(), Some(LossReason::Expired));
            }
            drop(deaf);
            assert!(next.is_held());
        });
    }
}

#[test]
fn holders_and_waiters_outlive_restarts_and_elections_and_the_number_does() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let direct = server.client().await.unwrap();
        let mut held = vec![take(of(&stranger(&server).await, 2).acquire(2)).await];
        for round in 0..20 {
            let waiting = queue_up(&direct, &of(&stranger(&server).await, 2), 2).await;
            match round % 4 {
                0 => embedded.restart(Data::Kept),
                1 => embedded.cut_streams(),
                2 => {
                    embedded.refuse_connections().await;
                    sleep(seconds(4)).await;
                    embedded.accept_connections().await.unwrap();
                }
                _ => {
                    embedded.lose_leader();
                    sleep(seconds(4)).await;
                    embedded.change_leader();
                }
            }
            sleep(MINUTE).await;
            assert!(held[0].is_held() && !waiting.is_finished());
            release(held.remove(0)).await;
            held.push(got(waiting).await);
        }
    });
}

/// Nobody agrees on anything while no server answers; that is tried at a measured pace.
#[test]
fn who_cannot_agree_on_the_number_yet_does_not_spin() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let jobs = of(&stranger(&server).await, 2);
        let before = embedded.calls(Call::Txn);
        let unavailable = Fault::refuse(tenure::Code::Unavailable, "etcdserver: no leader");
        let refused = embedded.inject(unavailable.on(Call::Txn));
        let asking = ask(jobs.acquire(1));
        sleep(seconds(20)).await;
        let calls = embedded.calls(Call::Txn) - before;
        assert!((3..500).contains(&calls), "{calls} in 20 s");
        drop(refused);
        release(got(asking).await).await;
    });
}

#[tokio::test]
async fn whoever_lost_its_session_in_the_queue_never_has_permits_and_holds_up_nobody() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let jobs = of(&open(&direct).await, 2);
        let held = take(jobs.acquire(1)).await;
        let doomed = of(&open_for(&client, seconds(3)).await, 2);
        let inside = take(doomed.acquire(1)).await;
        let dead = queue_up(&direct, &doomed, 2).await;
        let behind = queue_up(&direct, &jobs, 1).await;
        proxy.pause();
        assert_eq!(why(inside.lost()).await, LossReason::Expired);
        let error = ended(dead).await.unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::Expired), "{error}");
        let behind = got(behind).await;
        assert!(held.is_held() && behind.is_held());
        proxy.pass();
        assert_eq!(keys(&direct, CLAIMS).await, 2);
        assert_eq!(inside.release().await.unwrap(), Release::AlreadyLost(LossReason::Expired));
    })
    .await;
}

#[tokio::test]
async fn servers_that_are_killed_in_use_take_no_permits() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let jobs = of(&open_for(&client, seconds(9)).await, 2);
        let stranger = tenure::Client::connect(cluster.endpoints()).await.unwrap();
        let other = of(&open_for(&stranger, seconds(9)).await, 2);
        let mut held = take(jobs.acquire(2)).await;
        for index in 0..3 {
            let waiting = queue_up(&client, &other, 2).await;
            cluster.kill(index).unwrap();
            assert!(held.is_held() && !waiting.is_finished());
            release(held).await;
            held = got(waiting).await;
            let again = ask(jobs.acquire(2));
            cluster.restart(index).await.unwrap();
            assert!(held.is_held() && !again.is_finished());
            release(held).await;
            held = got(again).await;
        }
        assert!(held.is_held());
        let count = client.count(KeyRange::prefix(CLAIMS)).await.unwrap().count;
        assert_eq!(count, 1);
    })
    .await;
}
