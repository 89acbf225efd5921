//! Double barriers: nobody in before all are there, nobody out before all want to, and the death of
//! any of them stops nobody.

use std::{
    future::IntoFuture,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::join_all};
use tenure::{
    ClaimState, Client, DoubleBarrier, ErrorKind, KeyRange, LossReason, Membership, Release,
    Session,
    actor::{DoubleBarrierActor, EnterBarrier, LeaveBarrier},
};
use tenure_testkit::{
    Call, Fault, TestServer, eventually, on_each_etcd, on_each_server, virtual_time,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{ended, open, open_for, seconds, stranger, told, why};
use start::{MINUTE, SOON, cluster, start};

const BASE: &str = "tenure/double-barrier/round";

type Entering = JoinHandle<tenure::Result<Membership>>;
type Leaving = JoinHandle<tenure::Result<Release>>;

fn round(session: &Session, parties: usize) -> DoubleBarrier {
    DoubleBarrier::new(session, "round", parties)
}

fn waiters() -> KeyRange {
    KeyRange::prefix(format!("{BASE}/waiters/"))
}

async fn members(client: &Client) -> u64 {
    client.count(waiters()).await.unwrap().count
}

async fn members_are(client: &Client, count: u64) {
    let what = format!("{count} are there");
    eventually(SOON, &what, async || members(client).await == count).await;
}

/// Enters in the background, and returns once its key is there.
async fn enters(client: &Client, barrier: &DoubleBarrier) -> Entering {
    let before = members(client).await;
    let entering = tokio::spawn(barrier.enter().into_future());
    members_are(client, before + 1).await;
    entering
}

/// Leaves in the background, and returns once its key is gone.
async fn leaves(client: &Client, member: Membership) -> Leaving {
    let key = member.key();
    let leaving = tokio::spawn(member.leave().into_future());
    eventually(SOON, "it wants to leave", async || {
        client.count(key.clone()).await.unwrap().count == 0
    })
    .await;
    leaving
}

async fn all_in(entering: Vec<Entering>) -> Vec<Membership> {
    let mut members = Vec::new();
    for entering in entering {
        members.push(ended(entering).await.unwrap());
    }
    members
}

async fn all_out(leaving: impl IntoIterator<Item = Leaving>) {
    for leaving in leaving {
        assert_eq!(ended(leaving).await.unwrap(), Release::Released);
    }
}

async fn nothing_is_left(client: &Client) {
    let all = KeyRange::prefix(BASE);
    eventually(SOON, "nothing is left", async || {
        client.count(all.clone()).await.unwrap().count == 0
    })
    .await;
}

/// So many members of processes of their own, all in.
async fn gathered(server: &TestServer, client: &Client, parties: usize) -> Vec<Membership> {
    let mut entering = Vec::new();
    for _ in 0..parties {
        let barrier = round(&stranger(server).await, parties);
        entering.push(enters(client, &barrier).await);
    }
    all_in(entering).await
}

#[tokio::test]
async fn nobody_enters_before_all_are_there_and_nobody_leaves_before_all_want_to() {
    let meet = async |sessions: Vec<Session>, client: Client| {
        let parties = sessions.len();
        let barriers: Vec<_> = sessions.iter().map(|session| round(session, parties)).collect();
        let mut entering = Vec::new();
        for barrier in &barriers[1..] {
            entering.push(enters(&client, barrier).await);
            // A wake without a cause.
            client.put(format!("{BASE}/ready-or-not"), "").await.unwrap();
            assert!(entering.iter().all(|entering| !entering.is_finished()));
        }
        entering.push(tokio::spawn(barriers[0].enter().into_future()));
        let mut inside = all_in(entering).await;
        assert!(inside.iter().all(|member| member.is_held()));
        let last = inside.pop().unwrap();
        let mut leaving = Vec::new();
        for member in inside {
            leaving.push(leaves(&client, member).await);
            assert!(leaving.iter().all(|leaving| !leaving.is_finished()));
        }
        assert_eq!(last.leave().await.unwrap(), Release::Released);
        all_out(leaving).await;
        client.delete(format!("{BASE}/ready-or-not")).await.unwrap();
        nothing_is_left(&client).await;
    };
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(stranger(&server).await);
        }
        // Two of one session are two.
        sessions.push(sessions[0].clone());
        meet(sessions, client).await;
    })
    .await;
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let mut sessions = Vec::new();
        for member in cluster.members() {
            let client = Client::connect([member.endpoint()]).await.unwrap();
            sessions.push(open(&client).await);
        }
        meet(sessions, client).await;
    })
    .await;
}

