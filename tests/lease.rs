//! Leases: what is granted, listed, revoked, and what outlives a restart.

use std::{future::IntoFuture, time::Duration};

use futures::TryStreamExt;
use tenure::{Client, ErrorKind, EtcdError, EventKind, LeaseId, LeaseState, LossReason};
use tenure_testkit::{TestServer, eventually, on_each_etcd, on_each_server};
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;
#[path = "support/users.rs"]
mod users;
use start::{MINUTE, SOON, cluster, start, start_with};
use users::{connect, enable_auth};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn is_there(client: &Client, key: &'static str) -> bool {
    client.count(key).await.unwrap().count == 1
}

#[tokio::test]
async fn a_put_with_an_unknown_lease_is_refused() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let unknown = LeaseId::new(500).unwrap();
        let error = client.put("key", "value").lease(unknown).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound));
        assert!(!is_there(&client, "key").await);
    })
    .await;
}

#[tokio::test]
async fn a_granted_lease_takes_keys_and_a_ttl_that_cannot_be_is_refused() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for ttl in [Duration::ZERO, seconds(9_000_000_001)] {
            let error = client.lease_grant(ttl).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{ttl:?}: {error}");
        }
        let longest = client.lease_grant(seconds(9_000_000_000)).await.unwrap();
        assert_eq!(longest.ttl, seconds(9_000_000_000));

        let lease = client.lease_grant(seconds(10)).await.unwrap();
        assert_eq!(lease.ttl, seconds(10));
        client.put("key", "value").lease(lease.id).await.unwrap();
        let read = client.get("key").await.unwrap();
        assert_eq!(read.kv().unwrap().lease, Some(lease.id));
    })
    .await;
}

#[tokio::test]
async fn the_server_may_grant_more_than_was_asked_and_parts_of_a_second_count_whole() {
    on_each_server(async |server| {
        let server = TestServer::builder(&server).start().await.unwrap();
        let client = server.client().await.unwrap();
        let least = client.lease_grant(Duration::from_millis(1)).await.unwrap();
        assert_eq!(least.ttl, seconds(2), "the floor of etcd's default timing");
        let part = client.lease_grant(Duration::from_millis(2_001)).await.unwrap();
        assert_eq!(part.ttl, seconds(3));
        let kept = client.lease_keep_alive(&least).await.unwrap();
        assert_eq!(kept.ttl(), seconds(2));
    })
    .await;
}

#[tokio::test]
async fn a_revoked_lease_takes_its_keys_with_it_and_takes_no_more() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(MINUTE).await.unwrap();
        for key in ["a", "b"] {
            client.put(key, "value").lease(lease.id).await.unwrap();
        }
        let mut watch = client.watch(tenure::KeyRange::all()).await.unwrap();
        client.lease_revoke(lease.id).await.unwrap();
        let events = watch.try_next().await.unwrap().unwrap().into_events();
        assert!(events.iter().all(|event| event.kind == EventKind::Delete));
        assert_eq!(events.len(), 2, "both at one revision: {events:?}");

        let error = client.put("c", "value").lease(lease.id).await.unwrap_err();
        assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound));
        let error = client.lease_revoke(lease.id).await.unwrap_err();
        assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound));
    })
    .await;
}

#[tokio::test]
async fn one_renewal_sets_the_ttl_back_and_an_unknown_lease_has_none() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(seconds(5)).await.unwrap();
        let remaining = async || client.lease_time_to_live(lease.id).await.unwrap().remaining;
        eventually(SOON, "a second goes by", async || remaining().await.unwrap() <= seconds(3))
            .await;
        assert_eq!(client.lease_keep_alive_once(lease.id).await.unwrap(), seconds(5));
        assert!(remaining().await.unwrap() >= seconds(4));

        let unknown = LeaseId::new(500).unwrap();
        let error = client.lease_keep_alive_once(unknown).await.unwrap_err();
        assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound));
        let error = client.lease_keep_alive(unknown).await.unwrap_err();
        assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound));
    })
    .await;
}

#[tokio::test]
async fn the_remaining_ttl_and_the_keys_of_a_lease_can_be_asked_for() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(seconds(10)).await.unwrap();
        for key in ["a", "b"] {
            client.put(key, "value").lease(lease.id).await.unwrap();
        }
        let found = client.lease_time_to_live(lease.id).keys().await.unwrap();
        assert_eq!(found.id, lease.id);
        assert_eq!(found.granted_ttl, Some(seconds(10)));
        assert!((seconds(1)..=seconds(10)).contains(&found.remaining.unwrap()), "{found:?}");
        let mut keys = found.keys;
        keys.sort();
        assert_eq!(keys, ["a", "b"]);
        let without = client.lease_time_to_live(lease.id).await.unwrap();
        assert!(without.keys.is_empty());
    })
    .await;
}

