//! The lock on a server that does as it is told: what becomes of it when answers are lost, copies
//! come late, leases end and data are gone. On the embedded server, in virtual time.

use std::time::Duration;

use futures::{FutureExt, TryStreamExt};
use tenure::{
    ClaimState, ErrorKind, EventKind, FenceGate, KeyRange, LossReason, Mutex, Put, Release,
};
use tenure_testkit::{Call, Embedded, Fault, TestServer, embed::Data, eventually, virtual_time};
use tokio::time::{Instant, sleep, timeout};

#[path = "support/copies.rs"]
mod copies;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use copies::{comes_late, txns};
use lock::{
    acquire, contenders_are, ended, granted, holders_are, open, open_for, queue_up, seconds,
    stranger, why,
};
use start::{MINUTE, SOON};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn embedded(server: &TestServer) -> &Embedded {
    server.embedded().expect("virtual time has no other server")
}

fn locks() -> KeyRange {
    KeyRange::prefix("tenure/mutex/")
}

#[test]
fn an_acquire_whose_answers_are_lost_makes_one_entry() {
    for fault in [Fault::lose_answer(), Fault::silence()] {
        for (contended, tried) in [(false, false), (true, false), (false, true)] {
            for times in 1..=3 {
                let fault = fault.clone().on(Call::Txn).times(times);
                virtual_time(async |server| {
                    let direct = server.client().await.unwrap();
                    let holder = Mutex::new(&open(&direct).await, "jobs");
                    let jobs = Mutex::new(&stranger(&server).await, "jobs");
                    let held = if contended { Some(acquire(&holder).await) } else { None };
                    let mut watch = direct.watch(locks()).await.unwrap();

                    let lost = embedded(&server).inject(fault);
                    let asking = match tried {
                        false => queue_up(&jobs).await,
                        true => {
                            let tried = jobs.try_acquire().into_future();
                            tokio::spawn(async move { Ok(tried.await?.expect("it is free")) })
                        }
                    };
                    eventually(SOON, "all are lost", async || lost.is_spent()).await;
                    if let Some(held) = held {
                        sleep(MINUTE / 2).await;
                        assert!(!asking.is_finished());
                        held.release().await.unwrap();
                    }
                    let guard = granted(asking).await;
                    let fence = guard.fence();
                    let mut puts = Vec::new();
                    while let Some(Some(told)) = watch.try_next().now_or_never().map(Result::unwrap)
                    {
                        let events = told.events().iter();
                        puts.extend(
                            events
                                .filter(|event| event.kind == EventKind::Put)
                                .map(|event| (event.kv.key.clone(), event.kv.create_revision)),
                        );
                    }
                    assert_eq!(puts, [(fence.key.clone(), fence.create_revision)]);
                    assert_eq!(fence.mod_revision, fence.create_revision);
                    guard.kv().put("k", "v").await.unwrap();
                    assert_eq!(guard.release().await.unwrap(), Release::Released);
                    holders_are(&holder, 0).await;
                });
            }
        }
    }
}

#[test]
fn a_release_whose_answers_are_lost_releases_once() {
    for fault in [Fault::lose_answer(), Fault::silence()] {
        for times in 1..=3 {
            let fault = fault.clone().on(Call::Txn).times(times);
            virtual_time(async |server| {
                let direct = server.client().await.unwrap();
                let guard = acquire(&Mutex::new(&stranger(&server).await, "jobs")).await;
                let mut watch = direct.watch(locks()).without_puts().await.unwrap();
                // The one waits already; the other comes after the first copy was carried out.
                let second = queue_up(&Mutex::new(&stranger(&server).await, "jobs")).await;
                let key = guard.key();
                let lost = embedded(&server).inject(fault);
                let releasing = tokio::spawn(guard.release());
                let second = granted(second).await;
                eventually(SOON, "all are lost", async || lost.is_spent()).await;
                let third = queue_up(&Mutex::new(&stranger(&server).await, "jobs")).await;
                assert_eq!(ended(releasing).await.unwrap(), Release::Released);
                sleep(MINUTE).await;
                assert!(second.is_held() && !third.is_finished());
                let told = watch.try_next().await.unwrap().unwrap();
                let gone: Vec<_> = told.events().iter().map(|event| &event.kv.key).collect();
                assert_eq!(gone, [&key]);
                assert!(watch.try_next().now_or_never().is_none(), "and nothing else");
                second.kv().put("k", "v").await.unwrap();
                assert_eq!(second.release().await.unwrap(), Release::Released);
                assert!(granted(third).await.is_held());
            });
        }
    }
}

