//! Sessions and locks spoken to in messages, inside an actix System.

use std::time::Duration;

use actix::Actor;
use tenure::{
    ClaimState, ErrorKind, LeaseState, LossReason, Mutex, Release, Session, SessionConfig,
    actor::{
        AcquireLock, CloseSession, LockEvent, MutexActor, OpenSession, OrphanSession, ReleaseLock,
        SessionActor, SessionEvent, SubscribeLock, SubscribeSession, TryAcquireLock,
    },
};
use tenure_testkit::eventually;
use tokio::time::timeout;

#[path = "support/actors.rs"]
mod actors;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use actors::{Heard, in_actix};
use lock::{contenders_are, ended, granted, open, queue_up};
use start::{MINUTE, SOON};

fn config() -> SessionConfig {
    Session::builder().ttl(MINUTE)
}

#[test]
fn a_lock_is_asked_for_told_of_and_released_by_messages() {
    in_actix(async |_, client| {
        let session = open(&client).await;
        let jobs = MutexActor::new(&session, "jobs").start();
        let mut heard = Heard::<LockEvent>::new();
        jobs.send(SubscribeLock(heard.recipient())).await.unwrap();
        let fence = jobs.send(AcquireLock::new()).await.unwrap().unwrap();
        assert_eq!(fence.lease, session.lease());
        while heard.next().await.state != (ClaimState::Held { fence: fence.clone() }) {}
        // One actor has it once.
        for error in [
            jobs.send(AcquireLock::new()).await.unwrap().unwrap_err(),
            jobs.send(TryAcquireLock).await.unwrap().unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        let mut late = Heard::<LockEvent>::new();
        jobs.send(SubscribeLock(late.recipient())).await.unwrap();
        assert_eq!(late.next().await.state, ClaimState::Held { fence: fence.clone() });
        assert_eq!(jobs.send(ReleaseLock).await.unwrap().unwrap(), Release::Released);
        assert_eq!(heard.next().await.state, ClaimState::Released);
        assert_eq!(late.next().await.state, ClaimState::Released);
        let error = jobs.send(ReleaseLock).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");

        let again = jobs.send(TryAcquireLock).await.unwrap().unwrap().expect("it is free");
        assert!(fence < again);
        // Its end is the end of the hold.
        drop(jobs);
        contenders_are(&client, 0).await;
    });
}

#[test]
fn waiting_for_a_lock_keeps_no_actor_from_other_messages() {
    in_actix(async |_, client| {
        let holder = Mutex::new(&open(&client).await, "jobs");
        let guard = holder.acquire().await.unwrap();
        let jobs = MutexActor::new(&open(&client).await, "jobs").start();
        assert!(jobs.send(TryAcquireLock).await.unwrap().unwrap().is_none());
        let short = AcquireLock::new().timeout(Duration::from_millis(50));
        let error = jobs.send(short).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        contenders_are(&client, 1).await;

        let waiting = actix::spawn(jobs.send(AcquireLock::new()));
        contenders_are(&client, 2).await;
        let mut heard = Heard::<LockEvent>::new();
        jobs.send(SubscribeLock(heard.recipient())).await.unwrap();
        let busy = jobs.send(AcquireLock::new()).await.unwrap().unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::InvalidInput, "{busy}");
        guard.release().await.unwrap();
        let fence = ended(waiting).await.unwrap().unwrap();
        while heard.next().await.state != (ClaimState::Held { fence: fence.clone() }) {}
        let guard = queue_up(&holder).await;
        assert_eq!(jobs.send(ReleaseLock).await.unwrap().unwrap(), Release::Released);
        let guard = granted(guard).await;

        // Whoever asked and is gone waits no more.
        let waiting = actix::spawn(jobs.send(AcquireLock::new()));
        contenders_are(&client, 2).await;
        waiting.abort();
        contenders_are(&client, 1).await;
        guard.release().await.unwrap();
        contenders_are(&client, 0).await;
        assert!(jobs.send(TryAcquireLock).await.unwrap().unwrap().is_some());
    });
}

