//! Transactions: which branch runs, what is refused, at which revision it happens, and
//! what becomes of them when members die.

use std::{fmt::Debug, future::IntoFuture, time::Duration};

use tenure::{
    Client, Compare, Count, Delete, ErrorKind, EtcdError, Get, KeyRange, Op, OpResponse, Put,
    Result, Revision, SortBy, Txn, TxnResponse,
};
use tenure_testkit::{on_each_etcd, on_each_server};

#[path = "support/start.rs"]
mod start;
use start::{MINUTE, cluster, start, start_with};

#[track_caller]
fn refused<T: Debug>(result: Result<T>, why: EtcdError) {
    let error = result.unwrap_err();
    assert_eq!(error.etcd_error(), Some(why), "{error}");
    assert!(!error.may_have_been_applied(), "{error}");
}

async fn revision(client: &Client) -> Revision {
    client.get("no such key").await.unwrap().header.revision
}

fn put(key: &'static str) -> Op {
    Put::new(key, "").into()
}

fn delete(range: impl Into<KeyRange>) -> Op {
    Delete::new(range).into()
}

fn nested(ops: impl IntoIterator<Item = Op>) -> Op {
    Txn::new().and_then(ops).into()
}

fn in_else(ops: impl IntoIterator<Item = Op>) -> Op {
    Txn::new().when([Compare::exists("never")]).or_else(ops).into()
}

#[tokio::test]
async fn a_branch_runs_whole_and_answers_in_order() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let absent = || Compare::missing("k");
        let txn = |client: &Client| {
            let txn = client.txn().when([absent()]).and_then([put("k"), put("l")]);
            txn.or_else([Op::from(Get::new("k")), Count::new(KeyRange::all()).into()])
        };
        let first = txn(&client).await.unwrap();
        assert!(first.succeeded);
        assert!(matches!(first.responses[..], [OpResponse::Put(_), OpResponse::Put(_)]));
        // Both puts are of one revision.
        let keys = client.get(KeyRange::all()).await.unwrap().kvs;
        assert!(keys.iter().all(|kv| kv.mod_revision == first.header.revision), "{keys:?}");
        let second = txn(&client).await.unwrap();
        assert!(!second.succeeded);
        let [OpResponse::Get(get), OpResponse::Get(count)] = &second.responses[..] else {
            panic!("{second:?}");
        };
        assert_eq!((get.kvs.len(), count.kvs.len(), count.count), (1, 0, 2));
        // A read sees the writes before it.
        let ops = [put("m"), Count::new(KeyRange::all()).into(), delete(KeyRange::all())];
        let third = client.txn().and_then(ops).await.unwrap();
        let [_, OpResponse::Get(count), OpResponse::Delete(deleted)] = &third.responses[..] else {
            panic!("{third:?}");
        };
        assert_eq!((count.count, deleted.deleted), (3, 3));
        // Nothing to do, and nothing to ask, is fine.
        let empty = client.txn().await.unwrap();
        assert_eq!((empty.succeeded, empty.responses), (true, vec![]));
    })
    .await;
}