#[tokio::test]
async fn one_too_many_is_refused_and_the_others_are_unaffected() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let late = round(&stranger(&server).await, 3);
        let inside = gathered(&server, &client, 3).await;
        for _ in 0..3 {
            let refused = late.enter().await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
        }
        members_are(&client, 3).await;
        assert!(inside.iter().all(|member| member.is_held()));
        let mut leaving = Vec::new();
        for member in inside {
            leaving.push(leaves(&client, member).await);
        }
        all_out(leaving).await;
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn many_who_come_at_once_are_as_many_as_may() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut barriers = Vec::new();
        for _ in 0..4 {
            let session = stranger(&server).await;
            barriers.extend((0..3).map(|_| round(&session, 5)));
        }
        let entered = join_all(
            barriers
                .iter()
                .map(|barrier| timeout(SOON, barrier.enter().timeout(seconds(10)).into_future())),
        );
        let mut inside = Vec::new();
        for entered in entered.await {
            match entered.expect("it ends") {
                Ok(member) => inside.push(member),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Full, "{error}"),
            }
        }
        assert_eq!(inside.len(), 5);
        members_are(&client, 5).await;
        let left = join_all(inside.into_iter().map(|member| member.leave().into_future())).await;
        assert!(left.into_iter().all(|left| left.unwrap() == Release::Released));
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn it_is_used_again_over_a_hundred_rounds() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let parties = 3;
        let (entered, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut sessions = Vec::new();
        for _ in 0..parties {
            sessions.push(stranger(&server).await);
        }
        let members = sessions.iter().map(async |session| {
            let barrier = round(session, parties);
            let mut rounds = Vec::new();
            for number in 0..100 {
                entered.fetch_add(1, Ordering::SeqCst);
                let member = timeout(SOON, barrier.enter()).await.expect("all come").unwrap();
                let came = entered.load(Ordering::SeqCst);
                assert_eq!(came, (number + 1) * parties, "in before all came");
                rounds.push(member.round());
                left.fetch_add(1, Ordering::SeqCst);
                let out = timeout(SOON, member.leave().into_future()).await.expect("all leave");
                assert_eq!(out.unwrap(), Release::Released);
                let wanted = left.load(Ordering::SeqCst);
                assert!(wanted >= (number + 1) * parties, "out before all wanted to");
            }
            rounds
        });
        let rounds = join_all(members).await;
        assert!(rounds[0].is_sorted_by(|before, after| before < after), "each has its number");
        assert!(rounds.iter().all(|seen| *seen == rounds[0]), "which all see");
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn a_member_whose_session_ends_is_waited_for_by_nobody() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        // While they wait: another comes in its place.
        let doomed = stranger(&server).await;
        let dead = enters(&client, &round(&doomed, 3)).await;
        let mut entering = vec![enters(&client, &round(&stranger(&server).await, 3)).await];
        client.lease_revoke(doomed.lease()).await.unwrap();
        let lost = ended(dead).await.unwrap_err();
        assert_eq!((lost.kind(), lost.loss_reason()), (ErrorKind::Lost, Some(LossReason::Revoked)));
        members_are(&client, 1).await;
        entering.push(enters(&client, &round(&stranger(&server).await, 3)).await);
        assert!(entering.iter().all(|entering| !entering.is_finished()));
        let doomed = stranger(&server).await;
        entering.push(enters(&client, &round(&doomed, 3)).await);
        // Inside, and while the others leave.
        let mut inside = all_in(entering).await;
        let dead = inside.pop().unwrap();
        let mut leaving = Vec::new();
        for member in inside {
            leaving.push(leaves(&client, member).await);
        }
        assert!(leaving.iter().all(|leaving| !leaving.is_finished()));
        client.lease_revoke(doomed.lease()).await.unwrap();
        all_out(leaving).await;
        assert_eq!(why(dead.lost()).await, LossReason::Revoked);
        let left = dead.leave().await.unwrap();
        assert_eq!(left, Release::AlreadyLost(LossReason::Revoked));
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn whoever_gives_up_leaves_no_key_and_the_place_is_free() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let barrier = round(&stranger(&server).await, 2);
        let late = barrier.enter().timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
        nothing_is_left(&client).await;
        let dropped = enters(&client, &barrier).await;
        dropped.abort();
        nothing_is_left(&client).await;
        let closed = stranger(&server).await;
        let waiting = enters(&client, &round(&closed, 2)).await;
        closed.close().await.unwrap();
        members_are(&client, 0).await;
        assert_eq!(ended(waiting).await.unwrap_err().loss_reason(), Some(LossReason::Closed));
        drop(gathered(&server, &client, 2).await);
        nothing_is_left(&client).await;
        // Nobody asked.
        let never = barrier.enter().into_future();
        let mut states = never.states();
        drop(never);
        assert_eq!(told(&mut states).await, ClaimState::Released);
    })
    .await;
}

