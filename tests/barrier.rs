//! Barriers: who is stopped, who passes, and what becomes of it when somebody dies or is not heard.

use std::{future::IntoFuture, time::Duration};

use futures::{FutureExt, StreamExt};
use tenure::{
    Barrier, ClaimState, Client, ErrorKind, KeyRange, LossReason, Release, Session,
    actor::{BarrierActor, HoldBarrier, ReleaseBarrier, WaitBarrier},
};
use tenure_testkit::{
    Call, Fault, TestServer, embed::Data, eventually, on_each_etcd, on_each_server, virtual_time,
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

const GATE: &str = "tenure/barrier/gate/gate";

type Waiting = JoinHandle<tenure::Result<()>>;

fn wait(barrier: &Barrier) -> Waiting {
    tokio::spawn(barrier.wait().into_future())
}

/// Waits in the background, and returns once it has looked whether it must.
async fn waits(server: &TestServer, barrier: &Barrier) -> Waiting {
    let before = server.calls(Call::Range).await;
    let waiting = wait(barrier);
    eventually(SOON, "somebody waits", async || server.calls(Call::Range).await > before).await;
    waiting
}

async fn nothing_is_left(client: &Client) {
    let all = KeyRange::prefix("tenure/barrier/");
    eventually(SOON, "nothing is left", async || {
        client.count(all.clone()).await.unwrap().count == 0
    })
    .await;
}

#[tokio::test]
async fn a_second_hold_is_refused_and_all_who_wait_pass_at_the_release() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let gate = Barrier::new(&client, "gate");
        let other = server.client().await.unwrap();
        let elsewhere = Barrier::new(&other, "gate");
        let strange = open(&other).await;
        assert!(!gate.is_held().await.unwrap());
        let guard = gate.hold(&session).await.unwrap().expect("it is free");
        assert!(guard.is_held() && gate.is_held().await.unwrap());
        assert_eq!(guard.fence().lease, session.lease());
        for holder in [&session, &strange] {
            assert!(elsewhere.hold(holder).await.unwrap().is_none());
        }
        assert!(!elsewhere.hold_persistently().await.unwrap());
        let waiting = [
            waits(&server, &gate).await,
            waits(&server, &elsewhere).await,
            waits(&server, &elsewhere).await,
        ];
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        let fence = guard.fence();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        for waiting in waiting {
            ended(waiting).await.unwrap();
        }
        let again = elsewhere.hold(&strange).await.unwrap().expect("it is free again");
        assert!(fence < again.fence());
        // Dropping it opens it, too.
        let waiting = waits(&server, &gate).await;
        drop(again);
        ended(waiting).await.unwrap();
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn across_members_all_wait_and_all_pass() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let guard = Barrier::new(&client, "gate").hold(&open(&client).await).await.unwrap();
        let mut waiting = Vec::new();
        for member in cluster.members() {
            let client = Client::connect([member.endpoint()]).await.unwrap();
            let gate = Barrier::new(&client, "gate");
            assert!(gate.is_held().await.unwrap());
            waiting.push(wait(&gate));
        }
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        guard.expect("it is free").release().await.unwrap();
        for waiting in waiting {
            ended(waiting).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_where_nobody_holds_whatever_is_beside() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        client.put("b/longer", "").await.unwrap();
        client.put("bb", "").await.unwrap();
        Barrier::at(&client, "b").wait().timeout(SOON).await.unwrap();
        Barrier::new(&client, "gate").wait().timeout(SOON).await.unwrap();
        // A name inside another one is another barrier.
        let session = open(&client).await;
        let outer = Barrier::new(&client, "a").hold(&session).await.unwrap();
        Barrier::new(&client, "a/gate").wait().timeout(SOON).await.unwrap();
        assert!(outer.is_some_and(|guard| guard.is_held()));
    })
    .await;
}

