//! The key space: what is written, read, counted, deleted and compacted; the limits;
//! and what a call does while members die, restart, or cannot answer.

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use tenure::{
    Client, Count, Delete, ErrorKind, EtcdError, Get, KeepValue, KeyRange, LeaseId, Order, Put,
    Result, Revision, SortBy, Txn,
};
use tenure_testkit::{
    Cluster, EtcdBinary, TestServer, eventually, on_each_etcd, on_each_listener, on_each_server,
};
use tokio::{net::TcpSocket, time::timeout};

#[path = "support/start.rs"]
mod start;
use start::{MINUTE, SOON, behind_a_proxy, cluster, start, start_with};

const MIB: usize = 1024 * 1024;

#[track_caller]
fn refused<T: Debug>(result: Result<T>, why: EtcdError) {
    let error = result.unwrap_err();
    assert_eq!(error.etcd_error(), Some(why), "{error}");
}

async fn keys(client: &Client, range: KeyRange) -> Vec<Bytes> {
    client.get(range).await.unwrap().kvs.into_iter().map(|kv| kv.key).collect()
}

#[tokio::test]
async fn a_put_stores_its_value_and_its_lease_and_moves_version_and_revision() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(MINUTE).await.unwrap().id;
        let first = client.put("color", "green").await.unwrap();
        assert_eq!((first.header.revision, first.prev_kv), (Revision(2), None));
        let second = client.put("color", "blue").lease(lease).prev_kv().await.unwrap();
        assert_eq!(second.prev_kv.unwrap().value, "green");

        let read = client.get("color").await.unwrap();
        assert_eq!(read.header.revision, second.header.revision);
        let kv = read.into_kv().unwrap();
        assert_eq!((kv.value, kv.lease), (Bytes::from("blue"), Some(lease)));
        let revisions = (kv.create_revision, kv.mod_revision, kv.version);
        assert_eq!(revisions, (Revision(2), Revision(3), 2));

        // A put without a lease takes the key from its lease.
        client.put("color", "").await.unwrap();
        let kv = client.get("color").await.unwrap().into_kv().unwrap();
        assert_eq!((kv.value, kv.lease), (Bytes::new(), None));
    })
    .await;
}

#[tokio::test]
async fn a_put_keeps_the_value_or_the_lease_when_told_so() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(MINUTE).await.unwrap().id;
        // Alone, and in a txn, which is checked elsewhere on the server.
        let in_txn = async |put: Put| client.txn().and_then([put]).await;
        for put in [Put::new("k", KeepValue), Put::new("k", "v").keep_lease()] {
            refused(client.execute(put.clone()).await, EtcdError::KeyNotFound);
            refused(in_txn(put).await, EtcdError::KeyNotFound);
        }
        let held = async || {
            let kv = client.get("k").await.unwrap().into_kv().unwrap();
            (kv.value, kv.lease)
        };
        client.put("k", "v1").await.unwrap();
        client.put("k", KeepValue).lease(lease).await.unwrap();
        assert_eq!(held().await, (Bytes::from("v1"), Some(lease)));
        client.put("k", "v2").keep_lease().await.unwrap();
        assert_eq!(held().await, (Bytes::from("v2"), Some(lease)));
        in_txn(Put::new("k", KeepValue).keep_lease()).await.unwrap();
        assert_eq!(held().await, (Bytes::from("v2"), Some(lease)));
        in_txn(Put::new("k", KeepValue)).await.unwrap();
        assert_eq!(held().await, (Bytes::from("v2"), None));
        assert_eq!(client.get("k").await.unwrap().kv().unwrap().version, 5);
    })
    .await;
}

#[tokio::test]
async fn a_put_with_a_lease_that_nobody_granted_is_refused_and_writes_nothing() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let nobodys = LeaseId::new(4711).unwrap();
        let put = Put::new("k", "v").lease(nobodys);
        refused(client.execute(put.clone()).await, EtcdError::LeaseNotFound);
        let both = client.txn().and_then([Put::new("other", "v"), put.clone()]).await;
        refused(both, EtcdError::LeaseNotFound);
        let nested = Txn::new().and_then([put.clone()]);
        let outer = client.txn().and_then([nested]).or_else([put.clone()]).await;
        refused(outer, EtcdError::LeaseNotFound);
        // A branch that is not taken may name any lease.
        assert!(client.txn().or_else([put]).await.unwrap().succeeded);
        assert_eq!(client.count(KeyRange::all()).await.unwrap().count, 0);
    })
    .await;
}

