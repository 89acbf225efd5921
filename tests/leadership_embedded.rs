//! Work that runs while its process leads, on a server that does as it is told: in good time before
//! the leadership can be lost it is over. On the embedded server, in virtual time.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tenure::{ErrorKind, Leading, LeaseState, LossReason, Observer, Reign, Revision, Session};
use tenure_testkit::{Call, Embedded, Fault, TestServer, embed::Data, eventually, virtual_time};
use tokio::time::{Instant, sleep, timeout};

#[path = "support/desk.rs"]
mod desk;
#[path = "support/election.rs"]
mod election;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use desk::{Desk, begins, ends, names, obedient, scheduler, stubborn};
use election::{candidates_are, elected, stand};
use lock::{ended, open, open_for, seconds, stranger};
use start::{MINUTE, SOON};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn embedded(server: &TestServer) -> &Embedded {
    server.embedded().expect("virtual time has no other server")
}

#[test]
fn nobody_is_leader_any_more_before_the_leadership_is_resigned() {
    virtual_time(async |server| {
        let election = scheduler(&stranger(&server).await);
        let watcher = Observer::new(&server.client().await.unwrap(), "scheduler");
        let (desk, mut begun) = Desk::new();
        let leading = obedient(&election, &desk);
        let reign = begins(&mut begun).await;
        let health = leading.health();
        let slow = embedded(&server).inject(Fault::delay(seconds(1)).on(Call::Txn));
        let stopping = tokio::spawn(leading.stop());
        eventually(SOON, "it is sent", async || desk.is_free() && !reign.is_leader()).await;
        assert_eq!(watcher.leader().await.unwrap().unwrap().term, reign.term());
        assert!(!stopping.is_finished());
        health.check().unwrap();
        ended(stopping).await.unwrap();
        assert!(watcher.leader().await.unwrap().is_none());
        drop(slow);
    });
}

#[test]
fn work_that_ignores_that_it_is_to_end_is_aborted_when_its_time_is_over() {
    virtual_time(async |server| {
        let election = scheduler(&stranger(&server).await);
        let (desk, mut begun) = Desk::new();
        for budget in [Duration::ZERO, seconds(1), seconds(7)] {
            let leading = stubborn(&election, &desk, budget);
            let reign = begins(&mut begun).await;
            let next = stand(&scheduler(&stranger(&server).await), "next").await;
            let asked = Instant::now();
            let stopping = tokio::spawn(leading.stop());
            reign.stopping().await;
            if !budget.is_zero() {
                sleep(budget - Duration::from_millis(1)).await;
                assert!(reign.is_leader() && !desk.is_free() && !next.is_finished());
            }
            ended(stopping).await.unwrap();
            let took = asked.elapsed();
            assert!(desk.is_free() && took >= budget && took < budget + seconds(1), "{took:?}");
            elected(next).await.resign().await.unwrap();
        }
    });
}

#[test]
fn work_that_panics_steps_down_and_begins_again_ever_more_slowly() {
    virtual_time(async |server| {
        let election = scheduler(&stranger(&server).await);
        let (desk, mut begun) = Desk::new();
        let mut rounds = 0;
        let leading = election.lead(move |reign: Arc<Reign>| {
            rounds += 1;
            let seat = desk.sit(&reign);
            // In the closure or in the work, at once or later.
            assert!(rounds % 3 > 0, "on purpose");
            async move {
                let _seat = seat;
                if rounds % 3 == 1 {
                    sleep(seconds(1)).await;
                }
                panic!("on purpose");
            }
        });
        let leading = leading.once().start().unwrap();
        let mut reign = begins(&mut begun).await;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            // Whoever stands behind has its turn in between.
            let other = scheduler(&stranger(&server).await).campaign("other").await.unwrap();
            assert!(!reign.is_leader() && other.term() > reign.term());
            let (free, term) = (Instant::now(), other.term());
            other.resign().await.unwrap();
            let again = timeout(MINUTE, begun.recv()).await.unwrap().unwrap();
            assert!(again.term() > term);
            pauses.push(free.elapsed().as_millis());
            reign = again;
        }
        assert!(pauses[0] >= 400 && pauses[3] > 2 * pauses[1], "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 31_000), "{pauses:?}");
        timeout(SOON, leading.stop()).await.expect("also while it rests").unwrap();
    });
}