#[tokio::test]
async fn go_and_this_library_stop_one_another() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let gate = Barrier::at(&client, "go/barrier");
        // As Go's recipe holds: the key itself, no lease, no value.
        client.put("go/barrier", "").await.unwrap();
        let session = open(&client).await;
        assert!(gate.hold(&session).await.unwrap().is_none());
        let waiting = waits(&server, &gate).await;
        client.delete("go/barrier").await.unwrap();
        ended(waiting).await.unwrap();
        // And ours, as Go sees it.
        assert!(gate.hold_persistently().await.unwrap());
        let held = client.get("go/barrier").await.unwrap().into_kv().unwrap();
        assert_eq!(held.lease, None);
        assert!(!gate.hold_persistently().await.unwrap());
        client.delete("go/barrier").await.unwrap();
        let guard = gate.hold(&session).await.unwrap().expect("it is free");
        assert_eq!(
            client.get("go/barrier").await.unwrap().kv().unwrap().lease,
            Some(session.lease())
        );
        client.delete("go/barrier").await.unwrap();
        assert_eq!(why(guard.lost()).await, LossReason::KeyDeleted);
        assert!(!guard.is_held());
        let late = guard.kv().put("k", "late").await.unwrap_err();
        assert_eq!(late.loss_reason(), Some(LossReason::KeyDeleted));
        assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::KeyDeleted));
    })
    .await;
}

#[tokio::test]
async fn a_persistent_hold_outlives_its_holder_until_somebody_opens_it() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let holder = server.client().await.unwrap();
        assert!(Barrier::new(&holder, "gate").hold_persistently().await.unwrap());
        holder.close().await;
        let gate = Barrier::new(&client, "gate");
        let waiting = waits(&server, &gate).await;
        eventually(SOON, "the mark is gone", async || {
            client.leases().await.unwrap().leases.is_empty() || gate.is_held().await.unwrap()
        })
        .await;
        assert!(!waiting.is_finished());
        assert!(gate.release().await.unwrap());
        assert!(!gate.release().await.unwrap());
        ended(waiting).await.unwrap();
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn waiting_ends_with_the_timeout_the_session_or_the_client() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let gate = Barrier::new(&client, "gate");
        let guard = gate.hold(&open(&client).await).await.unwrap();
        let short = gate.wait().timeout(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Timeout, "{short}");
        // It hears of its end at the next renewal.
        let doomed = open_for(&server.client().await.unwrap(), seconds(3)).await;
        let before = server.calls(Call::Range).await;
        let waiting = tokio::spawn(gate.wait().session(&doomed).into_future());
        eventually(SOON, "it waits", async || server.calls(Call::Range).await > before).await;
        client.lease_revoke(doomed.lease()).await.unwrap();
        let lost = ended(waiting).await.unwrap_err();
        assert_eq!((lost.kind(), lost.loss_reason()), (ErrorKind::Lost, Some(LossReason::Revoked)));
        let late = gate.wait().session(&doomed).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Lost);
        let other = server.client().await.unwrap();
        let waiting = waits(&server, &Barrier::new(&other, "gate")).await;
        other.close().await;
        assert_eq!(ended(waiting).await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(guard.is_some());
    })
    .await;
}

#[tokio::test]
async fn bad_names_are_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let before = server.kv_calls().await;
        for bad in
            [Barrier::new(&client, ""), Barrier::new(&client, "a\0b"), Barrier::at(&client, "")]
        {
            let errors = [
                bad.hold(&session).await.unwrap_err(),
                bad.hold_persistently().await.unwrap_err(),
                bad.release().await.unwrap_err(),
                bad.is_held().await.unwrap_err(),
                bad.wait().await.unwrap_err(),
            ];
            assert!(errors.iter().all(|error| error.kind() == ErrorKind::InvalidInput));
        }
        assert_eq!(server.kv_calls().await, before);
    })
    .await;
}

#[tokio::test]
async fn closing_the_session_opens_the_barrier_and_leaves_no_key() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = stranger(&server).await;
        let gate = Barrier::new(&client, "gate");
        let guard = gate.hold(&session).await.unwrap().expect("it is free");
        let mut states = guard.states();
        assert_eq!(told(&mut states).await, ClaimState::Held { fence: guard.fence() });
        let waiting = waits(&server, &gate).await;
        session.close().await.unwrap();
        ended(waiting).await.unwrap();
        assert!(!guard.is_held());
        let last = timeout(SOON, states.next()).await.unwrap().unwrap();
        assert!(matches!(last, ClaimState::Lost { .. } | ClaimState::Released), "{last:?}");
        nothing_is_left(&client).await;
        let refused = gate.hold(&session).await.unwrap_err();
        assert_eq!(refused.loss_reason(), Some(LossReason::Closed));
    })
    .await;
}