#[tokio::test]
async fn leaving_is_given_up_after_a_while_and_the_member_has_left() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut inside = gathered(&server, &client, 2).await;
        let (first, second) = (inside.remove(0), inside.remove(0));
        let late = first.leave().timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
        members_are(&client, 1).await;
        assert!(second.is_held());
        assert_eq!(second.leave().await.unwrap(), Release::Released);
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn how_it_stands_is_told_with_a_fence_that_proves_it() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let barrier = round(&stranger(&server).await, 2);
        let entering = barrier.enter().into_future();
        let mut states = entering.states();
        let entering = tokio::spawn(entering);
        while told(&mut states).await != (ClaimState::Waiting { ahead: Some(1) }) {}
        let other = enters(&client, &round(&stranger(&server).await, 2)).await;
        let member = ended(entering).await.unwrap();
        let held = ClaimState::Held { fence: member.fence() };
        while told(&mut states).await != held {}
        member.kv().put("k", "v").await.unwrap();
        client.delete(member.key()).await.unwrap();
        assert_eq!(why(member.lost()).await, LossReason::KeyDeleted);
        let refused = member.kv().put("k", "w").await.unwrap_err();
        assert_eq!(refused.loss_reason(), Some(LossReason::KeyDeleted));
        assert_eq!(told(&mut states).await, ClaimState::Lost { reason: LossReason::KeyDeleted });
        assert!(states.next().await.is_none());
        let other = ended(other).await.unwrap();
        assert_eq!(other.leave().await.unwrap(), Release::Released);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let before = server.kv_calls().await;
        for bad in [
            DoubleBarrier::new(&session, "", 2),
            DoubleBarrier::new(&session, "a\0b", 2),
            DoubleBarrier::at(&session, "", 2),
            DoubleBarrier::new(&session, "a", 0),
            DoubleBarrier::new(&session, "a", 121),
        ] {
            let error = bad.enter().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert_eq!(server.kv_calls().await, before);
    })
    .await;
}

