//! Elections on a server that does as it is told: proclamations whose answers are lost or whose
//! copies come late, and what lasts for days. On the embedded server, in virtual time.

use std::{future::IntoFuture, time::Duration};

use bytes::{BufMut, BytesMut};
use futures::TryStreamExt;
use tenure::{Connector, Election, EventKind, KeyRange, LossReason, Observer, Release, Session};
use tenure_testkit::{
    Call, Embedded, Fault, TestServer,
    embed::{Data, Recorded, Tap},
    eventually, virtual_time,
};
use tokio::time::{sleep, timeout};

#[path = "support/election.rs"]
mod election;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;
#[path = "support/users.rs"]
mod users;

use election::{candidates_are, elected, leader_says, sees, stand, win};
use lock::{ended, open_for, seconds, stranger};
use start::{MINUTE, SOON};
use users::{Admin, connect, enable_auth};

const HOUR: Duration = Duration::from_secs(3600);

fn embedded(server: &TestServer) -> &Embedded {
    server.embedded().expect("virtual time has no other server")
}

fn scheduler(session: &Session) -> Election {
    Election::new(session, "scheduler")
}

/// The transactions that were recorded.
fn txns(tap: &Tap) -> Vec<Recorded> {
    tap.take().into_iter().filter(|call| call.path == Call::Txn.path()).collect()
}

/// Makes a call once more, byte for byte: a copy that was under way all the time.
async fn comes_late(server: &Embedded, call: &Recorded) {
    let pipe = server.connector().connect("").await.unwrap();
    let (mut http, connection) = h2::client::handshake(pipe).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://embedded{}", call.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut body) = http.send_request(request, false).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(call.request.len().try_into().unwrap());
    frame.put_slice(&call.request);
    body.send_data(frame.freeze(), true).unwrap();
    timeout(SOON, answer).await.expect("it is answered").unwrap();
    connection.abort();
}

#[test]
fn a_proclamation_whose_answers_are_lost_is_made_once() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request()] {
        for times in 1..=3 {
            let fault = fault.clone().on(Call::Txn).times(times);
            virtual_time(async |server| {
                let direct = server.client().await.unwrap();
                let leadership = win(&scheduler(&stranger(&server).await), "old").await;
                let mut watch = direct.watch(leadership.key()).await.unwrap();
                let lost = embedded(&server).inject(fault);
                // The watch tells of it long before an answer does.
                let revision = leadership.proclaim("new").await.unwrap();
                assert!(lost.is_spent());
                let told = watch.try_next().await.unwrap().unwrap();
                assert_eq!(told.events()[0].kv.mod_revision, revision);
                assert_eq!(leadership.fence().mod_revision, revision);
                assert!(leadership.is_leader());
                leadership.kv().put("k", "v").await.unwrap();
                leadership.proclaim("newer").await.unwrap();
                let told = watch.try_next().await.unwrap().unwrap();
                assert_eq!(told.events()[0].kv.value, "newer");
                assert_eq!(leadership.resign().await.unwrap(), Release::Released);
            });
        }
    }
}

#[test]
fn a_copy_of_a_proclamation_that_comes_late_says_nothing() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let session = stranger(&server).await;
        let election = scheduler(&session);
        let leadership = win(&election, "0").await;
        let tap = embedded.tap(100);
        let lost = embedded.inject(Fault::silence().on(Call::Txn).times(1));
        leadership.proclaim("1").await.unwrap();
        assert!(lost.is_spent());
        let copies = txns(&tap);
        assert_eq!(copies.len(), 2);
        let late = async |copies: &[Recorded]| {
            let before = embedded.revision();
            for copy in copies {
                comes_late(embedded, copy).await;
            }
            assert_eq!(embedded.revision(), before, "it changes nothing");
        };
        late(&copies).await;
        leadership.proclaim("2").await.unwrap();
        late(&copies).await;
        assert_eq!(leader_says(&election).await.as_deref(), Some("2"));
        leadership.resign().await.unwrap();
        late(&copies).await;
        let again = win(&election, "3").await;
        late(&copies).await;
        assert_eq!(leader_says(&election).await.as_deref(), Some("3"));

        // Nor does one that comes after another process has resumed the session: it would take
        // the key from that one.
        let tap = embedded.tap(100);
        let ignored = embedded.inject(Fault::ignore().on(Call::Txn).times(1));
        let proclaiming = tokio::spawn(async move { again.proclaim("stale").await });
        eventually(SOON, "it is sent", async || ignored.is_spent()).await;
        let copies = txns(&tap);
        let client = server.client().await.unwrap();
        let keeps = Session::resume(&client, session.lease()).await.unwrap();
        late(&copies).await;
        let error = ended(proclaiming).await.unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::TakenOver), "{error}");
        let new = win(&scheduler(&keeps), "new").await;
        late(&copies).await;
        assert_eq!(leader_says(&scheduler(&keeps)).await.as_deref(), Some("new"));
        assert!(new.is_leader());
    });
}