#[tokio::test]
async fn the_gate_that_is_rewritten_by_somebody_else_is_lost() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let guard = Barrier::new(&client, "gate").hold(&open(&client).await).await.unwrap();
        let guard = guard.expect("it is free");
        client.put(GATE, "mine").await.unwrap();
        assert_eq!(why(guard.lost()).await, LossReason::TakenOver);
        drop(guard);
        let other = client.get(GATE).await.unwrap();
        assert_eq!(other.kv().unwrap().value, "mine", "it is not ours to delete");
    })
    .await;
}

#[test]
fn the_crash_of_the_holder_opens_it_within_its_ttl() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let doomed = open_for(&server.client().await.unwrap(), MINUTE).await;
        let gate = Barrier::new(&client, "gate");
        let guard = gate.hold(&doomed).await.unwrap().expect("it is free");
        let waiting = wait(&gate);
        sleep(2 * MINUTE).await;
        assert!(guard.is_held() && !waiting.is_finished());
        doomed.orphan().await.unwrap();
        assert_eq!(why(guard.lost()).await, LossReason::Orphaned);
        assert!(!waiting.is_finished(), "the lease lives on");
        timeout(MINUTE + seconds(2), waiting).await.expect("it is open").unwrap().unwrap();
    });
}

#[test]
fn who_waits_without_a_session_passes_when_the_server_lost_all_data() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        for number in 0..100 {
            client.put("k", number.to_string()).await.unwrap();
        }
        let gate = Barrier::new(&client, "gate");
        assert!(gate.hold_persistently().await.unwrap());
        let waiting = wait(&gate);
        sleep(seconds(1)).await;
        assert!(!waiting.is_finished());
        server.embedded().unwrap().restart(Data::Lost);
        timeout(MINUTE, waiting).await.expect("there is nothing to wait for").unwrap().unwrap();
    });
}

#[test]
fn a_long_wait_outlives_compactions_and_cut_streams() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let client = server.client().await.unwrap();
        let gate = Barrier::new(&client, "gate");
        for missed in [false, true] {
            let guard = gate.hold(&stranger(&server).await).await.unwrap().expect("it is free");
            let waiting = wait(&gate);
            sleep(seconds(1)).await;
            for _ in 0..20 {
                client.put("k", "v").await.unwrap();
            }
            embedded.compact(embedded.revision()).unwrap();
            embedded.cut_streams();
            sleep(seconds(30)).await;
            assert!(!waiting.is_finished());
            if missed {
                // What it would have been told of is compacted before it is back.
                embedded.silence_streams(true);
            }
            guard.release().await.unwrap();
            client.put("k", "v").await.unwrap();
            embedded.compact(embedded.revision()).unwrap();
            embedded.cut_streams();
            embedded.silence_streams(false);
            ended(waiting).await.unwrap();
        }
        let before = server.kv_calls().await;
        let guard = gate.hold(&stranger(&server).await).await.unwrap();
        let waiting = wait(&gate);
        sleep(60 * MINUTE).await;
        assert!(!waiting.is_finished() && guard.is_some());
        let calls = server.kv_calls().await - before;
        assert!(calls <= 3, "{calls} requests in an hour of waiting");
    });
}

#[test]
fn what_is_lost_on_the_way_holds_once_and_opens_once() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request(), Fault::ignore()] {
        for times in 1..=3 {
            let fault = fault.clone().on(Call::Txn).times(times);
            virtual_time(async |server| {
                let embedded = server.embedded().unwrap();
                let direct = server.client().await.unwrap();
                let gate = Barrier::new(&direct, "gate");
                let session = stranger(&server).await;
                let lost = embedded.inject(fault.clone());
                let guard = gate.hold(&session).await.unwrap().expect("it is ours all the same");
                assert!(lost.is_spent());
                assert!(gate.hold(&session).await.unwrap().is_none());
                let lost = embedded.inject(fault.clone());
                assert_eq!(guard.release().await.unwrap(), Release::Released);
                assert!(lost.is_spent());
                nothing_is_left(&direct).await;
                let lost = embedded.inject(fault.clone());
                assert!(gate.hold_persistently().await.unwrap());
                assert!(lost.is_spent() && gate.is_held().await.unwrap());
                let lost = embedded.inject(fault);
                assert!(gate.release().await.unwrap());
                assert!(lost.is_spent());
                nothing_is_left(&direct).await;
            });
        }
    }
}