#[tokio::test]
async fn a_key_may_be_changed_once_in_a_branch() {
    let all = KeyRange::all;
    let fine = || nested([put("abc")]);
    #[rustfmt::skip]
    let table: Vec<(Vec<Op>, bool)> = vec![
        // operations of a branch, whether they are refused
        (vec![put("abc"), put("abc")], true),
        (vec![put("abc"), delete("abc")], true),
        (vec![delete("abc"), put("abc")], true),
        (vec![put("abc"), delete(KeyRange::span("a", "b"))], true),
        (vec![delete(KeyRange::span("a", "b")), put("abc")], true),
        // etcd overlooks a range without an upper bound.
        (vec![put("abc"), delete(all())], false),
        (vec![put("abc"), delete(KeyRange::span("b", "d"))], false),
        (vec![put("abc"), delete(KeyRange::span("abcd", "b"))], false),
        (vec![put("abc"), delete(KeyRange::span("a", "abc"))], false),
        (vec![put("abc"), put("xyz")], false),
        (vec![delete("abc"), delete("abc")], false),
        (vec![delete(all()), delete(KeyRange::prefix("a"))], false),
        (vec![put("abc"), Get::new("abc").into()], false),
        // A nested put is one more put of whatever branch it is in.
        (vec![put("abc"), fine()], true),
        (vec![fine(), put("abc")], true),
        (vec![fine(), fine()], true),
        (vec![fine(), in_else([put("abc")])], true),
        (vec![fine(), delete("abc")], true),
        (vec![nested([delete("abc")]), put("abc")], true),
        (vec![nested([put("abc"), put("abc")])], true),
        (vec![nested([nested([put("abc")])]), put("abc")], true),
        (vec![Txn::new().and_then([put("abc")]).or_else([put("abc")]).into()], false),
        (vec![nested([delete("abc")]), nested([delete("abc")])], false),
        (vec![nested([put("abc")]), nested([put("xyz")])], false),
    ];
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for (ops, bad) in &table {
            let then = client.txn().and_then(ops.clone()).await;
            // The branch that does not run is held to the same.
            let or_else = client.txn().or_else(ops.clone()).await;
            for result in [then, or_else] {
                let why = result.err().and_then(|error| error.etcd_error());
                assert_eq!(why, bad.then_some(EtcdError::DuplicateKey), "{ops:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_txn_has_room_for_128_operations_nested_ones_counted() {
    let puts = |count: usize| (0..count).map(|n| Op::from(Put::new(format!("k{n:03}"), "")));
    let compares = |count: usize| (0..count).map(|_| Compare::missing("k"));
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let too_many = EtcdError::TooManyOps;
        refused(client.txn().when(compares(129)).await, too_many);
        refused(client.txn().and_then(puts(129)).await, too_many);
        refused(client.txn().or_else(puts(129)).await, too_many);
        refused(client.txn().and_then([nested(puts(129))]).await, too_many);
        // What contains them takes one place.
        refused(client.txn().and_then([nested(puts(128))]).await, too_many);
        refused(client.txn().and_then([nested([in_else(puts(127))])]).await, too_many);
        assert_eq!(client.count(KeyRange::all()).await.unwrap().count, 0);

        client.txn().when(compares(128)).and_then(puts(128)).await.unwrap();
        client.txn().and_then([nested(puts(127))]).await.unwrap();
        assert_eq!(client.count(KeyRange::all()).await.unwrap().count, 128);

        // A server that is told to take more does.
        let (_server, client) = start_with(&server, &["--max-txn-ops=200"]).await;
        client.txn().and_then(puts(200)).await.unwrap();
        refused(client.txn().and_then(puts(201)).await, too_many);
    })
    .await;
}

#[tokio::test]
async fn each_relation_holds_for_exactly_the_keys_it_should() {
    let k = "k";
    #[rustfmt::skip]
    let table = [
        // k is at create 2, mod 4, version 3, value "v3", without a lease; l came at 5
        (Compare::value(k).equal("v3"), true),
        (Compare::value(k).equal("v"), false),
        (Compare::value(k).not_equal("v"), true),
        (Compare::value(k).greater("v2"), true),
        (Compare::value(k).less("v30"), true),
        (Compare::value(k).less("v3"), false),
        (Compare::version(k).equal(3), true),
        (Compare::version(k).greater(2), true),
        (Compare::version(k).less(3), false),
        (Compare::version(k).not_equal(3), false),
        (Compare::create_revision(k).equal(2), true),
        (Compare::create_revision(k).less(2), false),
        (Compare::mod_revision(k).equal(4), true),
        (Compare::mod_revision(k).greater(3), true),
        (Compare::lease(k).equal(None), true),
        (Compare::lease(k).greater(None), false),
        (Compare::exists(k), true),
        (Compare::missing(k), false),
        // A key that is not there: all numbers are 0, and no value compares.
        (Compare::missing("none"), true),
        (Compare::exists("none"), false),
        (Compare::create_revision("none").equal(0), true),
        (Compare::mod_revision("none").less(1), true),
        (Compare::lease("none").equal(None), true),
        (Compare::value("none").equal(""), false),
        (Compare::value("none").not_equal("x"), false),
        // Ranges: each key must fit, and no key is judged as one that is missing.
        (Compare::create_revision(KeyRange::all()).less(6), true),
        (Compare::create_revision(KeyRange::all()).less(5), false),
        (Compare::create_revision(KeyRange::all()).greater(1), true),
        (Compare::version(KeyRange::prefix("k")).equal(3), true),
        (Compare::version(KeyRange::all()).equal(3), false),
        (Compare::value(KeyRange::starting_at("k")).greater("v"), true),
        (Compare::value(KeyRange::span("k", "l")).equal("v3"), true),
        (Compare::exists(KeyRange::span("x", "z")), false),
        (Compare::missing(KeyRange::span("x", "z")), true),
        (Compare::create_revision(KeyRange::starting_at("x")).equal(0), true),
    ];
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for value in ["v1", "v2", "v3"] {
            client.put(k, value).await.unwrap();
        }
        client.put("l", "w").await.unwrap();
        for (compare, holds) in table.clone() {
            let answer = client.txn().when([compare.clone()]).await.unwrap();
            assert_eq!(answer.succeeded, holds, "{compare:?}");
        }
        // All of several must hold.
        let both = [Compare::exists("k"), Compare::missing("l")];
        assert!(!client.txn().when(both).await.unwrap().succeeded);
        let lease = client.lease_grant(MINUTE).await.unwrap().id;
        client.put("leased", "").lease(lease).await.unwrap();
        let its = Compare::lease("leased").equal(lease);
        assert!(client.txn().when([its]).await.unwrap().succeeded);
    })
    .await;
}

