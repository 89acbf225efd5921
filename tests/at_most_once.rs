//! A write is sent at most once, unless nothing reached a server; and an error says which it was.

#[path = "support/fake.rs"]
#[allow(dead_code, reason = "other test files use the rest")]
mod fake;
#[path = "support/start.rs"]
mod start;
#[path = "support/unanswered.rs"]
mod unanswered;

use std::{collections::HashMap, future::IntoFuture, time::Duration};

use fake::{Answer, Fake};
use start::{behind_a_proxy, cluster, start};
use tenure::{Client, Compare, Error, ErrorKind, KeyRange, Put};
use tenure_testkit::{
    Call, Direction, Fault, Proxy, Server, eventually, on_each_etcd, on_each_listener,
};
use unanswered::Unanswered;

/// Long for what takes milliseconds: only shows that it ends.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(500);

async fn connect(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Client {
    Client::connect(endpoints).await.unwrap()
}

/// The next of a sequence without a pattern, the same in each run.
fn scramble(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// What became of each put of a new key, as its error tells it.
#[derive(Default)]
struct Told(HashMap<String, Option<Error>>);

impl Told {
    /// Nothing was put twice, what was acknowledged is there, what surely failed is not.
    async fn check(&self, client: &Client) {
        let stored = client.get(KeyRange::prefix("put/")).await.unwrap().kvs;
        let stored: HashMap<_, _> =
            stored.iter().map(|kv| (std::str::from_utf8(&kv.key).unwrap(), kv)).collect();
        assert!(stored.values().all(|kv| kv.version == 1), "a put was applied twice");
        for (key, error) in &self.0 {
            let is_there = stored.contains_key(&key[..]);
            match error {
                None => assert!(is_there, "{key} is lost"),
                Some(error) if error.may_have_been_applied() => {
                    assert!(!error.is_retryable(), "{error:?}");
                }
                Some(error) => assert!(!is_there, "{key} is there: {error:?}"),
            }
        }
    }

    fn count(&self, of: impl Fn(Option<&Error>) -> bool) -> usize {
        self.0.values().filter(|error| of(error.as_ref())).count()
    }
}

#[tokio::test]
async fn no_put_is_applied_twice_on_connections_that_are_cut_anywhere() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let (mut told, mut random) = (Told::default(), 7);
        for number in 0..300 {
            proxy.cut_after(scramble(&mut random) % 400);
            let key = format!("put/{number}");
            let put = client.put(key.clone(), "value").timeout(Duration::from_secs(5));
            told.0.insert(key, put.await.err());
        }
        proxy.pass();
        told.check(&direct).await;
        let unsure = told.count(|error| error.is_some_and(Error::may_have_been_applied));
        let done = told.count(|error| error.is_none());
        println!("{done} done, {unsure} unsure, of {}", told.0.len());
        assert!(unsure > 0 && done > 30, "{done} done, {unsure} unsure");
    })
    .await;
}

#[tokio::test]
async fn no_put_is_applied_twice_while_connections_are_reset_all_the_time() {
    on_each_etcd(async |etcd| {
        let (cluster, direct) = cluster(&etcd, 3).await;
        let mut proxies = Vec::new();
        for endpoint in cluster.endpoints() {
            proxies.push(Proxy::start(&endpoint).await.unwrap());
        }
        let client = connect(proxies.iter().map(Proxy::endpoint)).await;
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut told = Told::default();
                    for number in 0..50 {
                        let key = format!("put/{writer}/{number}");
                        told.0.insert(key.clone(), client.put(key, "value").await.err());
                    }
                    told
                })
            })
            .collect();
        let (mut random, mut turn) = (7, 0);
        eventually(PATIENCE, "all puts end", async || {
            proxies[turn % 3].cut_after(scramble(&mut random) % 1000);
            turn += 1;
            writers.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        for writer in writers {
            writer.await.unwrap().check(&direct).await;
        }
    })
    .await;
}