/// How it ends that a lock was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Released,
    TimedOut,
    Dropped,
    SessionClosed,
}

#[test]
fn a_copy_of_an_acquire_that_comes_late_makes_no_entry() {
    for end in [End::Released, End::TimedOut, End::Dropped, End::SessionClosed] {
        virtual_time(async |server| {
            let embedded = embedded(&server);
            let direct = server.client().await.unwrap();
            let session = stranger(&server).await;
            let jobs = Mutex::new(&session, "jobs");
            // Of one that was answered there is no other copy, and nothing would keep it out.
            let tap = embedded.tap(100);
            acquire(&jobs).await.release().await.unwrap();
            comes_late(embedded, &txns(&tap)[0]).await;
            contenders_are(&direct, 1).await;
            direct.delete(locks()).await.unwrap();

            for round in 0..3 {
                let tap = embedded.tap(100);
                // Of some, more than one copy is under way.
                let unanswered = Fault::silence().on(Call::Txn).times(1 + round as usize % 2);
                let unanswered = embedded.inject(unanswered);
                // A copy is waited for for 2 s.
                let patience = if end == End::TimedOut { seconds(1 + round % 2 * 2) } else { SOON };
                let asking = tokio::spawn(jobs.acquire().timeout(patience).into_future());
                eventually(SOON, "it is asked", async || unanswered.is_spent()).await;
                contenders_are(&direct, 1).await;
                let copies = txns(&tap);
                assert_eq!(copies.len(), 1 + round as usize % 2);
                match end {
                    End::Released => {
                        let guard = granted(asking).await;
                        let before = embedded.revision();
                        comes_late(embedded, &copies[0]).await;
                        assert_eq!(embedded.revision(), before, "it is there already");
                        assert!(guard.is_held());
                        assert_eq!(guard.release().await.unwrap(), Release::Released);
                    }
                    End::TimedOut => {
                        assert_eq!(ended(asking).await.unwrap_err().kind(), ErrorKind::Timeout);
                    }
                    End::Dropped => asking.abort(),
                    End::SessionClosed => session.close().await.unwrap(),
                }
                contenders_are(&direct, 0).await;
                let before = embedded.revision();
                for copy in &copies {
                    comes_late(embedded, copy).await;
                }
                assert_eq!(embedded.revision(), before, "{end:?}: it finds the guard key changed");
                contenders_are(&direct, 0).await;
                if end == End::SessionClosed {
                    return;
                }
                // Later ones know of the change.
                let guard = acquire(&jobs).await;
                for copy in &copies {
                    comes_late(embedded, copy).await;
                }
                contenders_are(&direct, 1).await;
                assert!(guard.is_held());
                assert_eq!(guard.release().await.unwrap(), Release::Released);
            }
        });
    }
}

