//! What a guard is good for while the lock is held, and what becomes of it when it is not.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tenure::{
    ClaimState, Client, Compare, Error, ErrorKind, EtcdError, FenceGate, Get, LeaseId, LossReason,
    Mutex, Op, Put, Release, Revision, Session,
};
use tenure_testkit::{on_each_listener, on_each_server};
use tokio::time::{Instant, timeout};

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{acquire, ended, granted, open, open_for, queue_up, seconds, told, why};
use start::{SOON, behind_a_proxy, start};

async fn value(client: &Client, key: &'static str) -> Option<String> {
    let kv = client.get(key).await.unwrap().into_kv()?;
    Some(String::from_utf8(kv.value.to_vec()).unwrap())
}

#[track_caller]
fn is_lost(error: &Error, reason: LossReason) {
    assert_eq!((error.kind(), error.loss_reason()), (ErrorKind::Lost, Some(reason)), "{error}");
    assert!(!error.is_retryable() && !error.may_have_been_applied());
}

#[tokio::test]
async fn writes_of_the_holder_answer_as_any_others_do() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let guard = acquire(&Mutex::new(&open(&client).await, "jobs")).await;
        let own = guard.kv();
        let first = own.put("k", "1").await.unwrap();
        assert_eq!((first.header.cluster_id, first.prev_kv), (guard.fence().cluster_id, None));
        let put = own.put("k", "2").prev_kv().await.unwrap();
        assert_eq!(put.header.revision, Revision(first.header.revision.0 + 1));
        assert_eq!(put.prev_kv.unwrap().value, "1");
        let read = own.get("k").await.unwrap();
        assert_eq!(read.header.revision, put.header.revision);
        assert_eq!(read.kv().unwrap().mod_revision, put.header.revision);

        let ops: [Op; 3] =
            [Put::new("k", "3").into(), Put::new("l", "1").into(), Get::new("k").into()];
        let done = guard.txn().when([Compare::value("k").equal("2")]).and_then(ops).await.unwrap();
        assert!(done.succeeded);
        assert_eq!(done.responses.len(), 3);
        let read = done.responses[2].clone().into_get().unwrap();
        assert_eq!(read.kv().unwrap().value, "3");
        let failed = guard.txn().when([Compare::value("k").equal("2")]);
        let failed = failed.and_then([Put::new("k", "4")]).or_else([Get::new("l")]).await.unwrap();
        assert!(!failed.succeeded, "its own condition failed, not the guard's");
        assert_eq!(failed.header.revision, done.header.revision);
        assert_eq!(failed.responses.len(), 1);
        assert!(guard.txn().and_then([Get::new("k")]).await.unwrap().succeeded);

        let deleted = own.delete("l").prev_kv().await.unwrap();
        assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (1, 1));
        assert_eq!(deleted.header.revision, Revision(done.header.revision.0 + 1));
        // What etcd refuses is refused, and costs nothing.
        let refused = own.put("k", "5").lease(LeaseId::new(4711).unwrap()).await.unwrap_err();
        assert_eq!(refused.etcd_error(), Some(EtcdError::LeaseNotFound));
        assert_eq!(own.put("", "5").await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(guard.is_held());
        assert_eq!(value(&client, "k").await.as_deref(), Some("3"));
    })
    .await;
}

#[tokio::test]
async fn once_the_lock_is_lost_its_writes_are_refused_and_reads_pass() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let admin = server.client().await.unwrap();
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        admin.put("k", "admin's").await.unwrap();
        for round in 0..20 {
            let guard = acquire(&jobs).await;
            let own = guard.kv();
            let reason = if round % 2 == 0 {
                assert_eq!(admin.delete(guard.key()).await.unwrap().deleted, 1);
                LossReason::KeyDeleted
            } else {
                admin.put(guard.key(), "ours now").keep_lease().await.unwrap();
                LossReason::TakenOver
            };
            // Whether the guard knows it already or not.
            let writes = [
                own.put("k", "stale").await.unwrap_err(),
                own.delete("k").await.map(drop).unwrap_err(),
                guard.txn().and_then([Put::new("k", "stale")]).await.map(drop).unwrap_err(),
                guard.kv().put("k", "stale").await.unwrap_err(),
            ];
            writes.iter().for_each(|error| is_lost(error, reason));
            assert!(!guard.is_held() && guard.deadline() < client.clock().now());
            assert_eq!(why(guard.lost()).await, reason);
            assert_eq!(guard.state(), ClaimState::Lost { reason });
            assert_eq!(own.get("k").await.unwrap().kv().unwrap().value, "admin's");
            assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(reason));
            admin.delete(tenure::KeyRange::prefix("tenure/mutex/")).await.unwrap();
        }
        let guard = acquire(&jobs).await;
        let own = guard.kv();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        is_lost(&own.put("k", "late").await.unwrap_err(), LossReason::Closed);
        let guard = acquire(&jobs).await;
        let own = guard.kv();
        session.close().await.unwrap();
        is_lost(&own.put("k", "late").await.unwrap_err(), LossReason::Closed);
        assert_eq!(value(&own, "k").await.as_deref(), Some("admin's"));
        drop(guard);
    })
    .await;
}