/// a, b, c (put three times), foo, foo/abc, fop: revisions 2 to 9.
async fn fill(client: &Client) {
    let puts = [("a", "3"), ("b", "1"), ("c", "x"), ("c", "y"), ("c", "2")];
    for (key, value) in puts.into_iter().chain(["foo", "foo/abc", "fop"].map(|key| (key, ""))) {
        client.put(key, value).await.unwrap();
    }
}

#[tokio::test]
async fn a_read_answers_with_the_keys_limits_orders_and_filters_that_were_asked_for() {
    use KeyRange as R;
    use Order::{Ascending, Descending};
    use SortBy::{CreateRevision, Key, ModRevision, Value, Version};
    let all = || Get::new(R::all());
    let letters = || Get::new(R::span("a", "d"));
    let everything = "a b c foo foo/abc fop";
    #[rustfmt::skip]
    let table = [
        // question, keys, more, count
        (Get::new("a"), "a", false, 1),
        (Get::new("nothing"), "", false, 0),
        (letters(), "a b c", false, 3),
        (Get::new(R::span("a", "c")), "a b", false, 2),
        (Get::new(R::span("b", "foo/")), "b c foo", false, 3),
        (Get::new(R::span("x", "z")), "", false, 0),
        (Get::new(R::span("", "b")), "a", false, 1),
        (Get::new(R::starting_at("foo")), "foo foo/abc fop", false, 3),
        (Get::new(R::starting_at("g")), "", false, 0),
        (Get::new(R::prefix("foo")), "foo foo/abc", false, 2),
        (Get::new(R::prefix("")), everything, false, 6),
        (all(), everything, false, 6),
        (all().revision(7.into()), "a b c foo", false, 4),
        (all().revision(3.into()).limit(1), "a", true, 2),
        (all().limit(0), everything, false, 6),
        (all().limit(2), "a b", true, 6),
        (all().limit(6), everything, false, 6),
        (all().limit(7), everything, false, 6),
        (Get::new("a").limit(1), "a", false, 1),
        (all().sort(Key, Ascending), everything, false, 6),
        (all().sort(Key, Descending), "fop foo/abc foo c b a", false, 6),
        (all().sort(Key, Descending).limit(2), "fop foo/abc", true, 6),
        (all().sort(ModRevision, Descending), "fop foo/abc foo c b a", false, 6),
        (all().sort(CreateRevision, Ascending), everything, false, 6),
        (letters().sort(Value, Ascending), "b c a", false, 3),
        (letters().sort(Value, Descending), "a c b", false, 3),
        (Get::new(R::span("c", "foo/")).sort(Version, Ascending), "foo c", false, 2),
        (Get::new(R::span("c", "foo/")).sort(Version, Descending), "c foo", false, 2),
        (all().first(CreateRevision), "a", true, 6),
        (all().last(ModRevision), "fop", true, 6),
        (all().last(Version), "c", true, 6),
        (Get::new("a").last(Key), "a", false, 1),
        // Filters leave the count alone.
        (all().min_mod_revision(6.into()), "c foo foo/abc fop", false, 6),
        (all().max_mod_revision(6.into()), "a b c", false, 6),
        (all().min_create_revision(5.into()), "foo foo/abc fop", false, 6),
        (all().max_create_revision(4.into()), "a b c", false, 6),
        (all().min_mod_revision(3.into()).max_create_revision(4.into()), "b c", false, 6),
        (all().min_mod_revision(6.into()).limit(1), "c", true, 6),
        (all().serializable(), everything, false, 6),
    ];
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        fill(&client).await;
        for (get, keys, more, count) in table.clone() {
            let answer = client.execute(get.clone()).await.unwrap().into_get().unwrap();
            let found: Vec<_> = answer.kvs.iter().map(|kv| kv.key.as_ref()).collect();
            let wanted: Vec<_> = keys.split_whitespace().map(str::as_bytes).collect();
            assert_eq!(found, wanted, "{get:?}");
            assert_eq!((answer.more, answer.count), (more, count), "{get:?}");
            assert_eq!(answer.header.revision, Revision(9), "{get:?}");
        }
        let c = client.get("c").await.unwrap().into_kv().unwrap();
        let revisions = (c.create_revision, c.mod_revision, c.version);
        assert_eq!(revisions, (Revision(4), Revision(6), 3));
    })
    .await;
}