#[tokio::test]
async fn members_of_go_are_counted_and_their_ready_is_heard() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = stranger(&server).await;
        let barrier = DoubleBarrier::at(&session, "go", 2);
        let lease = client.lease_grant(MINUTE).await.unwrap().id;
        // Left behind by members that died.
        client.put("go/ready", "").await.unwrap();
        let go = |number: u64| format!("go/waiters/160000000000000000{number}");
        // Ours is the last: it says so, as Go's members hear it.
        client.put(go(0), "").lease(lease).await.unwrap();
        let mut ready = client.watch("go/ready").await.unwrap();
        let member = timeout(SOON, barrier.enter()).await.expect("all are there").unwrap();
        let told = timeout(SOON, ready.next()).await.expect("it is told").unwrap().unwrap();
        assert_eq!(told.events()[0].kind, tenure::EventKind::Put);
        let key = String::from_utf8(member.key().to_vec()).unwrap();
        assert!(key.starts_with("go/waiters/"), "{key}");
        let kv = client.get(member.key()).await.unwrap().into_kv().unwrap();
        assert_eq!(kv.lease, Some(session.lease()));
        // As Go's members leave: they delete their keys.
        let leaving = tokio::spawn(member.leave().into_future());
        client.delete(go(0)).await.unwrap();
        all_out([leaving]).await;
        // Go's is the last.
        let waiting = tokio::spawn(barrier.enter().into_future());
        let waiters = KeyRange::prefix("go/waiters");
        eventually(SOON, "it waits", async || {
            client.count(waiters.clone()).await.unwrap().count == 1
        })
        .await;
        client.put(go(1), "").lease(lease).await.unwrap();
        client.put("go/ready", "").await.unwrap();
        let member = ended(waiting).await.unwrap();
        let full = DoubleBarrier::at(&stranger(&server).await, "go", 2);
        assert_eq!(full.enter().await.unwrap_err().kind(), ErrorKind::Full);
        let leaving = tokio::spawn(member.leave().into_future());
        client.lease_revoke(lease).await.unwrap();
        all_out([leaving]).await;
    })
    .await;
}

#[tokio::test]
async fn resuming_a_session_leaves_its_memberships_as_they_are() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = stranger(&server).await;
        let waiting = enters(&client, &round(&session, 2)).await;
        let lease = session.orphan().await.unwrap();
        assert_eq!(ended(waiting).await.unwrap_err().loss_reason(), Some(LossReason::Orphaned));
        let before = client.get(waiters()).await.unwrap().kvs;
        let resumed = Session::resume(&client, lease).await.unwrap();
        assert_eq!(client.get(waiters()).await.unwrap().kvs, before);
        // They are nobody's, until somebody disowns them.
        let left: Vec<_> = before.iter().map(|kv| kv.key.clone()).collect();
        assert_eq!(resumed.inherited(), left);
        resumed.disown().await.unwrap();
        assert_eq!(client.get(waiters()).await.unwrap().kvs, []);
    })
    .await;
}

#[test]
fn a_member_whose_lease_expires_is_passed_over() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let session = async || open_for(&server.client().await.unwrap(), MINUTE).await;
        // In the waiting room its place is taken by another.
        let doomed = session().await;
        let dead = enters(&client, &round(&doomed, 3)).await;
        let mut entering = vec![enters(&client, &round(&session().await, 3)).await];
        doomed.orphan().await.unwrap();
        ended(dead).await.unwrap_err();
        sleep(2 * MINUTE).await;
        members_are(&client, 1).await;
        entering.push(enters(&client, &round(&session().await, 3)).await);
        sleep(MINUTE).await;
        assert!(entering.iter().all(|entering| !entering.is_finished()));
        let doomed = session().await;
        entering.push(enters(&client, &round(&doomed, 3)).await);
        let mut inside = all_in(entering).await;
        // Inside, the others do not wait for it.
        let dead = inside.pop().unwrap();
        let mut leaving = Vec::new();
        for member in inside {
            leaving.push(leaves(&client, member).await);
        }
        sleep(MINUTE).await;
        assert!(leaving.iter().all(|leaving| !leaving.is_finished()) && dead.is_held());
        doomed.orphan().await.unwrap();
        sleep(MINUTE + seconds(2)).await;
        assert!(leaving.iter().all(|leaving| leaving.is_finished()));
        all_out(leaving).await;
        nothing_is_left(&client).await;
    });
}

