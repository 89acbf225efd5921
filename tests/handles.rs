//! Handles: where they may be used from, what they print, and how they end.

use std::{
    fmt::Debug,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use tenure::{
    Client, ClientBuilder, Clock, Compare, Delete, ErrorKind, Get, LeaseState, LossReason, Op, Put,
    Txn,
    actor::{self, Execute},
};
use tenure_testkit::{
    Direction, Proxy, Server, TestServer, eventually, on_each_listener, on_each_server,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::RwLock,
    task::LocalSet,
    time::timeout,
};

#[path = "support/start.rs"]
mod start;
use start::{MINUTE, SOON};

/// Written by the tests that count threads: no other test may have a client meanwhile.
static THREADS: RwLock<()> = RwLock::const_new(());

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs `test` on each server, without a runtime around it: the servers have their own.
fn without_a_runtime(test: impl Fn(&TestServer)) {
    for server in Server::all().unwrap() {
        println!("on {server}:");
        let keeper = Runtime::new().unwrap();
        let _clients = keeper.block_on(THREADS.read());
        test(&keeper.block_on(start(&server)));
    }
}

/// Without a client, which would have a thread.
async fn start(server: &Server) -> TestServer {
    TestServer::builder(server).fast(true).start().await.unwrap()
}

async fn put_and_get(client: &Client, key: &'static str) {
    client.put(key, "v").await.unwrap();
    assert_eq!(client.get(key).await.unwrap().kv().unwrap().value, "v");
}

/// Waits for a future on this thread, with nothing of tokio around.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    assert!(tokio::runtime::Handle::try_current().is_err(), "there is a runtime");
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn every_public_type_may_cross_threads_and_be_pinned_anywhere() {
    fn shared<T: Send + Sync + Unpin + 'static>() {}
    fn shared_unsized<T: Send + Sync + ?Sized + 'static>() {}
    fn future<T: Send + Unpin + 'static>() {}
    fn answer<T: IntoFuture<IntoFuture: Send + Unpin + 'static> + Send + Sync + Unpin + 'static>() {
    }
    use tenure::*;
    shared::<(Client, ClientBuilder, Clock, Error, ErrorKind, EtcdError, Tcp)>();
    shared::<(Key, Value, KeyRange, RangeEnd, KeyValue, LeaseId, Moment, Revision)>();
    shared::<(Get, Count, Put, Delete, Txn, Op, Compare, CallOptions, Via)>();
    shared::<(PutValue, KeepValue, SortBy, Order, Event, EventKind)>();
    shared::<(Comparison<Value>, Comparison<i64>, Comparison<Option<LeaseId>>)>();
    shared::<(Header, GetResponse, CountResponse, PutResponse, DeleteResponse)>();
    shared::<(TxnResponse, OpResponse, CompactResponse)>();
    shared::<(KeepAlive, KeptLease, LeaseState, LossReason)>();
    shared::<(LeaseGrant, LeaseList, LeaseRevoked, LeaseTimeToLive)>();
    shared::<(WatchStream, WatchResponse, WatchState)>();
    shared::<(actix::Addr<actor::KvActor>, Execute)>();
    answer::<Get<Via>>();
    answer::<Count<Via>>();
    answer::<Put<Via>>();
    answer::<Delete<Via>>();
    answer::<Txn<Via>>();
    answer::<Compact>();
    answer::<Grant>();
    answer::<TimeToLive>();
    answer::<WatchRequest>();
    // A call on its way belongs to one task.
    future::<(Reply<GetResponse>, Reply<CountResponse>, Reply<PutResponse>)>();
    future::<(Reply<DeleteResponse>, Reply<TxnResponse>)>();
    shared_unsized::<dyn Kv>();
    shared_unsized::<dyn Watch>();
    shared_unsized::<dyn Leases>();
    shared_unsized::<dyn Connector>();
    #[cfg(feature = "tls")]
    shared::<Tls>();
}

/// Never called: that it compiles is the test.
#[allow(dead_code, reason = "that it compiles is the test")]
fn the_futures_of_calls_may_cross_threads(
    client: &'static Client,
    kept: &'static tenure::KeepAlive,
) {
    fn send<T: Send + 'static>(_: T) {}
    send(client.execute(Get::new("k")));
    send(client.leases());
    send(client.sync());
    send(client.close());
    send(client.set_endpoints(["a"]));
    send(client.lease_keep_alive(kept.id()));
    send(client.lease_keep_alive_once(kept.id()));
    send(client.lease_revoke(kept.id()));
    send(kept.lost());
    send(kept.states());
    send(Client::connect(["a"]));
    send(actor::kv(client).send(Execute::new(Get::new("k"))));
}

#[track_caller]
fn hides_it(shown: &impl Debug) {
    let text = format!("{shown:?} {shown:#?}");
    assert!(!text.contains("s3cret") && !text.contains("115, 51, 99"), "{text}");
}

#[tokio::test]
async fn nothing_prints_a_password_a_token_or_a_value() {
    let proxy = Proxy::start("127.0.0.1:9").await.unwrap();
    let builder = Client::builder([proxy.endpoint()]).user("root", "s3cret");
    hides_it(&builder);
    let error = builder.request_timeout(Duration::from_millis(200)).connect().await.unwrap_err();
    hides_it(&error);
    assert!(!error.to_string().contains("s3cret"));
    let client = Client::builder([proxy.endpoint()]).max_send_bytes(10).connect().await.unwrap();
    hides_it(&client);
    hides_it(&client.put("key", "s3cret"));
    let error = client.put("key", "s3cret").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    hides_it(&error);
    hides_it(&client.watch("key"));
    let put = || Put::new("key", "s3cret");
    hides_it(&put());
    hides_it(&Compare::value("key").equal("s3cret"));
    let txn = Txn::new().when([Compare::value("key").equal("s3cret")]).and_then([put()]);
    hides_it(&Op::from(txn.clone()));
    hides_it(&Execute::new(txn));
    hides_it(&Op::from(Delete::new("key")));
    #[cfg(feature = "tls")]
    hides_it(&tenure::Tls::new().ca_pem("s3cret").identity_pem("s3cret", "s3cret"));
}

#[test]
fn a_client_outlives_the_runtime_it_was_made_on() {
    without_a_runtime(|server| {
        let first = current_thread();
        let client = first.block_on(server.client()).unwrap();
        first.block_on(put_and_get(&client, "first"));
        let mut watch = first.block_on(client.watch("third").into_future()).unwrap();
        let lease = first.block_on(client.lease_grant(MINUTE).into_future()).unwrap();
        let kept = first.block_on(client.lease_keep_alive(&lease)).unwrap();
        drop(first);
        let second = Runtime::new().unwrap();
        second.block_on(put_and_get(&client, "second"));
        drop(second);
        let third = current_thread();
        third.block_on(async {
            put_and_get(&client, "third").await;
            let change = timeout(SOON, watch.try_next()).await.unwrap().unwrap().unwrap();
            assert_eq!(change.events()[0].kv.key, "third");
            assert_eq!(client.lease_keep_alive_once(lease.id).await.unwrap(), MINUTE);
            assert_eq!(kept.state(), LeaseState::Healthy);
        });
    });
}

#[test]
fn a_client_works_without_any_runtime() {
    without_a_runtime(|server| {
        let client = block_on(server.client()).unwrap();
        block_on(async {
            let mut watch = client.watch("k").await.unwrap();
            put_and_get(&client, "k").await;
            assert_eq!(watch.try_next().await.unwrap().unwrap().events().len(), 1);
            let lease = client.lease_grant(MINUTE).await.unwrap();
            let kept = client.lease_keep_alive(lease.id).await.unwrap();
            assert!(kept.is_held());
            // A timer runs too: nobody answers here.
            let nobodys = Client::connect(["127.0.0.1:9"]).await.unwrap();
            let late = nobodys.get("k").timeout(Duration::from_millis(300)).await.unwrap_err();
            assert!(matches!(late.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{late}");
            client.close().await;
            assert_eq!(client.get("k").await.unwrap_err().kind(), ErrorKind::Closed);
        });
    });
}

#[test]
fn many_threads_may_use_one_client_at_once() {
    without_a_runtime(|server| {
        let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let client = runtime.block_on(server.client()).unwrap();
        runtime.block_on(async {
            let calls = (0..64).map(|n| {
                let client = client.clone();
                tokio::spawn(async move { client.put(format!("k{n}"), "v").await })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap().unwrap();
            }
            let all = client.count(tenure::KeyRange::all()).await.unwrap();
            assert_eq!(all.count, 64);
        });
    });
}

#[test]
fn a_local_client_lives_on_the_callers_local_set() {
    without_a_runtime(|server| {
        let builder = server.connect().local().clock(Clock::boot());
        current_thread().block_on(LocalSet::new().run_until(async {
            let client = builder.connect().await.unwrap();
            let mut watch = client.watch("k").await.unwrap();
            put_and_get(&client, "k").await;
            assert_eq!(watch.try_next().await.unwrap().unwrap().events().len(), 1);
            // Calls may come from elsewhere while the set runs.
            let elsewhere = client.clone();
            let call = tokio::task::spawn_blocking(move || {
                current_thread().block_on(elsewhere.get("k").into_future())
            });
            assert_eq!(call.await.unwrap().unwrap().count, 1);
            client.close().await;
            assert_eq!(watch.try_next().await.unwrap_err().kind(), ErrorKind::Closed);
        }));
    });
}

#[test]
fn a_client_lives_on_the_callers_arbiter_and_says_so_where_there_is_none() {
    without_a_runtime(|server| {
        let builder = || server.connect().current_arbiter();
        actix::System::new().block_on(async {
            let client = builder().connect().await.unwrap();
            put_and_get(&client, "k").await;
            let kv = actor::kv(&client);
            assert!(kv.send(Execute::new(Get::new("k"))).await.unwrap().is_ok());
            client.close().await;
        });
        // Outside, also where a System was.
        let outside = current_thread().block_on(builder().connect()).unwrap_err();
        assert_eq!(outside.kind(), ErrorKind::InvalidInput);
        assert!(outside.to_string().contains("arbiter"), "{outside}");
        let outside = std::thread::scope(|scope| {
            scope.spawn(|| block_on(builder().connect()).unwrap_err()).join().unwrap()
        });
        assert_eq!(outside.kind(), ErrorKind::InvalidInput);
    });
}

#[tokio::test]
async fn the_kv_actor_does_what_the_handle_does() {
    let _clients = THREADS.read().await;
    on_each_server(async |server| {
        let server = start(&server).await;
        let client = server.client().await.unwrap();
        let kv = actor::kv(&client);
        let put = kv.send(Execute::new(Put::new("k", "v"))).await.unwrap().unwrap();
        let revision = put.into_put().unwrap().header.revision;
        let get = kv.send(Execute::new(Get::new("k"))).await.unwrap().unwrap();
        assert_eq!(get.into_get().unwrap().kv().unwrap().mod_revision, revision);
        let txn = Txn::new().when([Compare::exists("k")]).and_then([Delete::new("k")]);
        let txn = kv.send(Execute::new(txn)).await.unwrap().unwrap().into_txn().unwrap();
        assert!(txn.succeeded);
        let bad = kv.send(Execute::new(Get::new(""))).await.unwrap().unwrap_err();
        assert_eq!(bad.kind(), ErrorKind::InvalidInput);
        // It ends with the client.
        drop(client);
        eventually(SOON, "the actor ends", async || !kv.connected()).await;
        assert!(kv.send(Execute::new(Get::new("k"))).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn closing_ends_calls_in_flight_watches_and_keep_alives() {
    let _clients = THREADS.read().await;
    on_each_listener(async |server| {
        let server = start(&server).await;
        let proxy = Proxy::start(&server.endpoint()).await.unwrap();
        let client = Client::connect([proxy.endpoint()]).await.unwrap();
        let mut watch = client.watch("k").await.unwrap();
        let mut opening = client.watch("l").open();
        let lease = client.lease_grant(MINUTE).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        let states: Vec<_> = {
            let states = kept.states();
            // Calls that reach the server, and no answers.
            proxy.blackhole(Direction::ToClient);
            let before = proxy.bytes_to_server();
            let get = tokio::spawn(client.get("k").into_future());
            let put = tokio::spawn(client.put("k", vec![0; 50_000]).into_future());
            eventually(SOON, "the put is sent", async || proxy.bytes_to_server() > before + 50_000)
                .await;
            timeout(SOON, client.close()).await.expect("close waits for nobody");
            let get = timeout(SOON, get).await.unwrap().unwrap().unwrap_err();
            assert_eq!(get.kind(), ErrorKind::Closed, "{get}");
            let put = timeout(SOON, put).await.unwrap().unwrap().unwrap_err();
            assert_eq!(put.kind(), ErrorKind::Indeterminate, "{put}");
            assert!(put.may_have_been_applied());
            timeout(SOON, states.collect()).await.unwrap()
        };
        for watch in [&mut watch, &mut opening] {
            let error = loop {
                match timeout(SOON, watch.try_next()).await.unwrap() {
                    Ok(change) => assert!(change.is_some(), "a watch ends with its reason"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            assert!(watch.try_next().await.unwrap().is_none());
        }
        assert_eq!(timeout(SOON, kept.lost()).await.unwrap(), LossReason::Closed);
        let lost = LeaseState::Lost { reason: LossReason::Closed };
        assert_eq!((kept.state(), kept.is_held()), (lost, false));
        assert_eq!(states.last(), Some(&lost));
    })
    .await;
}

#[tokio::test]
async fn a_closed_client_refuses_every_call_at_once_and_may_be_closed_again() {
    let _clients = THREADS.read().await;
    on_each_server(async |server| {
        let server = start(&server).await;
        let client = server.client().await.unwrap();
        put_and_get(&client, "k").await;
        let lease = client.lease_grant(MINUTE).await.unwrap();
        let clone = client.clone();
        clone.close().await;
        let calls = async {
            for error in [
                client.get("k").await.map(drop).unwrap_err(),
                client.put("k", "w").await.map(drop).unwrap_err(),
                client.delete("k").await.map(drop).unwrap_err(),
                client.txn().await.map(drop).unwrap_err(),
                client.compact(2.into()).await.map(drop).unwrap_err(),
                client.watch("k").await.map(drop).unwrap_err(),
                client.lease_grant(MINUTE).await.map(drop).unwrap_err(),
                client.lease_revoke(lease.id).await.map(drop).unwrap_err(),
                client.lease_time_to_live(lease.id).await.map(drop).unwrap_err(),
                client.leases().await.map(drop).unwrap_err(),
                client.lease_keep_alive(&lease).await.map(drop).unwrap_err(),
                client.lease_keep_alive_once(lease.id).await.map(drop).unwrap_err(),
                client.sync().await.unwrap_err(),
                client.set_endpoints(["127.0.0.1:2379"]).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                assert!(!error.is_retryable() && !error.may_have_been_applied(), "{error}");
            }
            client.close().await;
            clone.close().await;
        };
        timeout(SOON, calls).await.expect("nothing of a closed client hangs");
        // Nothing was written, and others go on.
        let other = server.client().await.unwrap();
        assert_eq!(other.get("k").await.unwrap().kv().unwrap().version, 1);
    })
    .await;
}

/// How many clients' threads there are in this process.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "tenure").count()
}

async fn threads_are(count: usize) {
    eventually(SOON, &format!("{count} threads"), async || threads() == count).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_thread_ends_with_the_last_handle_whatever_that_is() {
    let _no_other_clients = THREADS.write().await;
    threads_are(0).await;
    on_each_server(async |server| {
        let server = start(&server).await;
        let connect = async || {
            let client = server.client().await.unwrap();
            assert_eq!(threads(), 1);
            client
        };
        let client = connect().await;
        let clone = client.clone();
        drop(client);
        put_and_get(&clone, "k").await;
        assert_eq!(threads(), 1);
        drop(clone);
        threads_are(0).await;

        let client = connect().await;
        let mut watch = client.watch("k").await.unwrap();
        drop(client);
        let other = server.client().await.unwrap();
        other.put("k", "w").await.unwrap();
        assert_eq!(watch.try_next().await.unwrap().unwrap().events().len(), 1);
        drop(other);
        threads_are(1).await;
        drop(watch);
        threads_are(0).await;

        let client = connect().await;
        let lease = client.lease_grant(MINUTE).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        drop(client);
        assert!(kept.is_held() && threads() == 1);
        drop(kept);
        threads_are(0).await;

        let client = connect().await;
        let call = client.put("k", "x");
        drop(client);
        call.await.unwrap();
        threads_are(0).await;

        let client = connect().await;
        client.close().await;
        drop(client);
        threads_are(0).await;
        // One that never signs in, or is never connected to the end.
        let refused = ClientBuilder::user(Client::builder(["127.0.0.1:9"]), "root", "pw");
        refused.request_timeout(Duration::from_millis(200)).connect().await.unwrap_err();
        threads_are(0).await;
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_thread_ends_although_a_call_was_dropped_in_the_middle() {
    let _no_other_clients = THREADS.write().await;
    threads_are(0).await;
    on_each_listener(async |server| {
        let server = start(&server).await;
        let proxy = Proxy::start(&server.endpoint()).await.unwrap();
        let client = Client::connect([proxy.endpoint()]).await.unwrap();
        put_and_get(&client, "k").await;
        proxy.blackhole(Direction::ToClient);
        let before = proxy.bytes_to_server();
        let put = tokio::spawn(client.put("k", vec![0; 50_000]).into_future());
        let watch = tokio::spawn(client.watch("l").into_future());
        let grant = tokio::spawn(client.lease_grant(MINUTE).into_future());
        eventually(SOON, "the put is sent", async || proxy.bytes_to_server() > before + 50_000)
            .await;
        drop(client);
        assert_eq!(threads(), 1, "the calls still hold it");
        for call in [put.abort_handle(), watch.abort_handle(), grant.abort_handle()] {
            call.abort();
        }
        threads_are(0).await;
        // A client that is dropped while it connects leaves nothing behind either.
        let connecting = Client::builder([proxy.endpoint()]).user("root", "pw").connect();
        assert!(timeout(Duration::from_millis(100), connecting).await.is_err());
        threads_are(0).await;
    })
    .await;
}