#[tokio::test]
async fn keys_come_without_values_and_a_count_without_keys() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        fill(&client).await;
        let bare = client.get("c").keys_only().await.unwrap().into_kv().unwrap();
        assert_eq!((bare.value, bare.version), (Bytes::new(), 3));
        let all = KeyRange::all;
        assert_eq!(client.count(all()).await.unwrap().count, 6);
        assert_eq!(client.count(all()).revision(6.into()).await.unwrap().count, 3);
        assert_eq!(client.count("c").serializable().await.unwrap().count, 1);
        let answer = client.execute(Count::new(all())).await.unwrap().into_get().unwrap();
        assert_eq!((answer.count, answer.kvs, answer.more), (6, vec![], false));
    })
    .await;
}

#[tokio::test]
async fn a_delete_takes_exactly_the_keys_of_its_range() {
    use KeyRange as R;
    let table = [
        // range, what is deleted
        (R::key("foo"), "foo"),
        (R::key("fo/"), ""),
        (R::span("fo", "fop"), "fo foo foo/a"),
        (R::span("foo", "foo/a"), "foo"),
        (R::span("a", "f"), ""),
        (R::span("fop", "fop\0"), "fop"),
        (R::prefix("foo"), "foo foo/a"),
        (R::starting_at("foo/"), "foo/a fop"),
        (R::starting_at("g"), ""),
        (R::prefix(""), "fo foo foo/a fop"),
        (R::all(), "fo foo foo/a fop"),
    ];
    const SET: [&str; 4] = ["fo", "foo", "foo/a", "fop"];
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for (range, deleted) in table.clone() {
            let puts = SET.map(|key| Put::new(key, key));
            let before = client.txn().and_then(puts).await.unwrap().header.revision;
            let deleted: Vec<_> = deleted.split_whitespace().collect();
            let answer = client.delete(range.clone()).prev_kv().await.unwrap();
            let previous: Vec<_> = answer.prev_kvs.iter().map(|kv| kv.value.clone()).collect();
            assert_eq!(previous, deleted, "{range:?}");
            assert_eq!(answer.deleted, deleted.len() as u64, "{range:?}");
            // Deleting nothing makes no revision.
            let moved = answer.header.revision != before;
            assert_eq!(moved, !deleted.is_empty(), "{range:?}");
            let left: Vec<_> = SET.into_iter().filter(|key| !deleted.contains(key)).collect();
            assert_eq!(keys(&client, KeyRange::all()).await, left, "{range:?}");
        }
        let silent = client.execute(Delete::new("fo")).await.unwrap().into_delete().unwrap();
        assert_eq!(silent.prev_kvs, vec![]);
    })
    .await;
}

#[tokio::test]
async fn a_put_is_one_revision_and_its_deletion_the_next() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        assert_eq!(client.put("foo", "").await.unwrap().header.revision, Revision(2));
        assert_eq!(client.delete("foo").await.unwrap().header.revision, Revision(3));
        assert_eq!(client.get("foo").await.unwrap().kv(), None);
        // The past is still there; created anew, the key begins anew.
        assert!(client.get("foo").revision(2.into()).await.unwrap().kv().is_some());
        client.put("foo", "").await.unwrap();
        let kv = client.get("foo").await.unwrap().into_kv().unwrap();
        assert_eq!((kv.create_revision, kv.version), (Revision(4), 1));
    })
    .await;
}

