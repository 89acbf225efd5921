//! Read-write locks and semaphores spoken to in messages, inside an actix System.

use std::time::Duration;

use actix::Actor;
use tenure::{
    ClaimState, ErrorKind, LossReason, Release, RwLock, Semaphore,
    actor::{
        AcquirePermits, AcquireRead, AcquireWrite, Downgrade, LockEvent, PermitEvent, ReleaseLock,
        ReleasePermits, ResizeSemaphore, RwLockActor, SemaphoreActor, SubscribeLock,
        SubscribePermits, TryAcquirePermits, TryAcquireRead, TryAcquireWrite,
    },
};

#[path = "support/actors.rs"]
mod actors;
#[path = "support/asking.rs"]
mod asking;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use actors::{Heard, in_actix};
use asking::{got, keys_are, queue_up, take};
use lock::{ended, open};

const LOCK: &str = "tenure/rwlock/config/";
const CLAIMS: &str = "tenure/semaphore/uploads/permits/";

#[test]
fn a_read_write_lock_is_asked_for_told_of_and_released_by_messages() {
    in_actix(async |_, client| {
        let session = open(&client).await;
        let config = RwLockActor::new(&session, "config").start();
        let mut heard = Heard::<LockEvent>::new();
        config.send(SubscribeLock(heard.recipient())).await.unwrap();
        let fence = config.send(AcquireWrite::new()).await.unwrap().unwrap();
        while heard.next().await.state != (ClaimState::Held { fence: fence.clone() }) {}
        let busy = config.send(AcquireRead::new()).await.unwrap().unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::InvalidInput, "{busy}");

        let other = RwLock::new(&open(&client).await, "config");
        let reading = queue_up(&client, LOCK, other.read()).await;
        assert_eq!(config.send(Downgrade).await.unwrap().unwrap(), fence);
        let reading = got(reading).await;
        let error = config.send(Downgrade).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(config.send(ReleaseLock).await.unwrap().unwrap(), Release::Released);
        assert_eq!(heard.next().await.state, ClaimState::Released);
        for error in [
            config.send(ReleaseLock).await.unwrap().unwrap_err(),
            config.send(Downgrade).await.unwrap().unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }

        assert!(config.send(TryAcquireWrite).await.unwrap().unwrap().is_none());
        let short = AcquireWrite::new().timeout(Duration::from_millis(50));
        let error = config.send(short).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        keys_are(&client, LOCK, 1).await;
        assert!(config.send(TryAcquireRead).await.unwrap().unwrap().is_some());
        assert_eq!(config.send(ReleaseLock).await.unwrap().unwrap(), Release::Released);
        // Whoever asked and is gone waits no more; neither does whoever is told to give it back.
        let waiting = actix::spawn(config.send(AcquireWrite::new()));
        keys_are(&client, LOCK, 3).await;
        waiting.abort();
        keys_are(&client, LOCK, 1).await;
        let waiting = actix::spawn(config.send(AcquireWrite::new()));
        keys_are(&client, LOCK, 3).await;
        assert_eq!(config.send(ReleaseLock).await.unwrap().unwrap(), Release::Released);
        let error = ended(waiting).await.unwrap().unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::Closed), "{error}");
        reading.release().await.unwrap();

        // Its end is the end of the hold.
        config.send(AcquireRead::new()).await.unwrap().unwrap();
        keys_are(&client, LOCK, 1).await;
        drop(config);
        keys_are(&client, LOCK, 0).await;
    });
}

#[test]
fn permits_are_asked_for_told_of_resized_and_released_by_messages() {
    in_actix(async |_, client| {
        let session = open(&client).await;
        let uploads = SemaphoreActor::new(&session, "uploads", 2).start();
        let mut heard = Heard::<PermitEvent>::new();
        uploads.send(SubscribePermits(heard.recipient())).await.unwrap();
        let error = uploads.send(AcquirePermits::new(3)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let fence = uploads.send(AcquirePermits::new(2)).await.unwrap().unwrap();
        while heard.next().await.state != (ClaimState::Held { fence: fence.clone() }) {}
        let busy = uploads.send(TryAcquirePermits(1)).await.unwrap().unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::InvalidInput, "{busy}");

        let other = Semaphore::new(&open(&client).await, "uploads", 2);
        let waiting = queue_up(&client, CLAIMS, other.acquire(1)).await;
        assert_eq!(uploads.send(ResizeSemaphore(3)).await.unwrap().unwrap(), 2);
        let third = got(waiting).await;
        assert_eq!(uploads.send(ReleasePermits).await.unwrap().unwrap(), Release::Released);
        assert_eq!(heard.next().await.state, ClaimState::Released);
        assert!(uploads.send(TryAcquirePermits(3)).await.unwrap().unwrap().is_none());
        let short = AcquirePermits::new(3).timeout(Duration::from_millis(50));
        let error = uploads.send(short).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        third.release().await.unwrap();
        assert!(uploads.send(TryAcquirePermits(3)).await.unwrap().unwrap().is_some());
        keys_are(&client, CLAIMS, 1).await;
        drop(uploads);
        assert!(take(other.acquire(3)).await.is_held());
    });
}