#[test]
fn work_that_lasted_begins_again_at_once_and_leadership_goes_round() {
    virtual_time(async |server| {
        let (desk, mut begun) = Desk::new();
        let mut all = Vec::new();
        for number in 0..3 {
            let desk = desk.clone();
            let election = scheduler(&stranger(&server).await);
            let work = move |reign: Arc<Reign>| {
                let desk = desk.clone();
                async move {
                    let _seat = desk.sit(&reign);
                    sleep(2 * MINUTE).await;
                }
            };
            all.push(election.lead(work).value(number.to_string()).start().unwrap());
            candidates_are(&election, number + 1).await;
        }
        let (begin, mut last) = (Instant::now(), Revision::NONE);
        for round in 0..9 {
            let reign = timeout(DAY, begun.recv()).await.unwrap().unwrap();
            assert!(reign.term() > last);
            last = reign.term();
            let leads = all.iter().position(|leading| leading.is_leader());
            assert_eq!(leads, Some(round % 3), "each in its turn");
        }
        assert!(begin.elapsed() < 9 * 2 * MINUTE, "{:?}", begin.elapsed());
    });
}

#[test]
fn without_a_session_it_ends_and_with_the_next_one_it_stands_again() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        for reenters in [false, true] {
            for stubbornly in [false, true] {
                let builder = Session::builder().ttl(MINUTE);
                let builder = if reenters { builder.reenter() } else { builder };
                let session = builder.open(&client).await.unwrap();
                let election = scheduler(&session);
                let (desk, mut begun) = Desk::new();
                let leading = match stubbornly {
                    true => stubborn(&election, &desk, DAY),
                    false => obedient(&election, &desk),
                };
                let first = begins(&mut begun).await;
                embedded(&server).expire_lease(session.lease());
                timeout(MINUTE, first.stopping()).await.expect("it is told");
                assert!(!first.is_leader());
                if reenters {
                    let second = timeout(DAY, begun.recv()).await.unwrap().unwrap();
                    assert!(second.term() > first.term() && second.is_leader());
                    assert_eq!(session.generation(), 1);
                    session.close().await.unwrap();
                }
                let error = ends(&leading).await.unwrap_err();
                let reason = if reenters { LossReason::Closed } else { LossReason::Revoked };
                assert_eq!(error.loss_reason(), Some(reason), "{error}");
                assert!(desk.is_free());
                assert_eq!(names(&leading.state()), "failed");
                leading.stop().await.unwrap_err();
            }
        }
    });
}

/// Whatever the TTL, and wherever between two renewals it begins.
#[test]
fn when_renewals_are_overdue_the_work_ends_before_the_leadership_can_be_lost() {
    for ttl in [seconds(5), seconds(15), MINUTE] {
        for phase in 0..10 {
            for stubbornly in [false, true] {
                virtual_time(async |server| {
                    let clients = (server.client().await.unwrap(), server.client().await.unwrap());
                    let clock = clients.0.clock().clone();
                    let election = scheduler(&open_for(&clients.0, ttl).await);
                    let (desk, mut begun) = Desk::new();
                    let leading = match stubbornly {
                        true => stubborn(&election, &desk, seconds(5)),
                        false => obedient(&election, &desk),
                    };
                    let reign = begins(&mut begun).await;
                    let mut next =
                        stand(&scheduler(&open_for(&clients.1, DAY).await), "next").await;
                    sleep(ttl * (10 + phase) / 20).await;
                    assert!(!reign.is_stopping(), "renewals are in time");
                    let _deaf = [Call::LeaseKeepAlive, Call::LeaseRevoke]
                        .map(|call| embedded(&server).inject(Fault::ignore().on(call)));
                    embedded(&server).cut_streams();
                    let until = reign.deadline();
                    tokio::select! {
                        biased;
                        () = reign.stopping() => {}
                        _ = &mut next => panic!("another one leads"),
                    }
                    let left = until.since(clock.now());
                    assert!(left >= seconds(5).min(ttl / 4), "{left:?} of {ttl:?}");
                    let free = async {
                        while !desk.is_free() {
                            sleep(Duration::from_millis(1)).await;
                        }
                    };
                    tokio::select! {
                        biased;
                        () = free => {}
                        _ = &mut next => panic!("another one leads"),
                    }
                    let over = clock.now();
                    assert!(over <= until + Duration::from_millis(1), "{over:?} {until:?}");
                    let next = timeout(2 * ttl, next).await.expect("its turn").unwrap().unwrap();
                    assert!(!reign.is_leader() && next.is_leader());
                    drop(leading);
                });
            }
        }
    }
}