#[test]
fn a_hold_that_is_given_up_leaves_no_key() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let client = server.client().await.unwrap();
        let gate = Barrier::new(&client, "gate");
        let session = stranger(&server).await;
        for fault in [Fault::silence(), Fault::ignore(), Fault::delay(seconds(1))] {
            let _lost = embedded.inject(fault.on(Call::Txn).times(1));
            let given_up = timeout(Duration::from_millis(200), gate.hold(&session)).await;
            assert!(given_up.is_err());
            sleep(MINUTE).await;
            nothing_is_left(&client).await;
            let guard = gate.hold(&session).await.unwrap().expect("it is free");
            assert_eq!(guard.release().await.unwrap(), Release::Released);
        }
        // Someone else's hold is not taken for it.
        let other = gate.hold(&stranger(&server).await).await.unwrap();
        let _lost = embedded.inject(Fault::silence().on(Call::Txn).times(1));
        assert!(gate.hold(&session).now_or_never().is_none());
        sleep(MINUTE).await;
        assert!(other.is_some_and(|guard| guard.is_held()));
    });
}

#[test]
fn a_copy_of_a_persistent_hold_that_comes_late_shuts_nothing() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let client = server.client().await.unwrap();
        let gate = Barrier::new(&client, "gate");
        let late = embedded.inject(Fault::delay(seconds(5)).on(Call::Txn).times(1));
        assert!(gate.hold_persistently().await.unwrap());
        assert!(late.is_spent() && gate.release().await.unwrap());
        sleep(MINUTE).await;
        assert!(!gate.is_held().await.unwrap());
        // Nor does a late copy of a release open what was shut since.
        assert!(gate.hold_persistently().await.unwrap());
        let late = embedded.inject(Fault::delay(seconds(5)).on(Call::Txn).times(1));
        assert!(gate.release().await.unwrap() && late.is_spent());
        assert!(gate.hold_persistently().await.unwrap());
        sleep(MINUTE).await;
        assert!(gate.is_held().await.unwrap());
        assert!(client.leases().await.unwrap().leases.is_empty());
    });
}

#[test]
fn what_barriers_and_latches_are_made_of_may_cross_threads() {
    fn shared<T: Send + Sync + Unpin + 'static>() {}
    fn answer<T: IntoFuture<IntoFuture: Send + Unpin + 'static> + Send + Sync + Unpin + 'static>() {
    }
    use tenure::*;
    shared::<(Barrier, BarrierGuard, DoubleBarrier, Membership, CountDownLatch)>();
    shared::<(ServerElection, ServerLeader, ServerLocked)>();
    answer::<Wait>();
    answer::<Enter>();
    answer::<Leave>();
    answer::<CountDown>();
    answer::<ServerLock>();
    answer::<ServerCampaign>();
}

#[test]
fn a_barrier_is_held_waited_for_and_released_by_messages() {
    use actix::Actor;
    actix::System::new().block_on(on_each_server(async |server| {
        let (server, _) = start(&server).await;
        let client = server.connect().current_arbiter().connect().await.unwrap();
        let session = open(&client).await;
        let gate = BarrierActor::new(&session, Barrier::new(&client, "gate")).start();
        let other = Session::open(&client).await.unwrap();
        let other = BarrierActor::new(&other, Barrier::new(&client, "gate")).start();
        let fence = gate.send(HoldBarrier).await.unwrap().unwrap().expect("it is free");
        assert_eq!(fence.lease, session.lease());
        assert_eq!(other.send(HoldBarrier).await.unwrap().unwrap(), None);
        let error = other.send(ReleaseBarrier).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let short = WaitBarrier::new().timeout(Duration::from_millis(20));
        assert_eq!(other.send(short).await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        let waiting = actix::spawn(other.send(WaitBarrier::new()));
        assert_eq!(gate.send(ReleaseBarrier).await.unwrap().unwrap(), Release::Released);
        ended(waiting).await.unwrap().unwrap();
        // The end of the actor is the end of the hold.
        gate.send(HoldBarrier).await.unwrap().unwrap().expect("it is free");
        drop(gate);
        other.send(WaitBarrier::new()).await.unwrap().unwrap();
    }));
}