#[tokio::test]
async fn what_is_compacted_can_neither_be_compacted_read_nor_watched_again() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        fill(&client).await;
        refused(client.compact(1000.into()).await, EtcdError::FutureRevision);
        assert_eq!(client.compact(7.into()).await.unwrap().header.revision, Revision(9));
        let again = client.compact(7.into()).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Compacted);
        assert_eq!(again.etcd_error(), Some(EtcdError::Compacted));

        let read = client.get(KeyRange::all()).revision(6.into()).await.unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Compacted);
        let count = client.count(KeyRange::all()).revision(6.into()).await.unwrap_err();
        assert_eq!(count.kind(), ErrorKind::Compacted);
        // etcd accepts such a watch, and ends it with its first answer.
        let mut watch = client.watch(KeyRange::all()).start_revision(3.into()).open();
        let watch = watch.try_next().await.unwrap_err();
        assert_eq!(watch.kind(), ErrorKind::Compacted);
        assert_eq!(watch.compact_revision(), Some(Revision(7)));
        let future = client.get("a").revision(1000.into()).await;
        refused(future, EtcdError::FutureRevision);
    })
    .await;
}

#[tokio::test]
async fn the_current_revision_can_be_compacted_and_is_still_read() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        fill(&client).await;
        client.compact(9.into()).physical().await.unwrap();
        assert_eq!(keys(&client, KeyRange::span("a", "d")).await, ["a", "b", "c"]);
        let at = client.get("c").revision(9.into()).await.unwrap();
        assert_eq!(at.kv().unwrap().value, "2");
        let before = client.get("c").revision(8.into()).await.unwrap_err();
        assert_eq!(before.kind(), ErrorKind::Compacted);
    })
    .await;
}

#[tokio::test]
async fn a_request_is_bounded_by_the_clients_limit_and_by_the_servers() {
    on_each_server(async |server| {
        let (small, _) = start_with(&server, &["--max-request-bytes=1048576"]).await;
        let (large, _) = start_with(&server, &["--max-request-bytes=10485760"]).await;
        let value = |size| Bytes::from(vec![b'v'; size]);
        let client = async |server: &TestServer, limit| {
            server.connect().max_send_bytes(limit).connect().await.unwrap()
        };
        // The client's own limit: nothing is sent.
        let strict = client(&large, MIB).await;
        let error = strict.put("k", value(MIB)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        strict.put("k", value(MIB - 100)).await.unwrap();

        // etcd's limit, and that of its gRPC library, which is half a MiB higher.
        let loose = client(&small, 10 * MIB).await;
        refused(loose.put("k", value(MIB + 1)).await, EtcdError::RequestTooLarge);
        let error = loose.put("k", value(3 * MIB)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(!error.may_have_been_applied() && error.to_string().contains("larger"), "{error}");
        assert_eq!(loose.count("k").await.unwrap().count, 0);

        // An answer of any size is read.
        let wide = client(&large, 10 * MIB).await;
        wide.put("k", value(5 * MIB)).await.unwrap();
        assert_eq!(wide.get("k").await.unwrap().kv().unwrap().value.len(), 5 * MIB);
    })
    .await;
}

#[tokio::test]
async fn a_value_above_etcds_default_limit_is_refused_by_etcd() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let value = Bytes::from(vec![0; 3 * MIB / 2 + 1]);
        refused(client.put("k", value.clone()).await, EtcdError::RequestTooLarge);
        let txn = client.txn().and_then([Put::new("k", value)]).await;
        refused(txn, EtcdError::RequestTooLarge);
    })
    .await;
}

#[tokio::test]
async fn a_full_database_refuses_writes_and_still_reads_and_deletes() {
    on_each_server(async |server| {
        let (_server, client) = start_with(&server, &["--quota-backend-bytes=2097152"]).await;
        let value = Bytes::from(vec![0; MIB / 8]);
        let mut keys = (0..).map(|n| format!("k{n}"));
        let refusal = eventually(SOON, "2 MiB are full", async || {
            client.put(keys.next()?, value.clone()).await.err()
        })
        .await;
        assert_eq!(refusal.kind(), ErrorKind::Refused);
        assert_eq!(refusal.etcd_error(), Some(EtcdError::NoSpace));
        let txn = client.txn().and_then([Put::new("k", value)]).await;
        refused(txn, EtcdError::NoSpace);
        assert_eq!(client.get("k0").keys_only().await.unwrap().count, 1);
        assert_eq!(client.delete("k0").await.unwrap().deleted, 1);
    })
    .await;
}