#[tokio::test]
async fn asking_for_a_revoked_lease_is_no_error() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(seconds(10)).await.unwrap();
        client.lease_revoke(lease.id).await.unwrap();
        let found = client.lease_time_to_live(lease.id).keys().await.unwrap();
        assert_ne!(found.header.cluster_id, 0);
        assert_eq!((found.remaining, found.granted_ttl), (None, None));
        assert!(found.keys.is_empty());
    })
    .await;
}

#[tokio::test]
async fn leases_are_listed_in_the_order_they_were_granted() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut granted = Vec::new();
        for _ in 0..5 {
            granted.push(client.lease_grant(seconds(10)).await.unwrap().id);
        }
        assert_eq!(client.leases().await.unwrap().leases, granted);
    })
    .await;
}

#[tokio::test]
async fn an_id_can_be_chosen_once_negative_ones_too() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        for id in [1, i64::MAX, i64::MIN, -10] {
            let id = LeaseId::new(id).unwrap();
            assert_eq!(client.lease_grant(MINUTE).id(id).await.unwrap().id, id);
            let error = client.lease_grant(MINUTE).id(id).await.unwrap_err();
            assert_eq!(error.etcd_error(), Some(EtcdError::LeaseExist), "{error}");
            client.put("key", "value").lease(id).await.unwrap();
            assert_eq!(client.lease_keep_alive_once(id).await.unwrap(), MINUTE);
        }
        server.restart().await.unwrap();
        let negative = LeaseId::new(-10).unwrap();
        assert_eq!(client.lease_keep_alive_once(negative).await.unwrap(), MINUTE);
        client.lease_revoke(negative).await.unwrap();
        assert!(!is_there(&client, "key").await, "the last put moved the key to this lease");
    })
    .await;
}

#[tokio::test]
async fn a_key_moves_from_lease_to_lease() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let first = client.lease_grant(MINUTE).await.unwrap();
        let second = client.lease_grant(MINUTE).await.unwrap();
        client.put("key", "1").lease(first.id).await.unwrap();
        client.put("key", "2").lease(second.id).await.unwrap();
        let keys = client.lease_time_to_live(first.id).keys().await.unwrap().keys;
        assert!(keys.is_empty(), "{keys:?}");
        client.lease_revoke(first.id).await.unwrap();
        assert!(is_there(&client, "key").await);
        client.lease_revoke(second.id).await.unwrap();
        assert!(!is_there(&client, "key").await);
    })
    .await;
}

#[tokio::test]
async fn keys_go_when_their_lease_expires() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut watch = client.watch("key").await.unwrap();
        let lease = client.lease_grant(seconds(1)).await.unwrap();
        client.put("key", "value").lease(lease.id).await.unwrap();
        let put = watch.try_next().await.unwrap().unwrap().into_events();
        assert!(put[0].is_create());
        let gone = timeout(SOON, watch.try_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(gone.events()[0].kind, EventKind::Delete);
        assert_eq!(client.lease_time_to_live(lease.id).await.unwrap().remaining, None);
        let error = client.put("key", "value").lease(lease.id).await.unwrap_err();
        assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound));
    })
    .await;
}

#[tokio::test]
async fn leases_and_their_keys_survive_a_restart_and_so_do_revocations() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let revoked = client.lease_grant(MINUTE).await.unwrap().id;
        let kept = client.lease_grant(MINUTE).await.unwrap().id;
        let (first, last) = (client.lease_grant(MINUTE), client.lease_grant(MINUTE));
        let (first, last) = (first.await.unwrap().id, last.await.unwrap().id);
        client.put("revoked", "").lease(revoked).await.unwrap();
        client.put("kept", "").lease(kept).await.unwrap();
        client.put("detached", "").lease(kept).await.unwrap();
        client.put("detached", "").await.unwrap();
        client.put("moved", "").lease(first).await.unwrap();
        client.put("moved", "").lease(last).await.unwrap();
        client.lease_revoke(revoked).await.unwrap();

        server.restart().await.unwrap();

        // A read finds out that the connection is gone; a revocation that was repeated may find
        // nothing.
        assert!(!is_there(&client, "revoked").await);
        let error = client.lease_revoke(revoked).await.unwrap_err();
        assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound));
        assert!(is_there(&client, "kept").await);
        client.lease_revoke(kept).await.unwrap();
        assert!(!is_there(&client, "kept").await);
        assert!(is_there(&client, "detached").await, "its last put was without a lease");
        client.lease_revoke(first).await.unwrap();
        assert!(is_there(&client, "moved").await, "its last put was with another lease");
        client.lease_revoke(last).await.unwrap();
        assert!(!is_there(&client, "moved").await);
    })
    .await;
}