#[test]
fn a_copy_of_a_release_or_a_withdrawal_that_comes_late_ends_no_later_hold() {
    for released in [true, false] {
        virtual_time(async |server| {
            let embedded = embedded(&server);
            let direct = server.client().await.unwrap();
            let jobs = Mutex::new(&stranger(&server).await, "jobs");
            let guard = acquire(&jobs).await;
            let tap = embedded.tap(100);
            if released {
                let lost = embedded.inject(Fault::silence().on(Call::Txn).times(1));
                assert_eq!(guard.release().await.unwrap(), Release::Released);
                assert!(lost.is_spent());
            } else {
                // Both what asked and what took it back.
                let lost = embedded.inject(Fault::silence().on(Call::Txn).times(2));
                let asking = jobs.acquire().timeout(seconds(1)).await;
                assert_eq!(asking.unwrap_err().kind(), ErrorKind::Timeout);
                eventually(SOON, "it is taken back", async || lost.is_spent()).await;
                assert_eq!(guard.release().await.unwrap(), Release::Released);
            }
            contenders_are(&direct, 0).await;
            let guard = acquire(&jobs).await;
            for copy in txns(&tap) {
                comes_late(embedded, &copy).await;
            }
            contenders_are(&direct, 1).await;
            sleep(MINUTE).await;
            assert!(guard.is_held());
            guard.kv().put("k", "v").await.unwrap();
            assert_eq!(guard.release().await.unwrap(), Release::Released);
        });
    }
}

/// Whatever the TTL, and wherever between two renewals it begins. Nor can the holder give the
/// lease back: it expires.
#[test]
fn a_holder_whose_renewals_are_not_heard_knows_it_before_another_holds() {
    for ttl in [seconds(5), seconds(15), MINUTE] {
        for phase in 0..10 {
            virtual_time(async |server| {
                let embedded = embedded(&server);
                let (first, second) =
                    (server.client().await.unwrap(), server.client().await.unwrap());
                let guard = acquire(&Mutex::new(&open_for(&first, ttl).await, "jobs")).await;
                let waiter = open_for(&second, DAY).await;
                let mut waiting = queue_up(&Mutex::new(&waiter, "jobs")).await;
                sleep(ttl * (10 + phase) / 20).await;
                let deaf = [Call::LeaseKeepAlive, Call::LeaseRevoke]
                    .map(|call| embedded.inject(Fault::ignore().on(call)));
                embedded.cut_streams();
                let begun = Instant::now();
                tokio::select! {
                    biased;
                    reason = guard.lost() => assert_eq!(reason, LossReason::Expired),
                    _ = &mut waiting => panic!("another holds it"),
                }
                let held = begun.elapsed();
                assert!(held >= ttl / 2 && held < ttl, "held for {held:?} of {ttl:?}");
                assert!(!guard.is_held() && !waiting.is_finished());
                let next = timeout(ttl, waiting).await.expect("its turn").unwrap().unwrap();
                let free = begun.elapsed() - held;
                assert!(free >= ttl / 20, "nobody held it for {free:?} of {ttl:?}");
                assert!(next.fence() > guard.fence());
                let late = guard.kv().put("k", "late").into_future().now_or_never();
                let late = late.expect("at once").unwrap_err();
                assert_eq!(late.loss_reason(), Some(LossReason::Expired));
                drop(deaf);
                assert!(next.is_held());
            });
        }
    }
}

/// No clock can tell that a lease is revoked. That is what the fence is for.
#[test]
fn a_holder_that_cannot_hear_of_its_end_writes_nothing() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let direct = server.client().await.unwrap();
        for round in 0..4 {
            let session = stranger(&server).await;
            let guard = acquire(&Mutex::new(&session, "jobs")).await;
            embedded.silence_streams(true);
            if round % 2 == 0 {
                assert!(embedded.expire_lease(session.lease()));
            } else {
                direct.delete(guard.key()).await.unwrap();
            }
            // From now on somebody else may hold it, and does.
            let next = acquire(&Mutex::new(&stranger(&server).await, "jobs")).await;
            next.kv().put("k", "next").await.unwrap();
            assert!(guard.is_held(), "it cannot know");
            let stale = match round / 2 {
                0 => guard.kv().put("k", "stale").await.map(drop),
                _ => guard.txn().and_then([Put::new("k", "stale")]).await.map(drop),
            };
            let stale = stale.unwrap_err();
            assert_eq!(stale.kind(), ErrorKind::Lost, "{stale}");
            assert!(!guard.is_held(), "now it knows");
            why(guard.lost()).await;
            assert_eq!(direct.get("k").await.unwrap().into_kv().unwrap().value, "next");
            assert!(next.is_held());
            embedded.silence_streams(false);
            next.release().await.unwrap();
            guard.release().await.unwrap();
        }
    });
}