#[tokio::test]
async fn a_read_that_began_while_the_only_member_was_dead_is_answered_after_its_restart() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 1).await;
        client.put("k", "v").await.unwrap();
        cluster.kill(0).unwrap();
        // The read is polled first.
        let (read, restart) = tokio::join!(client.get("k"), cluster.restart(0));
        restart.unwrap();
        assert_eq!(read.unwrap().kv().unwrap().value, "v");
        client.put("k", "w").await.unwrap();
        assert_eq!(client.get("k").await.unwrap().kv().unwrap().version, 2);
    })
    .await;
}

#[tokio::test]
async fn a_put_to_a_dead_member_fails_for_sure_and_a_later_read_waits_for_the_restart() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 1).await;
        cluster.kill(0).unwrap();
        let put = client.put("k", "v").timeout(Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(put.kind(), ErrorKind::Unavailable, "{put}");
        assert!(put.is_retryable() && !put.may_have_been_applied(), "{put}");
        let (read, restart) = tokio::join!(client.get("k"), cluster.restart(0));
        restart.unwrap();
        assert_eq!(read.unwrap().kv(), None);
    })
    .await;
}

#[tokio::test]
async fn a_client_of_a_dead_member_fails_its_calls_and_closes_without_hanging() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 1).await;
        client.put("k", "v").await.unwrap();
        cluster.stop(0).await.unwrap();
        let calls = async {
            let short = Duration::from_millis(300);
            let get = client.get("k").timeout(short).await.unwrap_err();
            assert!(matches!(get.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{get}");
            let put = client.put("k", "w").timeout(short).await.unwrap_err();
            assert_eq!(put.kind(), ErrorKind::Unavailable, "{put}");
            client.close().await;
        };
        timeout(SOON, calls).await.expect("neither calls nor close wait for the member");
    })
    .await;
}

#[tokio::test]
async fn a_read_that_is_given_up_leaves_the_connection_as_it_was() {
    on_each_listener(async |server| {
        let (_server, proxy, client, _) = behind_a_proxy(&server).await;
        client.put("k", "v").await.unwrap();
        proxy.pause();
        let read = timeout(Duration::from_millis(100), client.get("k").into_future()).await;
        assert!(read.is_err(), "nothing comes through a paused proxy: {read:?}");
        proxy.pass();
        assert_eq!(client.get("k").await.unwrap().kv().unwrap().value, "v");
        assert_eq!(proxy.accepted(), 1);
    })
    .await;
}

#[tokio::test]
async fn no_put_is_applied_twice_over_a_link_that_breaks_all_the_time() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        client.put("k", "").await.unwrap();
        let breaking = async {
            let mut pause = (0..10).cycle();
            loop {
                proxy.reset();
                // At changing instants of a call.
                let micros = 300 * pause.next().unwrap_or_default();
                tokio::time::sleep(Duration::from_micros(micros)).await;
            }
        };
        let putting = async {
            let (mut sure, mut open) = (0, 0);
            for n in 0..40 {
                match client.put("k", format!("{n}")).timeout(Duration::from_secs(2)).await {
                    Ok(_) => sure += 1,
                    Err(error) if error.kind() == ErrorKind::Indeterminate => open += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
            }
            (sure, open)
        };
        let (sure, open) = tokio::select! {
            counts = putting => counts,
            () = breaking => unreachable!("it breaks for ever"),
        };
        assert!(open > 0, "no call was ever cut: {sure} answered");
        let applied = direct.get("k").await.unwrap().kv().unwrap().version - 1;
        assert!((sure..=sure + open).contains(&applied), "{applied}: {sure} sure, {open} open");
    })
    .await;
}

#[tokio::test]
async fn keys_outlive_the_restart_of_the_only_member() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        client.put("k", "before").await.unwrap();
        server.restart().await.unwrap();
        let kv = client.get("k").await.unwrap().into_kv().unwrap();
        assert_eq!((kv.value, kv.version), (Bytes::from("before"), 1));
        let put = client.put("k", "after").prev_kv().await.unwrap();
        assert_eq!(put.prev_kv.unwrap().value, "before");
    })
    .await;
}