#[tokio::test]
async fn release_says_whether_the_lock_was_held_until_then() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let admin = server.client().await.unwrap();
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        for _ in 0..10 {
            let guard = acquire(&jobs).await;
            let key = guard.key();
            let (deleted, released) =
                tokio::join!(admin.delete(key).into_future(), guard.release());
            let expected = match deleted.unwrap().deleted {
                0 => Release::Released,
                _ => Release::AlreadyLost(LossReason::KeyDeleted),
            };
            assert_eq!(released.unwrap(), expected);
        }
        let guard = acquire(&jobs).await;
        let (revoked, released) =
            tokio::join!(admin.lease_revoke(session.lease()), guard.release());
        revoked.unwrap();
        // It may find the key gone before anybody says why.
        let lost = [LossReason::Revoked, LossReason::KeyDeleted].map(Release::AlreadyLost);
        let released = released.unwrap();
        assert!(released == Release::Released || lost.contains(&released), "{released:?}");

        let session = open(&client).await;
        let guard = acquire(&Mutex::new(&session, "jobs")).await;
        session.close().await.unwrap();
        assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Closed));
        let session = open(&client).await;
        let guard = acquire(&Mutex::new(&session, "jobs")).await;
        admin.lease_revoke(session.lease()).await.unwrap();
        assert_eq!(why(guard.lost()).await, LossReason::Revoked);
        assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Revoked));
    })
    .await;
}

#[tokio::test]
async fn a_key_that_somebody_deletes_is_told_within_150_ms_even_right_after_acquiring() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let admin = server.client().await.unwrap();
        let session = open(&client).await;
        let old = Mutex::new(&session, "old");
        drop(acquire(&old).await);
        for settled in [false, true] {
            let mut took = Vec::new();
            for round in 0..9 {
                let fresh = Mutex::new(&session, format!("fresh {round}"));
                let guard = acquire(if settled { &old } else { &fresh }).await;
                admin.delete(guard.key()).await.unwrap();
                let begin = Instant::now();
                let reason = why(guard.lost()).await;
                took.push(begin.elapsed());
                assert_eq!(reason, LossReason::KeyDeleted);
                assert!(session.is_held());
                assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(reason));
            }
            took.sort();
            // The machine has other things to do, too.
            assert!(took[took.len() / 2] < Duration::from_millis(150), "{took:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_guard_tells_of_jeopardy_before_the_loss() {
    on_each_listener(async |server| {
        let (_server, proxy, client, _) = behind_a_proxy(&server).await;
        let guard = acquire(&Mutex::new(&open_for(&client, seconds(6)).await, "jobs")).await;
        let held = ClaimState::Held { fence: guard.fence() };
        let mut states = guard.states();
        assert_eq!(told(&mut states).await, held);
        proxy.pause();
        let state = told(&mut states).await;
        assert_eq!(state, ClaimState::Jeopardy { until: guard.deadline() });
        assert!(guard.is_held());
        proxy.pass();
        assert_eq!(told(&mut states).await, held);
        proxy.pause();
        assert!(matches!(told(&mut states).await, ClaimState::Jeopardy { .. }));
        let until = guard.deadline();
        let lost = ClaimState::Lost { reason: LossReason::Expired };
        assert_eq!(told(&mut states).await, lost);
        assert!(client.clock().now() >= until && !guard.is_held());
        assert_eq!(states.next().await, None);
        // No answer is needed to refuse it.
        let error = guard.kv().put("k", "stale").into_future().now_or_never();
        is_lost(&error.expect("at once").unwrap_err(), LossReason::Expired);
        assert_eq!(guard.state(), lost);
        proxy.pass();
        assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Expired));
    })
    .await;
}

