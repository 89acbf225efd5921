//! The locks and elections that servers run themselves, as plain calls, beside the recipes.

use std::{future::IntoFuture, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt};
use tenure::{Client, ErrorKind, EtcdError, KeyRange, KeyValue, LeaseId, Mutex};
use tenure_testkit::{Call, Fault, eventually, on_each_etcd, on_each_server, virtual_time};
use tokio::time::{sleep, timeout};

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{acquire, ended, open, seconds};
use start::{MINUTE, SOON, cluster, start};

async fn lease(client: &Client) -> LeaseId {
    client.lease_grant(MINUTE).await.unwrap().id
}

async fn keys_are(client: &Client, prefix: &'static str, count: u64) {
    let keys = KeyRange::prefix(prefix);
    let what = format!("{count} keys");
    eventually(SOON, &what, async || client.count(keys.clone()).await.unwrap().count == count)
        .await;
}

async fn next(
    leaders: &mut (impl futures::Stream<Item = tenure::Result<KeyValue>> + Unpin),
) -> KeyValue {
    timeout(SOON, leaders.try_next()).await.expect("it is told").unwrap().expect("it goes on")
}

#[tokio::test]
async fn a_server_takes_a_lock_and_gives_it_back() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let (first, second) = (lease(&client).await, lease(&client).await);
        let held = client.server_lock("jobs").lease(first).await.unwrap();
        assert_eq!(held.key, format!("jobs/{first}"));
        assert!(held.header.revision.0 > 1);
        // Of one lease it is one holder.
        let again = client.server_lock("jobs").lease(first).await.unwrap();
        assert_eq!(again.key, held.key);
        let waiting = tokio::spawn(client.server_lock("jobs").lease(second).into_future());
        keys_are(&client, "jobs/", 2).await;
        assert!(!waiting.is_finished());
        client.server_unlock(held.key).await.unwrap();
        let next = ended(waiting).await.unwrap();
        assert_eq!(next.key, format!("jobs/{second}"));
        client.server_unlock(&next.key).await.unwrap();
        client.server_unlock(next.key).await.unwrap();
        keys_are(&client, "jobs/", 0).await;
        // The server makes a lease itself.
        let before = client.leases().await.unwrap().leases.len();
        let held = client.server_lock("jobs").await.unwrap();
        let kv = client.get(&held.key).await.unwrap().into_kv().unwrap();
        let ttl = client.lease_time_to_live(kv.lease.unwrap()).await.unwrap().granted_ttl;
        assert_eq!(ttl, Some(MINUTE));
        assert_eq!(client.leases().await.unwrap().leases.len(), before + 1);
    })
    .await;
}

#[tokio::test]
async fn a_lock_of_a_server_and_a_mutex_exclude_one_another() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mutex = Mutex::at(&open(&client).await, "jobs");
        let guard = acquire(&mutex).await;
        let own = lease(&client).await;
        let waiting = tokio::spawn(client.server_lock("jobs").lease(own).into_future());
        keys_are(&client, "jobs/", 2).await;
        assert!(mutex.try_acquire().await.unwrap().is_none() && !waiting.is_finished());
        guard.release().await.unwrap();
        let held = ended(waiting).await.unwrap();
        assert!(mutex.try_acquire().await.unwrap().is_none());
        client.server_unlock(held.key).await.unwrap();
        assert!(acquire(&mutex).await.is_held());
    })
    .await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_so_and_leaves_no_key() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let (first, second) = (lease(&client).await, lease(&client).await);
        let held = client.server_lock("jobs").lease(first).await.unwrap();
        let short = client.server_lock("jobs").lease(second).timeout(Duration::from_millis(100));
        let late = short.await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
        assert!(late.may_have_been_applied() && !late.is_retryable());
        keys_are(&client, "jobs/", 1).await;
        let waiting = tokio::spawn(client.server_lock("jobs").lease(second).into_future());
        keys_are(&client, "jobs/", 2).await;
        waiting.abort();
        keys_are(&client, "jobs/", 1).await;
        let election = client.server_election("jobs");
        let short = election.campaign("b").lease(second).timeout(Duration::from_millis(100));
        assert_eq!(short.await.unwrap_err().kind(), ErrorKind::Timeout);
        keys_are(&client, "jobs/", 1).await;
        // The member that kept silent meanwhile is as good as before.
        assert_eq!(client.endpoints().len(), 1);
        client.server_unlock(held.key).await.unwrap();
        // Waiting ends with the client.
        let other = server.client().await.unwrap();
        let held = client.server_lock("jobs").lease(first).await.unwrap();
        let waiting = tokio::spawn(other.server_lock("jobs").lease(second).into_future());
        keys_are(&client, "jobs/", 2).await;
        other.close().await;
        let closed = ended(waiting).await.unwrap_err();
        assert!(matches!(closed.kind(), ErrorKind::Closed | ErrorKind::Indeterminate), "{closed}");
        client.server_unlock(held.key).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_second_candidate_waits_until_the_first_resigns() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let election = client.server_election("chief");
        assert_eq!(election.leader().await.unwrap(), None);
        let (first, second) = (lease(&client).await, lease(&client).await);
        let ann = election.campaign("ann").lease(first).await.unwrap();
        assert_eq!(ann.key, format!("chief/{first}"));
        assert_eq!((&ann.name[..], ann.lease), (&b"chief"[..], Some(first)));
        let told = election.leader().await.unwrap().expect("she leads");
        assert_eq!((told.value, told.create_revision), ("ann".into(), ann.create_revision));
        let waiting = tokio::spawn(election.campaign("bob").lease(second).into_future());
        keys_are(&client, "chief/", 2).await;
        assert!(!waiting.is_finished());
        election.proclaim(&ann, "ann again").await.unwrap();
        assert_eq!(election.leader().await.unwrap().unwrap().value, "ann again");
        election.resign(&ann).await.unwrap();
        let bob = ended(waiting).await.unwrap();
        assert!(bob.create_revision > ann.create_revision);
        // It is over for her, and that she gives up again changes nothing.
        let refused = election.proclaim(&ann, "me").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        assert_eq!(refused.etcd_error(), Some(EtcdError::ElectionNotLeader));
        election.resign(&ann).await.unwrap();
        assert_eq!(election.leader().await.unwrap().unwrap().value, "bob");
        client.lease_revoke(second).await.unwrap();
        assert_eq!(election.leader().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn leaders_are_told_in_their_order() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let election = client.server_election("chief");
        let mut leaders = election.observe();
        let own = lease(&client).await;
        let ann = election.campaign("0").lease(own).await.unwrap();
        assert_eq!(next(&mut leaders).await.value, "0");
        for number in 1..5 {
            let value = number.to_string();
            election.proclaim(&ann, value.clone()).await.unwrap();
            assert_eq!(next(&mut leaders).await.value, value);
        }
        let other = lease(&client).await;
        let waiting = tokio::spawn(election.campaign("bob").lease(other).into_future());
        keys_are(&client, "chief/", 2).await;
        election.resign(&ann).await.unwrap();
        assert_eq!(next(&mut leaders).await.value, "bob");
        ended(waiting).await.unwrap();
        // Who comes later is told who leads.
        assert_eq!(next(&mut election.observe()).await.value, "bob");
        // Never more than there is.
        assert!(leaders.next().now_or_never().is_none());
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let nameless = client.server_election("");
        let mut told = nameless.observe();
        for error in [
            client.server_lock("").await.unwrap_err(),
            client.server_unlock("").await.unwrap_err(),
            nameless.campaign("a").await.unwrap_err(),
            nameless.leader().await.unwrap_err(),
            told.try_next().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert!(told.next().await.is_none());
        let gone = lease(&client).await;
        client.lease_revoke(gone).await.unwrap();
        for error in [
            client.server_lock("jobs").lease(gone).await.unwrap_err(),
            client.server_election("jobs").campaign("a").lease(gone).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound));
        }
    })
    .await;
}