#[tokio::test]
async fn ten_puts_of_one_key_on_dropped_connections_make_ten_versions_at_most() {
    on_each_listener(async |server| {
        let (_server, proxy, client, _) = behind_a_proxy(&server).await;
        client.put("key", "0").await.unwrap();
        for _ in 0..10 {
            let put = tokio::spawn(client.put("key", "1").into_future());
            eventually(PATIENCE, "the put ends", async || {
                proxy.reset();
                put.is_finished()
            })
            .await;
            if let Err(error) = put.await.unwrap() {
                assert!(error.may_have_been_applied() || error.is_retryable(), "{error:?}");
            }
        }
        let version = client.get("key").await.unwrap().kv().unwrap().version;
        assert!(version <= 11, "{version}");
    })
    .await;
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_is_indeterminate_and_applied_once() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        client.get("key").await.unwrap();
        proxy.blackhole(Direction::ToClient);
        let error = client.put("key", "value").timeout(SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error:?}");
        assert_eq!(error.endpoint(), Some(&proxy.endpoint()[..]));
        assert!(error.to_string().contains("may or may not be applied"), "{error}");
        let version = eventually(PATIENCE, "it was applied", async || {
            direct.get("key").await.unwrap().into_kv().map(|kv| kv.version)
        });
        assert_eq!(version.await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_txn_that_never_arrives_fails_and_is_not_seen_elsewhere() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        client.get("key").await.unwrap();
        proxy.blackhole(Direction::ToServer);
        let write = client.txn().when([Compare::missing("key")]).and_then([Put::new("key", "1")]);
        let error = write.timeout(SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error:?}");
        assert!(direct.get("key").await.unwrap().kv().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_put_whose_connection_is_refused_goes_to_another_member() {
    on_each_listener(async |server| {
        let (server, proxy, _, direct) = behind_a_proxy(&server).await;
        proxy.refuse();
        for number in 0..20 {
            // A new client each time, for which the dead endpoint is the first.
            let client = connect([proxy.endpoint(), server.endpoint()]).await;
            client.put(format!("put/{number}"), "value").await.unwrap();
        }
        let stored = direct.get(KeyRange::prefix("put/")).await.unwrap().kvs;
        assert_eq!(stored.len(), 20);
        assert!(stored.iter().all(|kv| kv.version == 1));
    })
    .await;
}

#[tokio::test]
async fn a_put_that_finds_no_connection_surely_failed() {
    let refused = Proxy::start("127.0.0.1:1").await.unwrap();
    refused.refuse();
    let nowhere = Unanswered::start().await;
    for endpoint in [refused.endpoint(), nowhere.endpoint()] {
        let error = connect([endpoint]).await.put("key", "1").timeout(SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(!error.may_have_been_applied() && error.is_retryable());
    }
}

#[tokio::test]
async fn a_put_whose_connection_is_not_answered_goes_to_another_member() {
    on_each_listener(async |server| {
        let (server, _) = start(&server).await;
        let nowhere = Unanswered::start().await;
        let client = Client::builder([nowhere.endpoint(), server.endpoint()])
            .connect_timeout(SHORT)
            .connect()
            .await
            .unwrap();
        client.put("key", "value").await.unwrap();
        assert_eq!(client.get("key").await.unwrap().kv().unwrap().version, 1);
    })
    .await;
}

#[tokio::test]
async fn a_write_is_indeterminate_whether_its_request_or_its_answer_was_lost() {
    for server in [Server::Embedded, Server::InProcess] {
        let (server, client) = start(&server).await;
        let embedded = server.embedded().unwrap();
        let lost = [(Fault::lose_request(), None), (Fault::lose_answer(), Some(1))];
        for (fault, version) in lost {
            let calls = || server.calls(Call::Put);
            let before = calls().await;
            let lost = embedded.inject(fault.clone().on(Call::Put).times(1));
            let error = client.put("key", "value").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error:?}");
            assert!(lost.is_spent() && calls().await == before + 1, "sent once");
            // A read in the same place is only asked again.
            let _lost = embedded.inject(fault.on(Call::Range).times(1));
            let found = client.get("key").await.unwrap().into_kv();
            assert_eq!(found.map(|kv| kv.version), version);
        }
    }
}

/// Answers that leave open whether a write was applied.
const UNSURE: [Answer; 12] = [
    Answer::Status(1, "context canceled"),
    Answer::Status(4, "context deadline exceeded"),
    Answer::Status(2, "some text"),
    Answer::Status(13, "etcdserver: something new"),
    Answer::Status(14, "etcdserver: request timed out"),
    Answer::Status(14, "etcdserver: leader changed"),
    Answer::Status(14, "transport is closing"),
    Answer::Reset(h2::Reason::INTERNAL_ERROR),
    Answer::Reset(h2::Reason::CANCEL),
    Answer::Vanish,
    Answer::Goodbye(h2::Reason::NO_ERROR),
    Answer::Goodbye(h2::Reason::REFUSED_STREAM),
];

#[tokio::test]
async fn a_write_that_arrived_is_never_sent_again_whatever_the_server_says() {
    for answer in UNSURE {
        let server = Fake::start().await;
        server.answer(answer);
        // A new connection for each: on one that was just lost, the next might not arrive.
        let client = async || connect([server.endpoint()]).await;
        let error = client().await.put("key", "1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{answer:?}: {error:?}");
        let error = client().await.delete("key").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{answer:?}: {error:?}");
        let txn = client().await.txn().and_then([Put::new("key", "1")]);
        let error = txn.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{answer:?}: {error:?}");
        for method in ["Put", "DeleteRange", "Txn"] {
            assert_eq!(server.requests(method), 1, "{answer:?}: {method}");
        }
    }
}

#[tokio::test]
async fn an_answer_nobody_understands_leaves_a_write_open_and_it_is_not_sent_again() {
    for answer in [Answer::NoMessage, Answer::Garbage] {
        let server = Fake::start().await;
        server.answer(answer);
        let client = connect([server.endpoint()]).await;
        let error = client.put("key", "1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answer:?}: {error:?}");
        assert!(error.may_have_been_applied(), "{answer:?}: {error:?}");
        assert_eq!(server.requests("Put"), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_write_that_etcd_refuses_surely_failed_and_is_not_sent_again() {
    for (code, text) in [
        (9, "etcdserver: requested lease not found"),
        (8, "etcdserver: mvcc: database space exceeded"),
        (8, "etcdserver: too many requests"),
        (7, "etcdserver: permission denied"),
        (3, "etcdserver: a rule of tomorrow"),
        (12, "unknown method"),
    ] {
        let server = Fake::start().await;
        server.answer(Answer::Status(code, text));
        let error = connect([server.endpoint()]).await.put("key", "1").await.unwrap_err();
        assert!(!error.may_have_been_applied(), "{text}: {error:?}");
        assert!(error.to_string().contains(text), "{text}: {error:?}");
        assert_eq!(server.requests("Put"), 1, "{text}");
    }
}

#[tokio::test]
async fn a_stream_that_the_server_refused_unseen_is_sent_again() {
    on_each_listener(async |server| {
        let (server, _) = start(&server).await;
        let refuses = Fake::start().await;
        refuses.answer(Answer::Reset(h2::Reason::REFUSED_STREAM));
        let client = connect([refuses.endpoint(), server.endpoint()]).await;
        client.put("key", "value").await.unwrap();
        assert_eq!(refuses.requests("Put"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_read_goes_on_where_a_write_must_not() {
    on_each_listener(async |server| {
        let (server, _) = start(&server).await;
        for answer in UNSURE.into_iter().filter(may_pass) {
            let unsure = Fake::start().await;
            unsure.answer(answer);
            let client = connect([unsure.endpoint(), server.endpoint()]).await;
            client.get("key").await.unwrap_or_else(|error| panic!("{answer:?}: {error:?}"));
            assert_eq!(unsure.requests("Range"), 1, "{answer:?}");
        }
    })
    .await;
}

/// Codes that no server of etcd sends in passing are an answer to a read.
fn may_pass(answer: &Answer) -> bool {
    !matches!(answer, Answer::Status(2 | 13, _))
}