#[test]
fn whoever_said_that_all_are_there_may_die_before_the_others_hear_it() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let direct = server.client().await.unwrap();
        let slow = round(&stranger(&server).await, 3);
        let doomed = stranger(&server).await;
        let waiting = enters(&direct, &slow).await;
        let second = enters(&direct, &round(&stranger(&server).await, 3)).await;
        let third = round(&doomed, 3).enter().await.unwrap();
        let second = ended(second).await.unwrap();
        // Of the first one everything is lost from here on.
        assert!(embedded.expire_lease(doomed.lease()));
        let first = ended(waiting).await.unwrap();
        drop(third);
        let leaving = leaves(&direct, first).await;
        assert!(!leaving.is_finished());
        assert_eq!(second.leave().await.unwrap(), Release::Released);
        all_out([leaving]).await;
        nothing_is_left(&direct).await;
    });
}

#[test]
fn whoever_waits_does_not_get_in_with_those_inside_when_their_ready_key_is_gone() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let client = server.client().await.unwrap();
        let doomed = stranger(&server).await;
        let mut entering = Vec::new();
        for _ in 0..2 {
            entering.push(enters(&client, &round(&stranger(&server).await, 3)).await);
        }
        drop(round(&doomed, 3).enter().await.unwrap());
        let inside = all_in(entering).await;
        members_are(&client, 2).await;
        let next = enters(&client, &round(&stranger(&server).await, 3)).await;
        assert!(embedded.expire_lease(doomed.lease()));
        sleep(MINUTE).await;
        assert!(!next.is_finished());
        // Nor does whoever comes now.
        next.abort();
        members_are(&client, 2).await;
        let next = enters(&client, &round(&stranger(&server).await, 3)).await;
        sleep(MINUTE).await;
        assert!(!next.is_finished());
        drop(inside);
        members_are(&client, 1).await;
        let mut entering = vec![next];
        for _ in 0..2 {
            entering.push(enters(&client, &round(&stranger(&server).await, 3)).await);
        }
        drop(all_in(entering).await);
        nothing_is_left(&client).await;
    });
}

#[test]
fn a_long_wait_outlives_compactions_and_cut_streams() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let direct = server.client().await.unwrap();
        let disturb = async |silent| {
            for _ in 0..20 {
                direct.put("k", "v").await.unwrap();
            }
            embedded.compact(embedded.revision()).unwrap();
            embedded.silence_streams(silent);
            embedded.cut_streams();
        };
        for silent in [false, true] {
            let waiting = enters(&direct, &round(&stranger(&server).await, 2)).await;
            disturb(silent).await;
            sleep(seconds(20)).await;
            embedded.silence_streams(false);
            sleep(seconds(20)).await;
            assert!(!waiting.is_finished());
            let second = tokio::spawn(round(&stranger(&server).await, 2).enter().into_future());
            disturb(silent).await;
            sleep(seconds(1)).await;
            embedded.silence_streams(false);
            let inside = all_in(vec![waiting, second]).await;
            let mut leaving = Vec::new();
            for member in inside {
                leaving.push(tokio::spawn(member.leave().into_future()));
                disturb(silent).await;
                sleep(seconds(1)).await;
                embedded.silence_streams(false);
            }
            all_out(leaving).await;
            nothing_is_left(&direct).await;
        }
    });
}

#[test]
fn answers_that_are_lost_make_no_member_twice() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request(), Fault::ignore()] {
        for times in 1..=4 {
            let fault = fault.clone().on(Call::Txn).times(times);
            virtual_time(async |server| {
                let embedded = server.embedded().unwrap();
                let direct = server.client().await.unwrap();
                let waiting = enters(&direct, &round(&stranger(&server).await, 2)).await;
                let second = round(&stranger(&server).await, 2);
                let lost = embedded.inject(fault.clone());
                let second = tokio::spawn(second.enter().into_future());
                let mut inside = all_in(vec![waiting, second]).await;
                assert!(lost.is_spent());
                assert_eq!(members(&direct).await, 2);
                let lost = embedded.inject(fault);
                let first = inside.remove(0);
                let leaving = tokio::spawn(first.leave().into_future());
                assert_eq!(inside.remove(0).leave().await.unwrap(), Release::Released);
                all_out([leaving]).await;
                assert!(lost.is_spent());
                nothing_is_left(&direct).await;
            });
        }
    }
}