/// Between the two steps by which a session is resumed, the earlier process is refused already.
#[test]
fn a_proclamation_in_the_middle_of_a_resumption_hides_no_key_from_it() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        for delay in 0..20 {
            let session = stranger(&server).await;
            let old = win(&scheduler(&session), "old").await;
            let slow = embedded.inject(Fault::delay(Duration::from_millis(delay)).on(Call::Range));
            let client = server.client().await.unwrap();
            let resuming = async { Session::resume(&client, session.lease()).await.unwrap() };
            let proclaims = async {
                let mut number = 0;
                while old.proclaim(number.to_string()).await.is_ok() {
                    number += 1;
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let (resumed, ()) = futures::join!(resuming, proclaims);
            drop(slow);
            assert_eq!(resumed.inherited(), [old.key()]);
            let new = win(&scheduler(&resumed), "new").await;
            assert_eq!(new.term(), old.term());
            new.resign().await.unwrap();
        }
    });
}

#[test]
fn a_fenced_write_that_waits_for_a_proclamation_is_done_after_it() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let leadership = win(&scheduler(&stranger(&server).await), "0").await;
        for fault in [Fault::silence(), Fault::lose_answer(), Fault::delay(seconds(1))] {
            let own = leadership.kv();
            // The proclamation is under way, done or not, and nobody knows of it yet.
            let lost = embedded.inject(fault.on(Call::Txn).times(1));
            let proclaims = leadership.proclaim("1");
            let writes = async {
                eventually(SOON, "it is sent", async || lost.is_spent()).await;
                own.put("k", "v").await.unwrap();
            };
            let (proclaimed, ()) = futures::join!(proclaims, writes);
            proclaimed.unwrap();
            assert!(leadership.is_leader());
        }
        assert_eq!(leadership.resign().await.unwrap(), Release::Released);
    });
}

#[test]
fn a_withdrawal_of_the_same_session_stops_no_proclamation() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let session = stranger(&server).await;
        let leadership = win(&scheduler(&session), "0").await;
        let other = Election::new(&session, "other");
        for round in 0..3 {
            // Its answer is lost, so giving up moves the guard.
            let lost = embedded.inject(Fault::silence().on(Call::Txn).times(1));
            other.campaign("v").timeout(seconds(1)).await.unwrap_err();
            assert!(lost.is_spent());
            candidates_are(&other, 0).await;
            leadership.proclaim(round.to_string()).await.unwrap();
        }
        assert!(leadership.is_leader());
    });
}

#[test]
fn a_transfer_whose_answers_are_lost_is_made_once() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request()] {
        for times in 1..=3 {
            let fault = fault.clone().on(Call::Txn).times(times);
            virtual_time(async |server| {
                let direct = server.client().await.unwrap();
                let mut gone = direct
                    .watch(KeyRange::prefix("tenure/election/"))
                    .without_puts()
                    .await
                    .unwrap();
                let election = scheduler(&stranger(&server).await);
                let leadership = win(&election, "first").await;
                let second = stand(&scheduler(&stranger(&server).await), "second").await;
                let third = stand(&scheduler(&stranger(&server).await), "third").await;
                let candidates = election.candidates().await.unwrap();
                let lost = embedded(&server).inject(fault);
                leadership.transfer(&candidates[1]).await.unwrap();
                assert!(lost.is_spent());
                let second = elected(second).await;
                sleep(MINUTE).await;
                assert!(second.is_leader() && !third.is_finished());
                let told = gone.try_next().await.unwrap().unwrap();
                assert_eq!(told.events().len(), 1);
                assert_eq!(told.events()[0].kind, EventKind::Delete);
                assert_eq!(told.events()[0].kv.key, candidates[0].key);
            });
        }
    }
}

#[test]
fn of_a_transfer_whose_candidate_dies_while_answers_are_lost_comes_one_leader() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request(), Fault::ignore()] {
        for dies_after in [0, 1, 3] {
            let fault = fault.clone().on(Call::Txn).times(2);
            virtual_time(async |server| {
                let direct = server.client().await.unwrap();
                let election = scheduler(&stranger(&server).await);
                let leadership = win(&election, "first").await;
                let dying = stand(&scheduler(&stranger(&server).await), "dying").await;
                let last = stand(&scheduler(&stranger(&server).await), "last").await;
                let candidates = election.candidates().await.unwrap();
                let lost = embedded(&server).inject(fault);
                let dies = async {
                    sleep(seconds(dies_after)).await;
                    direct.delete(candidates[1].key.clone()).await.unwrap();
                };
                let (transferred, ()) = futures::join!(leadership.transfer(&candidates[1]), dies);
                assert!(lost.is_spent());
                drop(ended(dying).await);
                if let Err(refused) = transferred {
                    let ours = refused.leadership.expect("it is still ours");
                    assert!(ours.is_leader() && !last.is_finished());
                    ours.kv().put("k", "v").await.unwrap();
                    ours.resign().await.unwrap();
                }
                assert!(elected(last).await.is_leader());
                candidates_are(&election, 0).await;
            });
        }
    }
}