#[tokio::test]
async fn a_range_compare_fails_for_one_key_that_differs() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let first = client.put("/a/1", "").await.unwrap().header.revision;
        client.put("/a/2", "").await.unwrap();
        let only = |prefix| Compare::create_revision(KeyRange::prefix(prefix)).equal(first);
        assert!(!client.txn().when([only("/a/")]).await.unwrap().succeeded);
        client.delete("/a/2").await.unwrap();
        assert!(client.txn().when([only("/a/")]).await.unwrap().succeeded);
    })
    .await;
}

/// The answers of nested txns, innermost last.
fn path(mut txn: TxnResponse) -> Vec<bool> {
    let mut path = vec![txn.succeeded];
    while let Some(OpResponse::Txn(inner)) = txn.responses.pop() {
        path.push(inner.succeeded);
        txn = inner;
    }
    path
}

#[tokio::test]
async fn nested_txns_run_the_branches_their_own_conditions_choose() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        // Every path through four levels of then and else.
        for choice in 0..16u8 {
            let wanted: Vec<_> = (0..4).map(|level| choice >> level & 1 == 1).collect();
            let leaf = format!("leaf/{choice}");
            let mut inner: Op = Put::new(leaf.clone(), "").into();
            for holds in wanted.iter().rev() {
                let compare =
                    if *holds { Compare::missing("never") } else { Compare::exists("never") };
                let txn = Txn::new().when([compare]);
                let other = put("wrong");
                inner = match holds {
                    true => txn.and_then([inner]).or_else([other]).into(),
                    false => txn.and_then([other]).or_else([inner]).into(),
                };
            }
            let answer = client.execute(inner).await.unwrap().into_txn().unwrap();
            assert_eq!(path(answer), wanted);
            assert_eq!(client.count(leaf).await.unwrap().count, 1);
        }
        assert_eq!(client.count("wrong").await.unwrap().count, 0);

        let both = client.txn().and_then([put("top"), nested([put("below")])]).await.unwrap();
        assert!(matches!(both.responses[..], [OpResponse::Put(_), OpResponse::Txn(_)]), "{both:?}");
        let below = client.get("below").await.unwrap().into_kv().unwrap();
        assert_eq!(below.mod_revision, both.header.revision);
    })
    .await;
}

#[tokio::test]
async fn only_a_txn_that_changes_something_moves_the_revision() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let start = client.put("k", "").await.unwrap().header.revision;
        let read = client.txn().and_then([Get::new("k")]).await.unwrap();
        assert_eq!(read.header.revision, start);
        let nothing = client.txn().and_then([delete("none")]).await.unwrap();
        assert_eq!(nothing.header.revision, start);
        let other = client.txn().when([Compare::missing("k")]).and_then([put("x")]).await.unwrap();
        assert_eq!((other.succeeded, other.header.revision), (false, start));
        // Put and deleted, and put: one revision for all of it.
        let change = client.txn().and_then([delete("k"), put("l"), put("m")]).await.unwrap();
        assert_eq!(change.header.revision, start.next());
        assert_eq!(revision(&client).await, start.next());
    })
    .await;
}