#[tokio::test]
async fn without_a_quorum_only_a_serializable_read_is_answered() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        let last = cluster.member(0);
        let client = Client::connect([last.endpoint()]).await.unwrap();
        client.put("k", "v").await.unwrap();
        cluster.kill(1).unwrap();
        cluster.kill(2).unwrap();
        eventually(SOON, "the leader is missed", async || {
            last.metric("etcd_server_has_leader").await == Some(0.0)
        })
        .await;

        let put = client.put("k", "w").require_leader().await.unwrap_err();
        assert_eq!(put.etcd_error(), Some(EtcdError::NoLeader));
        assert_eq!(put.kind(), ErrorKind::Unavailable);
        assert!(!put.may_have_been_applied(), "{put}");
        let get = client.get("k").require_leader().await.unwrap_err();
        assert_eq!(get.etcd_error(), Some(EtcdError::NoLeader));
        // The server knows which version of the API it is spoken to in.
        let spoken = r#"etcd_server_client_requests_total{client_api_version="3.5",type="unary"}"#;
        let heard = async || last.metric(spoken).await.is_some_and(|count| count >= 3.0);
        eventually(SOON, "the version is counted", heard).await;

        let read = client.get("k").serializable().await.unwrap();
        assert_eq!(read.kv().unwrap().value, "v");
        let read = client.get("k").timeout(Duration::from_millis(1500)).await.unwrap_err();
        assert!(matches!(read.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{read}");
    })
    .await;
}

/// Joins a learner to a one-member cluster. It keeps its port until the socket is dropped.
async fn join_learner(etcd: &EtcdBinary, cluster: &Cluster) -> (Cluster, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let peer = format!("http://{}", socket.local_addr().unwrap());
    let members = cluster.etcdctl(&["member", "list"]).await.unwrap();
    let members = String::from_utf8(members.stdout).unwrap();
    let voter = members.split(", ").nth(3).expect("id, status, name, peer URLs");
    let urls = format!("--peer-urls={peer}");
    let add = ["member", "add", "learner", "--learner", &urls];
    let added = cluster.etcdctl(&add).await.unwrap();
    assert!(added.status.success(), "{added:?}");
    let learner = Cluster::builder(etcd)
        .fast(true)
        .flag("--name=learner")
        .flag(format!("--listen-peer-urls={peer}"))
        .flag(format!("--initial-advertise-peer-urls={peer}"))
        .flag(format!("--initial-cluster=m0={voter},learner={peer}"))
        .flag("--initial-cluster-state=existing")
        .start()
        .await
        .unwrap();
    (learner, socket)
}

#[tokio::test]
async fn a_learner_answers_serializable_reads_only_and_other_calls_find_a_voter() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 1).await;
        client.put("k", "v").await.unwrap();
        let (learner, _port) = join_learner(&etcd, &cluster).await;
        let client = Client::connect(learner.endpoints()).await.unwrap();
        let read = eventually(SOON, "the learner catches up", async || {
            client.get("k").serializable().await.ok()?.into_kv()
        });
        assert_eq!(read.await.value, "v");
        let errors = [
            client.get("k").await.map(drop),
            client.put("k", "w").await.map(drop),
            client.delete("k").await.map(drop),
            client.txn().and_then([Put::new("k", "w")]).await.map(drop),
            client.txn().and_then([Get::new("k")]).await.map(drop),
        ];
        for result in errors {
            let error = result.unwrap_err();
            assert_eq!(error.etcd_error(), Some(EtcdError::NotSupportedForLearner), "{error}");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(!error.may_have_been_applied());
        }
        // With a voter to go to, the same calls do.
        client.set_endpoints([learner.endpoints(), cluster.endpoints()].concat()).await.unwrap();
        for _ in 0..4 {
            assert_eq!(client.get("k").await.unwrap().kv().unwrap().value, "v");
            client.put("other", "").await.unwrap();
        }
        // The members that take requests are the voters.
        client.sync().await.unwrap();
        assert_eq!(client.endpoints(), cluster.endpoints());
    })
    .await;
}