#[test]
fn a_compaction_while_candidates_wait_and_observers_look_changes_nothing() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let direct = server.client().await.unwrap();
        let election = scheduler(&stranger(&server).await);
        let leadership = win(&election, "0").await;
        let next = stand(&scheduler(&stranger(&server).await), "next").await;
        let mut leaders = election.observe();
        assert_eq!(sees(&mut leaders).await.as_deref(), Some("0"));
        for round in 1..10 {
            let value = round.to_string();
            if round % 3 == 0 {
                embedded.silence_streams(true);
            }
            leadership.proclaim(value.clone()).await.unwrap();
            direct.put("k", "v").await.unwrap();
            embedded.compact(embedded.revision()).unwrap();
            embedded.cut_streams();
            embedded.silence_streams(false);
            assert_eq!(sees(&mut leaders).await, Some(value));
            sleep(MINUTE).await;
            assert!(leadership.is_leader() && !next.is_finished());
        }
        leadership.resign().await.unwrap();
        assert!(elected(next).await.is_leader());
    });
}

#[test]
fn after_restarts_there_is_one_leader_the_same_as_before() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let election = scheduler(&stranger(&server).await);
        let leadership = win(&election, "0").await;
        let next = stand(&scheduler(&stranger(&server).await), "next").await;
        for round in 0..12 {
            let value = round.to_string();
            let proclaims = leadership.proclaim(value.clone());
            let hurt = async {
                sleep(Duration::from_millis(round % 3)).await;
                match round % 4 {
                    0 => embedded.restart(Data::Kept),
                    1 => embedded.cut_connections(),
                    2 => embedded.cut_streams(),
                    _ => {
                        embedded.lose_leader();
                        sleep(seconds(4)).await;
                        embedded.change_leader();
                    }
                }
            };
            let (proclaimed, ()) = futures::join!(proclaims, hurt);
            proclaimed.unwrap();
            assert_eq!(leader_says(&election).await, Some(value));
            sleep(2 * MINUTE).await;
            assert!(leadership.is_leader() && !next.is_finished());
        }
        leadership.resign().await.unwrap();
        assert!(elected(next).await.is_leader());
    });
}

#[test]
fn of_a_server_that_lost_its_data_an_observer_sees_the_new_leaders() {
    virtual_time(async |server| {
        let old = win(&scheduler(&stranger(&server).await), "old").await;
        for number in 0..100 {
            old.proclaim(number.to_string()).await.unwrap();
        }
        let watcher = server.client().await.unwrap();
        let mut leaders = Observer::new(&watcher, "scheduler").observe();
        assert_eq!(sees(&mut leaders).await.as_deref(), Some("99"));
        embedded(&server).restart(Data::Lost);
        let fresh = server.client().await.unwrap();
        let new = win(&scheduler(&open_for(&fresh, HOUR).await), "new").await;
        let seen =
            timeout(MINUTE, async { while sees(&mut leaders).await.as_deref() != Some("new") {} });
        seen.await.expect("it is seen");
        assert_eq!(timeout(MINUTE, old.lost()).await, Ok(LossReason::ClusterChanged));
        assert!(new.is_leader());
    });
}

/// Tokens that are in use do not expire; but a server forgets them when it starts anew.
#[test]
fn a_candidate_whose_tokens_are_forgotten_hour_by_hour_waits_on_and_leads() {
    virtual_time(async |server| {
        enable_auth(&server).await;
        Admin::root(&server).await.permit_all("a", "tenure/", "tenure0").await;
        let (first, second) = (connect(&server, "alice").await, connect(&server, "alice").await);
        let leads = scheduler(&open_for(&first, HOUR).await);
        let leadership = win(&leads, "first").await;
        let waits = scheduler(&open_for(&second, HOUR).await);
        let standing = tokio::spawn(waits.campaign("second").into_future());
        candidates_are(&leads, 2).await;
        let mut leaders = waits.observe();
        assert_eq!(sees(&mut leaders).await.as_deref(), Some("first"));
        let before = server.calls(Call::Authenticate).await;
        for _ in 0..6 {
            embedded(&server).restart(Data::Kept);
            sleep(HOUR).await;
            assert!(leadership.is_leader() && !standing.is_finished());
            assert_eq!(embedded(&server).tokens(), 2);
        }
        assert!(server.calls(Call::Authenticate).await >= before + 12);
        leadership.proclaim("hours later").await.unwrap();
        assert_eq!(sees(&mut leaders).await.as_deref(), Some("hours later"));
        leadership.resign().await.unwrap();
        let second = elected(standing).await;
        second.proclaim("at last").await.unwrap();
        second.kv().put("a/k", "v").await.unwrap();
        assert!(second.is_leader());
    });
}
