//! Hours in milliseconds: recipes on the embedded server, under a clock that only jumps.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tenure::{
    Client, EventKind, LeaseState, LossReason, Mutex, MutexGuard, Result, Session, WatchResponse,
};
use tenure_testkit::{Fault, TestServer, embed::Embedded, eventually, virtual_time};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const TTL: Duration = Duration::from_secs(600);

fn embedded(server: &TestServer) -> &Embedded {
    server.embedded().expect("virtual time has no other server")
}

async fn session(client: &Client, ttl: Duration) -> Session {
    Session::builder().ttl(ttl).open(client).await.unwrap()
}

async fn is_there(client: &Client, key: &'static str) -> bool {
    client.count(key).await.unwrap().count == 1
}

fn lost(reason: LossReason) -> LeaseState {
    LeaseState::Lost { reason }
}

#[test]
fn a_lease_of_an_hour_expires_to_the_second() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let lease = client.lease_grant(HOUR).await.unwrap();
        client.put("key", "value").lease(lease.id).await.unwrap();
        let mut watch = client.watch("key").await.unwrap();
        let begun = Instant::now();
        sleep(HOUR - SECOND).await;
        assert!(is_there(&client, "key").await);
        let gone = watch.try_next().await.unwrap().unwrap();
        assert_eq!(gone.events()[0].kind, EventKind::Delete);
        assert!(begun.elapsed() <= HOUR + SECOND, "after {:?}", begun.elapsed());
    });
}

#[test]
fn a_lease_is_kept_for_hours_and_let_go() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let lease = client.lease_grant(HOUR).await.unwrap();
        client.put("key", "value").lease(lease.id).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        sleep(4 * HOUR).await;
        assert_eq!(kept.state(), LeaseState::Healthy);
        assert!(is_there(&client, "key").await);
        let renewals = server.renewals().await;
        assert!((12..=14).contains(&renewals), "{renewals}, one in a third of an hour");
        drop(kept);
        sleep(HOUR + SECOND).await;
        assert!(!is_there(&client, "key").await);
    });
}

#[test]
fn a_session_is_lost_before_its_lease_when_the_server_freezes() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let session = session(&client, TTL).await;
        let guard = Mutex::new(&session, "lock").acquire().await.unwrap();
        let mut states = session.states();
        assert_eq!(states.next().await, Some(LeaseState::Healthy));
        // Right after a renewal, so that a whole TTL is left.
        let renewals = server.renewals().await;
        let renewed = async || server.renewals().await > renewals;
        eventually(TTL, "it is renewed", renewed).await;

        let frozen = Instant::now();
        embedded(&server).silence_streams(true);
        let unanswered = embedded(&server).inject(Fault::silence());
        let jeopardy = states.next().await;
        let Some(LeaseState::Jeopardy { until }) = jeopardy else { panic!("{jeopardy:?}") };
        assert!(guard.is_held() && until == guard.deadline());
        assert_eq!(states.next().await, Some(lost(LossReason::Expired)));
        assert!(!guard.is_held());
        // 1 % for clocks that drift and 5 % to be sure; and the jeopardy began at the next renewal.
        let held = frozen.elapsed();
        assert!((TTL * 93 / 100..TTL * 95 / 100).contains(&held), "held for {held:?}");

        drop(unanswered);
        embedded(&server).silence_streams(false);
        let refused = guard.kv().put("key", "late").await.unwrap_err();
        assert_eq!(refused.kind(), tenure::ErrorKind::Lost, "{refused}");
    });
}

#[test]
fn a_freeze_shorter_than_the_ttl_costs_nothing() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let session = session(&client, TTL).await;
        let guard = Mutex::new(&session, "lock").acquire().await.unwrap();
        for _ in 0..3 {
            let unanswered = embedded(&server).inject(Fault::ignore());
            embedded(&server).silence_streams(true);
            sleep(TTL / 2).await;
            embedded(&server).silence_streams(false);
            drop(unanswered);
            sleep(TTL).await;
            assert_eq!(session.state(), LeaseState::Healthy);
        }
        assert!(guard.is_held());
        guard.kv().put("key", "value").await.unwrap();
    });
}

/// A lock that one client holds and another waits for, each with a session of an hour.
async fn held_and_waited_for(
    server: &TestServer,
) -> (Session, MutexGuard, JoinHandle<Result<MutexGuard>>) {
    let (first, second) = (server.client().await.unwrap(), server.client().await.unwrap());
    let holder = session(&first, HOUR).await;
    let waiter = session(&second, HOUR).await;
    let held = Mutex::new(&holder, "lock").acquire().await.unwrap();
    let waiting = tokio::spawn(Mutex::new(&waiter, "lock").acquire().into_future());
    (holder, held, waiting)
}

#[test]
fn a_lock_passes_on_when_the_lease_of_a_holder_that_is_gone_expires() {
    virtual_time(async |server| {
        let (holder, held, waiting) = held_and_waited_for(&server).await;
        sleep(HOUR).await;
        assert!(held.is_held() && !waiting.is_finished());

        let gone = Instant::now();
        let fence = held.fence();
        holder.orphan().await.unwrap();
        let next = waiting.await.unwrap().unwrap();
        let passed = gone.elapsed();
        // It was renewed up to a third of an hour before.
        assert!((HOUR * 2 / 3 - SECOND..=HOUR + SECOND).contains(&passed), "after {passed:?}");
        assert!(next.fence() > fence && next.is_held());
    });
}

#[test]
fn a_lock_passes_on_at_once_when_a_lease_is_ended() {
    virtual_time(async |server| {
        let (holder, held, waiting) = held_and_waited_for(&server).await;
        sleep(SECOND).await;
        let ended = Instant::now();
        assert!(embedded(&server).expire_lease(holder.lease()));
        let next = waiting.await.unwrap().unwrap();
        assert!(ended.elapsed() < SECOND && next.is_held());
        held.lost().await;
        assert!(ended.elapsed() < SECOND);
    });
}

#[test]
fn those_who_hold_a_lock_for_an_hour_take_their_turns() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let begun = Instant::now();
        let workers = (0..5).map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let session = session(&client, HOUR).await;
                let guard = Mutex::new(&session, "lock").acquire().await.unwrap();
                let from = begun.elapsed();
                sleep(HOUR).await;
                let until = begun.elapsed();
                guard.kv().put(format!("worker/{number}"), "done").await.unwrap();
                session.close().await.unwrap();
                (from, until)
            })
        });
        let mut turns = Vec::new();
        for worker in workers.collect::<Vec<_>>() {
            turns.push(worker.await.unwrap());
        }
        turns.sort();
        assert!(turns.windows(2).all(|two| two[0].1 <= two[1].0), "two at once: {turns:?}");
        assert!(begun.elapsed() < 5 * HOUR + 5 * SECOND, "after {:?}", begun.elapsed());
    });
}

#[test]
fn a_quiet_watch_is_told_of_progress_every_ten_minutes() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let mut watch = client.watch("key").progress_notify().await.unwrap();
        let begun = Instant::now();
        for number in 1..=6 {
            let told = watch.try_next().await.unwrap().unwrap();
            assert!(matches!(told, WatchResponse::Progress { .. }), "{told:?}");
            let due = 600 * number * SECOND;
            assert!((due..due + SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
    });
}