#[tokio::test]
async fn a_new_leader_gives_leases_their_whole_ttl_again() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let lease = client.lease_grant(seconds(10)).await.unwrap();
        // While there is no leader the answer is an error, never "no such lease".
        let remaining = async || {
            let found = client.lease_time_to_live(lease.id).await.ok()?;
            assert_eq!(found.granted_ttl, Some(seconds(10)), "{found:?}");
            found.remaining
        };
        eventually(SOON, "some of it is used up", async || {
            remaining().await.is_some_and(|left| left <= seconds(7))
        })
        .await;
        cluster.kill(cluster.leader().await.unwrap()).unwrap();
        eventually(SOON, "it is whole again", async || {
            remaining().await.is_some_and(|left| left >= seconds(9))
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn calls_on_a_closed_client_end_at_once() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(MINUTE).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        client.close().await;
        let calls = async {
            [
                client.lease_grant(MINUTE).await.unwrap_err(),
                client.lease_revoke(lease.id).await.unwrap_err(),
                client.lease_time_to_live(lease.id).await.unwrap_err(),
                client.leases().await.unwrap_err(),
                client.lease_keep_alive(&lease).await.unwrap_err(),
                client.lease_keep_alive(lease.id).await.unwrap_err(),
                client.lease_keep_alive_once(lease.id).await.unwrap_err(),
            ]
        };
        for error in timeout(SOON, calls).await.expect("nothing hangs") {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
        assert_eq!(kept.state(), LeaseState::Lost { reason: LossReason::Closed });
        assert!(!kept.is_held());
    })
    .await;
}

#[tokio::test]
async fn calls_in_flight_end_with_the_client() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 1).await;
        let lease = client.lease_grant(MINUTE).await.unwrap();
        cluster.pause(0).unwrap();
        let grant = tokio::spawn(client.lease_grant(MINUTE).into_future());
        let once = tokio::spawn({
            let client = client.clone();
            async move { client.lease_keep_alive_once(lease.id).await }
        });
        let list = tokio::spawn({
            let client = client.clone();
            async move { client.leases().await }
        });
        tokio::task::yield_now().await;
        client.close().await;
        let ends = async {
            [
                grant.await.unwrap().unwrap_err(),
                once.await.unwrap().unwrap_err(),
                list.await.unwrap().unwrap_err(),
            ]
        };
        for error in timeout(SOON, ends).await.expect("nothing hangs") {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn with_users_a_lease_obeys_only_who_may_write_its_keys_and_expires_all_the_same() {
    on_each_server(async |server| {
        let (server, _) = start_with(&server, &["--bcrypt-cost=4"]).await;
        enable_auth(&server).await;
        let (root, alice) = (connect(&server, "root").await, connect(&server, "alice").await);
        let foreign = root.lease_grant(MINUTE).await.unwrap().id;
        root.put("b", "value").lease(foreign).await.unwrap();
        // Bound to it, her key would go with a key that she may not delete.
        let attach = alice.put("a/k", "value").lease(foreign).await.unwrap_err();
        let revoke = alice.lease_revoke(foreign).await.unwrap_err();
        for error in [attach, revoke] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        }
        assert!(is_there(&root, "b").await);

        let own = alice.lease_grant(seconds(2)).await.unwrap();
        alice.put("a/k", "value").lease(own.id).await.unwrap();
        let kept = alice.lease_keep_alive(&own).await.unwrap();
        let before = kept.deadline();
        eventually(SOON, "it is renewed", async || kept.deadline() > before + own.ttl).await;
        assert!(is_there(&alice, "a/k").await);
        drop(kept);
        eventually(SOON, "it expires", async || !is_there(&alice, "a/k").await).await;

        let own = alice.lease_grant(MINUTE).await.unwrap().id;
        alice.put("a/k", "value").lease(own).await.unwrap();
        alice.lease_revoke(own).await.unwrap();
        assert!(!is_there(&alice, "a/k").await);
        root.lease_revoke(foreign).await.unwrap();
        assert!(!is_there(&root, "b").await);
    })
    .await;
}