#[test]
fn health_fails_while_renewals_are_overdue_and_at_no_other_time() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let session = open_for(&client, MINUTE).await;
        let election = scheduler(&session);
        let (desk, mut begun) = Desk::new();
        let leading = obedient(&election, &desk);
        let health = leading.health();
        health.check().unwrap();
        let reign = begins(&mut begun).await;
        for _ in 0..200 {
            sleep(seconds(1)).await;
            health.check().unwrap();
        }
        let deaf = embedded(&server).inject(Fault::ignore().on(Call::LeaseKeepAlive));
        embedded(&server).cut_streams();
        let mut states = session.states();
        while !matches!(states.next().await.unwrap(), LeaseState::Jeopardy { .. }) {}
        let unwell = health.check().unwrap_err();
        assert_eq!(unwell.kind(), ErrorKind::Unavailable);
        assert!(unwell.to_string().contains("overdue"), "{unwell}");
        assert!(leading.is_leader() && !reign.is_stopping(), "there is time yet");
        drop(deaf);
        while !matches!(states.next().await.unwrap(), LeaseState::Healthy) {}
        health.check().unwrap();
        assert!(reign.is_leader() && !reign.is_stopping());
        // Who does not lead is well.
        let other = obedient(&scheduler(&stranger(&server).await), &Desk::new().0);
        candidates_are(&election, 2).await;
        other.health().check().unwrap();
        leading.stop().await.unwrap();
        health.check().unwrap();
    });
}

#[test]
fn with_its_client_closed_no_work_goes_on() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let election = scheduler(&open(&client).await);
        let (desk, mut begun) = Desk::new();
        let leading = stubborn(&election, &desk, MINUTE);
        begins(&mut begun).await;
        client.close().await;
        let error = ends(&leading).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Lost), "{error}");
        assert!(desk.is_free() && !leading.is_leader());
    });
}

#[test]
fn two_processes_never_work_at_once_whatever_happens_to_the_server() {
    virtual_time(async |server| {
        let (desk, mut begun) = Desk::new();
        let mut all = Vec::new();
        for _ in 0..3 {
            let client = server.client().await.unwrap();
            let builder = Session::builder().ttl(seconds(15)).reenter();
            let election = scheduler(&builder.open(&client).await.unwrap());
            all.push(obedient(&election, &desk));
        }
        let mut last = Revision::NONE;
        for round in 0..30 {
            match round % 6 {
                0 => embedded(&server).restart(Data::Kept),
                1 => embedded(&server).cut_connections(),
                2 => {
                    embedded(&server).lose_leader();
                    sleep(seconds(4)).await;
                    embedded(&server).change_leader();
                }
                3 => {
                    let deaf = embedded(&server).inject(Fault::ignore().on(Call::LeaseKeepAlive));
                    embedded(&server).cut_streams();
                    sleep(seconds(round)).await;
                    drop(deaf);
                }
                4 => {
                    embedded(&server).refuse_connections().await;
                    sleep(seconds(2 * round)).await;
                    embedded(&server).accept_connections().await.unwrap();
                }
                _ => {
                    let leads = all.iter().position(Leading::is_leader).expect("one leads");
                    let election = scheduler(&stranger(&server).await);
                    let stopped = std::mem::replace(&mut all[leads], obedient(&election, &desk));
                    stopped.stop().await.unwrap();
                }
            }
            eventually(2 * MINUTE, "one leads", async || {
                all.iter().filter(|leading| leading.is_leader()).count() == 1 && !desk.is_free()
            })
            .await;
            while let Ok(reign) = begun.try_recv() {
                assert!(reign.term() > last, "terms rise");
                last = reign.term();
            }
        }
    });
}
