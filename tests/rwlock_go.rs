//! The read-write lock of Go's recipes on the same prefix: a leased key under `read/` or `write/`
//! for each who asks, called by the time; a reader waits for those under `write/` that were put
//! before, a writer for all.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use tenure::{Client, KeyRange, Release, Revision, RwLock};
use tenure_testkit::on_each_server;

#[path = "support/asking.rs"]
mod asking;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use asking::{got, queue_up, take};
use lock::open;
use start::{MINUTE, start};

const PREFIX: &str = "shared/config";

/// A contender as Go's recipe makes one.
struct Go<'a> {
    client: &'a Client,
    key: String,
    put: Revision,
    /// Whom it waits for.
    ahead: &'static str,
}

impl<'a> Go<'a> {
    async fn asks(client: &'a Client, part: &'static str) -> Self {
        let lease = client.lease_grant(MINUTE).await.unwrap();
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let key = format!("{PREFIX}/{part}/{nanos:019}");
        let put = client.put(&key, "").lease(lease.id).await.unwrap().header.revision;
        let ahead = if part == "read" { "/write" } else { "/" };
        Self { client, key, put, ahead }
    }

    /// Whether there is nobody left to wait for: that is, nobody who was put before it.
    async fn is_inside(&self) -> bool {
        let ahead = self.client.get(KeyRange::prefix(format!("{PREFIX}{}", self.ahead)));
        ahead.max_mod_revision(Revision(self.put.0 - 1)).await.unwrap().kvs.is_empty()
    }

    async fn leaves(self) {
        assert_eq!(self.client.delete(self.key).await.unwrap().deleted, 1);
    }
}

/// Who is inside, and who waits then.
const READ: &str = "read";
const WRITE: &str = "write";

#[tokio::test]
async fn readers_and_writers_of_both_sides_keep_one_another_out() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let go = server.client().await.unwrap();
        let lock = RwLock::at(&open(&client).await, PREFIX);
        for (inside, asks) in [(READ, READ), (READ, WRITE), (WRITE, READ), (WRITE, WRITE)] {
            let together = (inside, asks) == (READ, READ);
            // Go's is inside, and ours asks.
            let theirs = Go::asks(&go, inside).await;
            assert!(theirs.is_inside().await);
            if asks == READ {
                let mut reading = queue_up(&go, PREFIX, lock.read()).await;
                if !together {
                    assert!((&mut reading).now_or_never().is_none(), "a writer is inside");
                    assert!(take(lock.try_read()).await.is_none());
                    theirs.leaves().await;
                    got(reading).await.release().await.unwrap();
                } else {
                    assert!(got(reading).await.is_held());
                    drop(take(lock.try_read()).await.expect("no writer is inside"));
                    theirs.leaves().await;
                }
            } else {
                let mut writing = queue_up(&go, PREFIX, lock.write()).await;
                assert!((&mut writing).now_or_never().is_none(), "{inside}");
                assert!(take(lock.try_write()).await.is_none());
                theirs.leaves().await;
                got(writing).await.release().await.unwrap();
            }
            asking::keys_are(&go, PREFIX, 0).await;

            // Ours is inside, and Go's asks.
            let release = if inside == READ {
                let read = take(lock.read()).await;
                let theirs = Go::asks(&go, asks).await;
                assert_eq!(theirs.is_inside().await, together);
                (read.release().await, theirs)
            } else {
                let write = take(lock.write()).await;
                let theirs = Go::asks(&go, asks).await;
                assert!(!theirs.is_inside().await);
                // A reader of theirs gets in beside what was a writer, a writer does not.
                let read = write.downgrade().await.unwrap();
                assert_eq!(theirs.is_inside().await, asks == READ);
                (read.release().await, theirs)
            };
            assert_eq!(release.0.unwrap(), Release::Released);
            assert!(release.1.is_inside().await);
            release.1.leaves().await;
        }
    })
    .await;
}

#[tokio::test]
async fn go_does_not_overtake_and_is_not_overtaken() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let go = server.client().await.unwrap();
        let lock = RwLock::at(&open(&client).await, PREFIX);
        let read = take(lock.read()).await;
        let their_write = Go::asks(&go, WRITE).await;
        let reading = queue_up(&go, PREFIX, lock.read()).await;
        let writing = queue_up(&go, PREFIX, lock.write()).await;
        let their_read = Go::asks(&go, READ).await;
        assert!(!their_write.is_inside().await && !their_read.is_inside().await);
        read.release().await.unwrap();
        assert!(their_write.is_inside().await && !reading.is_finished());
        their_write.leaves().await;
        let reading = got(reading).await;
        assert!(!writing.is_finished() && !their_read.is_inside().await);
        reading.release().await.unwrap();
        let writing = got(writing).await;
        assert!(!their_read.is_inside().await);
        // By its order, which is that of the last changes, each key of ours was put once.
        for kv in client.get(KeyRange::prefix(PREFIX)).await.unwrap().kvs {
            assert_eq!((kv.version, kv.mod_revision), (1, kv.create_revision));
            assert!(kv.lease.is_some(), "it ends with its session");
        }
        writing.release().await.unwrap();
        assert!(their_read.is_inside().await);
    })
    .await;
}