#[tokio::test]
async fn a_waiter_whose_lease_ends_does_not_get_the_lock() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let (first, second) = (lease(&client).await, lease(&client).await);
        let held = client.server_lock("jobs").lease(first).await.unwrap();
        let waiting = tokio::spawn(client.server_lock("jobs").lease(second).into_future());
        keys_are(&client, "jobs/", 2).await;
        client.lease_revoke(second).await.unwrap();
        client.server_unlock(held.key).await.unwrap();
        match ended(waiting).await {
            Err(error) => {
                assert_eq!(error.etcd_error(), Some(EtcdError::MutexSessionExpired), "{error}");
                assert_eq!(error.kind(), ErrorKind::Refused);
            }
            // 3.4 does not look; that is one reason to prefer a mutex.
            Ok(held) => assert_eq!(client.count(held.key).await.unwrap().count, 0),
        }
    })
    .await;
}

#[tokio::test]
async fn a_wait_that_loses_its_member_ends_and_other_calls_go_on() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let (first, second) = (lease(&client).await, lease(&client).await);
        let held = client.server_lock("jobs").lease(first).await.unwrap();
        let only = Client::connect([cluster.endpoints()[0].clone()]).await.unwrap();
        let waiting = tokio::spawn(only.server_lock("jobs").lease(second).into_future());
        let mut leaders = only.server_election("jobs").observe();
        assert_eq!(next(&mut leaders).await.key, held.key);
        keys_are(&client, "jobs/", 2).await;
        cluster.kill(0).unwrap();
        let error = ended(waiting).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
        timeout(SOON, leaders.try_next()).await.expect("it ends").unwrap_err();
        assert!(client.get(held.key).await.unwrap().kv().is_some());
    })
    .await;
}

#[test]
fn nobody_waits_for_ever() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let election = client.server_election("jobs");
        let own = client.lease_grant(60 * MINUTE).await.unwrap().id;
        client.server_lock("jobs").lease(own).await.unwrap();
        let (first, second) = (lease(&client).await, lease(&client).await);
        let begun = tokio::time::Instant::now();
        let (lock, campaign) = tokio::join!(
            client.server_lock("jobs").lease(first).into_future(),
            election.campaign("a").lease(second).into_future(),
        );
        assert_eq!(lock.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(campaign.unwrap_err().kind(), ErrorKind::Timeout);
        assert!((MINUTE..MINUTE + seconds(1)).contains(&begun.elapsed()));
        // Longer, if that is asked for.
        let late = lease(&client).await;
        let waiting = client.server_lock("jobs").lease(late).timeout(10 * MINUTE);
        let waiting = tokio::spawn(waiting.into_future());
        let kept = client.lease_keep_alive(late).await.unwrap();
        sleep(9 * MINUTE).await;
        assert!(!waiting.is_finished());
        client.lease_revoke(own).await.unwrap();
        assert_eq!(ended(waiting).await.unwrap().key, format!("jobs/{late}"));
        drop(kept);
    });
}

#[test]
fn a_lock_whose_answer_is_lost_is_asked_for_once() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let client = server.client().await.unwrap();
        let lost = embedded.inject(Fault::lose_answer().on(Call::Lock).times(1));
        let error = client.server_lock("jobs").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
        assert!(lost.is_spent());
        assert_eq!(server.calls(Call::Lock).await, 1);
        keys_are(&client, "jobs/", 1).await;
        // Nobody renews the lease that the server made.
        sleep(MINUTE + seconds(2)).await;
        keys_are(&client, "jobs/", 0).await;
    });
}