#[tokio::test]
async fn a_compare_and_the_header_speak_of_the_same_revision() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for n in 0..20 {
            let key = format!("k{n}");
            // Read-only, so that the server answers it without a log entry.
            let txn = client.txn().when([Compare::missing(key.clone())]);
            let txn = txn.and_then([Get::new(key.clone())]);
            let (put, txn) = tokio::join!(client.put(key, ""), txn);
            let (put, txn) = (put.unwrap().header.revision, txn.unwrap());
            assert_eq!(txn.succeeded, txn.header.revision < put, "put {put}, {txn:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_txn_with_a_read_that_cannot_be_fails_whole() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for _ in 0..5 {
            client.put("k", "").await.unwrap();
        }
        let start = revision(&client).await;
        client.compact(4.into()).await.unwrap();
        for (at, why) in [(3, EtcdError::Compacted), (1000, EtcdError::FutureRevision)] {
            let get = || Op::from(Get::new("k").revision(at.into()));
            let ops = [[get(), put("x")], [put("x"), get()], [put("x"), nested([get()])]];
            for ops in ops {
                refused(client.txn().and_then(ops).await, why);
            }
            let past = client.txn().and_then([get()]).await;
            refused(past, why);
        }
        assert_eq!(revision(&client).await, start);
        assert_eq!(client.count("x").await.unwrap().count, 0);
        // The branch that is not taken asks nothing.
        let compacted = Get::new("k").revision(3.into());
        client.txn().and_then([put("x")]).or_else([compacted]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_write_to_a_dead_member_fails_in_time_and_is_not_seen_elsewhere() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        let dead = Client::connect([cluster.member(0).endpoint()]).await.unwrap();
        dead.put("warm", "").await.unwrap();
        cluster.kill(0).unwrap();
        cluster.leader().await.unwrap();
        let txn = dead.txn().and_then([put("k")]).timeout(Duration::from_millis(300));
        let error = txn.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let alive = Client::connect([cluster.member(1).endpoint()]).await.unwrap();
        assert_eq!(alive.count("k").await.unwrap().count, 0);
    })
    .await;
}

#[tokio::test]
async fn read_only_txns_wait_for_a_restart_as_reads_do() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 1).await;
        client.put("k", "v").await.unwrap();
        cluster.kill(0).unwrap();
        let get = || Op::from(Get::new("k"));
        let (plain, inside, empty, restart) = tokio::join!(
            client.txn().and_then([get()]).or_else([get()]).into_future(),
            client.txn().and_then([nested([get(), in_else([get()])])]).into_future(),
            client.txn().into_future(),
            cluster.restart(0),
        );
        restart.unwrap();
        for txn in [plain, inside, empty] {
            assert!(txn.unwrap().succeeded);
        }
    })
    .await;
}

#[tokio::test]
async fn a_read_only_txn_leaves_a_frozen_member_and_a_writing_one_does_not() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        // A connection to each.
        for _ in 0..6 {
            client.put("k", "v").await.unwrap();
        }
        let frozen = (cluster.leader().await.unwrap() + 1) % 3;
        cluster.pause(frozen).unwrap();
        for _ in 0..6 {
            client.txn().and_then([Get::new("k")]).await.unwrap();
        }
        let only = Client::connect([cluster.member(frozen).endpoint()]).await.unwrap();
        let txn = only.txn().and_then([put("late")]).timeout(Duration::from_secs(1));
        let error = txn.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
        assert!(error.may_have_been_applied() && !error.is_retryable());
    })
    .await;
}

/// etcd before 3.5.5 dies of a read-only txn that is cancelled in the middle (its issue 14110).
#[tokio::test]
async fn a_read_only_txn_that_is_given_up_kills_no_server() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        for batch in 0..100 {
            let puts = (0..100).map(|n| Put::new(format!("k/{batch}-{n}"), "v"));
            client.txn().and_then(puts).await.unwrap();
        }
        let look = || Get::new(KeyRange::prefix("k/")).first(SortBy::CreateRevision).limit(30);
        for hundred_micros in 0..150 {
            let patience = Duration::from_micros(hundred_micros * 100);
            let read = client.txn().and_then([look(), look()]).into_future();
            // Whether it was fast enough does not matter.
            let _ = tokio::time::timeout(patience, read).await;
        }
        client.put("still", "there").await.unwrap();
        assert!(server.cluster().is_none_or(|cluster| cluster.member(0).is_running()));
    })
    .await;
}