#[test]
fn of_a_server_that_lost_its_data_nothing_is_held() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let client = server.client().await.unwrap();
        let session = open(&client).await;
        let guard = acquire(&Mutex::new(&session, "jobs")).await;
        let other = stranger(&server).await;
        let waiting = queue_up(&Mutex::new(&other, "jobs")).await;
        // One whose acquire is under way meanwhile.
        let third = stranger(&server).await;
        let late = embedded.inject(Fault::delay(Duration::from_millis(500)).on(Call::Txn).times(1));
        let asking = tokio::spawn(Mutex::new(&third, "jobs").acquire().into_future());
        eventually(SOON, "it is sent", async || late.is_spent()).await;

        embedded.restart(Data::Lost);
        let refused = loop {
            let refused = guard.kv().put("k", "stale").await.unwrap_err();
            // The first may be under way on the connection that breaks.
            if refused.kind() != ErrorKind::Indeterminate {
                break refused;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::Lost, "{refused}");
        assert!(!guard.is_held());
        let changed = LossReason::ClusterChanged;
        assert_eq!(why(guard.lost()).await, changed);
        assert_eq!(ended(waiting).await.unwrap_err().loss_reason(), Some(changed));
        // Who asks for a key with its lease is told only that there is no such lease.
        let asking = ended(asking).await.unwrap_err().loss_reason();
        assert!(matches!(asking, Some(LossReason::ClusterChanged | LossReason::Revoked)));
        for (session, reason) in
            [(&session, Some(changed)), (&other, Some(changed)), (&third, asking)]
        {
            assert_eq!(Some(why(session.lost()).await), reason);
            assert!(!session.is_held());
            let error = Mutex::new(session, "jobs").acquire().await.unwrap_err();
            assert_eq!(error.loss_reason(), reason, "{error}");
        }
        assert_eq!(guard.state(), ClaimState::Lost { reason: changed });
        assert_eq!(client.count(KeyRange::all()).await.unwrap().count, 0);

        // The same client may begin anew; its fences are no successors of the old ones.
        let again = acquire(&Mutex::new(&open(&client).await, "jobs")).await;
        assert_eq!(again.fence().partial_cmp(&guard.fence()), None);
        let gate = FenceGate::new();
        gate.admit("jobs", &guard.fence()).unwrap();
        gate.admit("jobs", &again.fence()).unwrap_err();
        assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(changed));
        assert!(again.is_held());
        again.kv().put("k", "v").await.unwrap();
    });
}

#[test]
fn holders_and_waiters_outlive_restarts_and_elections() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let mut guard = acquire(&Mutex::new(&stranger(&server).await, "jobs")).await;
        for round in 0..40 {
            let other = stranger(&server).await;
            let waiting = queue_up(&Mutex::new(&other, "jobs")).await;
            // Before, while and after it is released.
            let hurt = async {
                sleep(Duration::from_millis(round % 4)).await;
                match round % 5 {
                    0 => embedded.restart(Data::Kept),
                    1 => embedded.cut_connections(),
                    2 => embedded.cut_streams(),
                    3 => {
                        embedded.lose_leader();
                        sleep(seconds(4)).await;
                        embedded.change_leader();
                    }
                    _ => {
                        embedded.refuse_connections().await;
                        sleep(seconds(4)).await;
                        embedded.accept_connections().await.unwrap();
                    }
                }
            };
            if round % 3 == 0 {
                hurt.await;
                sleep(MINUTE * 2).await;
                assert!(guard.is_held() && !waiting.is_finished());
                guard.kv().put("k", "v").await.unwrap();
                assert_eq!(guard.release().await.unwrap(), Release::Released);
            } else {
                let (released, ()) = futures::join!(guard.release(), hurt);
                assert_eq!(released.unwrap(), Release::Released);
            }
            guard = granted(waiting).await;
        }
    });
}