#[test]
fn a_session_is_opened_told_of_and_closed_by_messages() {
    in_actix(async |_, client| {
        let actor = SessionActor::new(client.clone(), config()).start();
        let mut heard = Heard::<SessionEvent>::new();
        actor.send(SubscribeSession(heard.recipient())).await.unwrap();
        let session = actor.send(OpenSession).await.unwrap().unwrap();
        let healthy = heard.next().await;
        assert_eq!((healthy.lease, healthy.generation), (session.lease(), 0));
        assert_eq!(healthy.state, LeaseState::Healthy);
        let jobs = MutexActor::new(&session, "jobs").start();
        let mut of_lock = Heard::<LockEvent>::new();
        jobs.send(AcquireLock::new()).await.unwrap().unwrap();
        jobs.send(SubscribeLock(of_lock.recipient())).await.unwrap();
        assert!(matches!(of_lock.next().await.state, ClaimState::Held { .. }));

        actor.send(CloseSession).await.unwrap().unwrap();
        assert!(!session.is_held());
        let lost = LossReason::Closed;
        assert_eq!(heard.next().await.state, LeaseState::Lost { reason: lost });
        let told = of_lock.next().await.state;
        assert!(matches!(told, ClaimState::Lost { .. } | ClaimState::Released), "{told:?}");
        let error = jobs.send(AcquireLock::new()).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.loss_reason()), (ErrorKind::Lost, Some(lost)));
        assert!(client.leases().await.unwrap().leases.is_empty());
        actor.send(CloseSession).await.unwrap().unwrap();
    });
}

#[test]
fn a_session_is_orphaned_resumed_and_dropped_by_messages() {
    in_actix(async |_, client| {
        let actor = SessionActor::new(client.clone(), config()).start();
        let session = actor.send(OpenSession).await.unwrap().unwrap();
        let lease = session.lease();
        let guard = Mutex::new(&session, "jobs").acquire().await.unwrap();
        assert_eq!(actor.send(OrphanSession).await.unwrap().unwrap(), lease);
        let again = actor.send(OrphanSession).await.unwrap().unwrap_err();
        assert_eq!(again.loss_reason(), Some(LossReason::Orphaned));
        drop((guard, session, actor));
        contenders_are(&client, 1).await;

        let actor = SessionActor::new(client.clone(), config().resume(lease)).start();
        let session = actor.send(OpenSession).await.unwrap().unwrap();
        assert_eq!((session.lease(), session.inherited().len()), (lease, 1));
        let jobs = MutexActor::of(Mutex::new(&session, "jobs")).start();
        assert_eq!(jobs.send(AcquireLock::new()).await.unwrap().unwrap().lease, lease);
        drop((actor, session));
        contenders_are(&client, 1).await;
        drop(jobs);
        eventually(SOON, "the lease is revoked", async || {
            client.leases().await.unwrap().leases.is_empty()
        })
        .await;
        // What cannot be opened says so to everybody who asks.
        let actor = SessionActor::new(client.clone(), config().resume(lease)).start();
        let asked = [actor.send(OpenSession), actor.send(OpenSession)];
        for asked in asked {
            let refused = timeout(SOON, asked).await.expect("it is answered");
            assert!(!matches!(refused, Ok(Ok(_))), "{refused:?}");
        }
    });
}

#[test]
fn a_lock_that_is_lost_is_told_and_may_be_asked_for_again() {
    in_actix(async |server, client| {
        let jobs = MutexActor::new(&open(&client).await, "jobs").start();
        let mut heard = Heard::<LockEvent>::new();
        jobs.send(SubscribeLock(heard.recipient())).await.unwrap();
        let admin = server.client().await.unwrap();
        let mut last = None;
        for _ in 0..3 {
            let fence = jobs.send(AcquireLock::new()).await.unwrap().unwrap();
            assert!(last.as_ref() < Some(&fence));
            while heard.next().await.state != (ClaimState::Held { fence: fence.clone() }) {}
            admin.delete(fence.key.clone()).await.unwrap();
            let lost = ClaimState::Lost { reason: LossReason::KeyDeleted };
            assert_eq!(heard.next().await.state, lost);
            last = Some(fence);
        }
        assert!(last.is_some());
        contenders_are(&client, 0).await;
    });
}
