//! What a session that is resumed makes of keys that must not be put again.

use bytes::Bytes;
use tenure::{KeyRange, LossReason, RwLock, Semaphore, Session};
use tenure_testkit::on_each_server;

#[path = "support/asking.rs"]
mod asking;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use asking::{got, queue_up, take};
use lock::{open, stranger, why};
use start::start;

const KEYS: &str = "tenure/rwlock/";

#[tokio::test]
async fn keys_of_a_session_that_is_resumed_stay_as_they_are_until_it_disowns_them() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let lock = RwLock::new(&session, "config");
        let write = take(lock.write()).await;
        let other = RwLock::new(&stranger(&server).await, "config");
        let waiting = queue_up(&client, KEYS, other.read()).await;
        let keys = client.get(KeyRange::prefix(KEYS)).await.unwrap().kvs;
        let lease = session.orphan().await.unwrap();
        assert_eq!(why(write.lost()).await, LossReason::Orphaned);

        let next = Session::resume(&client, lease).await.unwrap();
        let mut inherited = next.inherited();
        inherited.sort();
        let ours = keys.iter().filter(|kv| kv.lease == Some(lease));
        assert_eq!(inherited, ours.map(|kv| kv.key.clone()).collect::<Vec<_>>());
        let now = client.get(KeyRange::prefix(KEYS)).await.unwrap().kvs;
        assert_eq!(now, keys, "others look when they were put");
        // Nobody of this process has them: whoever asks is behind them.
        let late = queue_up(&client, KEYS, RwLock::new(&next, "config").write()).await;
        assert!(!waiting.is_finished() && !late.is_finished());
        assert_eq!(next.inherited().len(), 2);
        next.disown().await.unwrap();
        assert_eq!(next.inherited(), Vec::<Bytes>::new());
        got(waiting).await.release().await.unwrap();
        assert!(got(late).await.is_held());
    })
    .await;
}

#[tokio::test]
async fn permits_of_a_session_that_is_resumed_are_had_again_by_their_number() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let claims = "tenure/semaphore/jobs/permits/";
        let session = open(&client).await;
        let jobs = Semaphore::new(&session, "jobs", 4);
        let (one, two) = (take(jobs.acquire(1)).await, take(jobs.acquire(2)).await);
        let other = Semaphore::new(&stranger(&server).await, "jobs", 4);
        let waiting = queue_up(&client, claims, other.acquire(2)).await;
        let lease = session.orphan().await.unwrap();

        let next = Session::resume(&client, lease).await.unwrap();
        assert_eq!(next.inherited().len(), 2);
        let jobs = Semaphore::new(&next, "jobs", 4);
        let again = take(jobs.try_acquire(2)).await.expect("they are ours");
        let fence = again.fence();
        assert_eq!((again.count(), &fence.key), (2, &two.fence().key));
        assert_eq!(fence.create_revision, two.fence().create_revision);
        assert!(fence > two.fence(), "that of the earlier process is refused");
        again.kv().put("k", "v").await.unwrap();
        assert_eq!(next.inherited(), [one.fence().key]);
        assert!(!waiting.is_finished());
        next.disown().await.unwrap();
        assert!(got(waiting).await.is_held() && again.is_held());
    })
    .await;
}