#[tokio::test]
async fn whoever_resumes_a_session_has_its_locks_and_the_old_guards_have_nothing() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let stranger = server.client().await.unwrap();
        let first = acquire(&Mutex::new(&open(&stranger).await, "other")).await;
        let session = open(&client).await;
        let old = acquire(&Mutex::new(&session, "jobs")).await;
        let waiting = queue_up(&Mutex::new(&session, "other")).await;
        let queue = async || Mutex::inspect(&stranger, "other").await.unwrap();
        let place = queue().await[1].create_revision;

        let client = server.client().await.unwrap();
        let resumed = Session::resume(&client, session.lease()).await.unwrap();
        assert_eq!(resumed.inherited().len(), 2);
        is_lost(&old.kv().put("k", "stale").await.unwrap_err(), LossReason::TakenOver);
        assert_eq!(why(old.lost()).await, LossReason::TakenOver);
        let error = ended(waiting).await.unwrap_err();
        is_lost(&error, LossReason::TakenOver);

        let jobs = Mutex::new(&resumed, "jobs");
        let new = acquire(&jobs).await;
        let (fence, stale) = (new.fence(), old.fence());
        assert_eq!((&fence.key, fence.lease), (&stale.key, stale.lease));
        assert_eq!(fence.create_revision, stale.create_revision, "it was never free");
        assert!(stale < fence);
        assert_eq!(old.release().await.unwrap(), Release::AlreadyLost(LossReason::TakenOver));
        assert_eq!(jobs.holders().await.unwrap().len(), 1);
        new.kv().put("k", "v").await.unwrap();
        let error = Mutex::new(&session, "a third").acquire().await.unwrap_err();
        is_lost(&error, LossReason::TakenOver);
        assert!(new.is_held() && resumed.is_held());

        // The other place in its queue goes on, too.
        assert_eq!(queue().await[1].create_revision, place);
        let other = Mutex::new(&resumed, "other");
        let waiting = tokio::spawn(async move { other.acquire().await });
        first.release().await.unwrap();
        let other = granted(waiting).await;
        assert_eq!(other.fence().create_revision, place);
        assert!(resumed.inherited().is_empty());
        assert_eq!(other.release().await.unwrap(), Release::Released);
        assert_eq!(new.release().await.unwrap(), Release::Released);
        let again = acquire(&jobs).await;
        assert!(again.fence() > fence);
        drop(again);
    })
    .await;
}

#[tokio::test]
async fn places_that_nobody_wants_can_be_disowned() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let guard = acquire(&Mutex::new(&session, "jobs")).await;
        let key = guard.key();
        session.orphan().await.unwrap();
        drop(guard);
        let client = server.client().await.unwrap();
        let resumed = Session::resume(&client, session.lease()).await.unwrap();
        assert_eq!(resumed.inherited(), [key]);
        let waiting = Mutex::new(&open(&client).await, "jobs");
        assert!(waiting.try_acquire().await.unwrap().is_none());
        resumed.disown().await.unwrap();
        assert!(resumed.inherited().is_empty());
        assert!(acquire(&waiting).await.is_held());
    })
    .await;
}

#[tokio::test]
async fn a_try_takes_an_inherited_place_only_if_it_is_the_first() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let first = acquire(&Mutex::new(&open(&client).await, "jobs")).await;
        let stranger = server.client().await.unwrap();
        let session = open(&stranger).await;
        let asking = queue_up(&Mutex::new(&session, "jobs")).await;
        let resumed = Session::resume(&client, session.lease()).await.unwrap();
        assert!(ended(asking).await.is_err());
        let jobs = Mutex::new(&resumed, "jobs");
        let tried = timeout(SOON, jobs.try_acquire()).await.expect("a try does not wait");
        assert!(tried.unwrap().is_none());
        first.release().await.unwrap();
        drop(acquire(&jobs).await);
    })
    .await;
}

#[tokio::test]
async fn a_gate_before_another_resource_keeps_out_who_held_the_lock_before() {
    on_each_server(async |server| {
        let (_first, client) = start(&server).await;
        let jobs = Mutex::new(&open(&client).await, "jobs");
        let gate = FenceGate::new();
        let mut fences = Vec::new();
        for _ in 0..5 {
            let guard = acquire(&jobs).await;
            gate.admit("jobs", &guard.fence()).unwrap();
            gate.admit("jobs", &guard.fence()).unwrap();
            for stale in &fences {
                let refused = gate.admit("jobs", stale).unwrap_err();
                assert_eq!(refused.highest(), Some(&guard.fence()));
            }
            let printed = guard.fence().to_string();
            assert_eq!(printed.parse(), Ok(guard.fence()), "{printed}");
            fences.push(guard.fence());
            guard.release().await.unwrap();
        }
        // A cluster that was made anew begins with small revisions again.
        let (_second, client) = start(&server).await;
        let guard = acquire(&Mutex::new(&open(&client).await, "jobs")).await;
        assert_eq!(guard.fence().partial_cmp(&fences[4]), None);
        gate.admit("jobs", &guard.fence()).unwrap_err();
        let of_the_first = FenceGate::of_cluster(fences[0].cluster_id);
        of_the_first.admit("jobs", &guard.fence()).unwrap_err();
        of_the_first.admit("jobs", &fences[0]).unwrap();
    })
    .await;
}