#[test]
fn who_gives_up_unheard_leaves_no_key_however_late_it_is_put() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let direct = server.client().await.unwrap();
        let barrier = round(&stranger(&server).await, 2);
        for fault in [Fault::silence(), Fault::ignore(), Fault::delay(seconds(10))] {
            for end in 0..2 {
                let _lost = embedded.inject(fault.clone().on(Call::Txn).times(1));
                let waiting = tokio::spawn(barrier.enter().timeout(seconds(1)).into_future());
                sleep(seconds(1) / 2).await;
                if end == 0 {
                    waiting.abort();
                } else {
                    assert_eq!(ended(waiting).await.unwrap_err().kind(), ErrorKind::Timeout);
                }
                sleep(MINUTE).await;
                assert_eq!(members(&direct).await, 0);
            }
        }
    });
}

#[test]
fn whoever_gives_up_at_the_instant_it_gets_in_was_in_or_leaves_no_key() {
    virtual_time(async |server| {
        let direct = server.client().await.unwrap();
        let (first, second) = (stranger(&server).await, stranger(&server).await);
        for turns in 0..60 {
            let waiting = enters(&direct, &round(&first, 2)).await;
            let mut entering = round(&second, 2).enter().into_future();
            let mut got = None;
            for _ in 0..turns {
                if let Some(entered) = (&mut entering).now_or_never() {
                    got = Some(entered.unwrap());
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(entering);
            match got {
                Some(member) => {
                    let other = ended(waiting).await.unwrap();
                    let leaving = tokio::spawn(other.leave().into_future());
                    assert_eq!(member.leave().await.unwrap(), Release::Released);
                    all_out([leaving]).await;
                }
                None => {
                    // It was in for a moment, or never came.
                    eventually(SOON, "it is gone", async || members(&direct).await <= 1).await;
                    sleep(seconds(5)).await;
                    assert!(members(&direct).await <= 1);
                    match waiting.is_finished() {
                        true => drop(ended(waiting).await.unwrap()),
                        false => waiting.abort(),
                    }
                }
            }
            nothing_is_left(&direct).await;
        }
    });
}

#[test]
fn a_double_barrier_is_entered_and_left_by_messages() {
    use actix::Actor;
    actix::System::new().block_on(on_each_server(async |server| {
        let (server, _) = start(&server).await;
        let client = server.connect().current_arbiter().connect().await.unwrap();
        let mut actors = Vec::new();
        for _ in 0..2 {
            actors.push(DoubleBarrierActor::new(round(&open(&client).await, 2)).start());
        }
        let error = actors[0].send(LeaveBarrier::new()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let short = EnterBarrier::new().timeout(Duration::from_millis(20));
        let late = actors[0].send(short).await.unwrap().unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        // Whoever asked and is gone waits no more.
        let waiting = actix::spawn(actors[0].send(EnterBarrier::new()));
        members_are(&client, 1).await;
        let busy = actors[0].send(EnterBarrier::new()).await.unwrap().unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::InvalidInput);
        waiting.abort();
        members_are(&client, 0).await;

        let entered = join_all(actors.iter().map(|actor| actor.send(EnterBarrier::new()))).await;
        assert!(entered.into_iter().all(|entered| entered.unwrap().is_ok()));
        members_are(&client, 2).await;
        let left = join_all(actors.iter().map(|actor| actor.send(LeaveBarrier::new()))).await;
        assert!(left.into_iter().all(|left| left.unwrap().unwrap() == Release::Released));
        nothing_is_left(&client).await;
        let entered = join_all(actors.iter().map(|actor| actor.send(EnterBarrier::new()))).await;
        assert!(entered.into_iter().all(|entered| entered.unwrap().is_ok()));
        drop(actors);
        members_are(&client, 0).await;
    }));
}
