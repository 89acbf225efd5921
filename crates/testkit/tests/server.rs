//! The servers that tests run on are the same to a test, whatever they are.

use std::{net::TcpStream, time::Duration};

use tenure_testkit::{Call, Playground, Server, TestServer, eventually, on_each_server};
use tokio::runtime;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn each_kind_of_server_serves_and_counts_alike() {
    on_each_server(async |server| {
        let server = TestServer::builder(&server).fast(true).start().await.unwrap();
        let client = server.client().await.unwrap();
        assert_eq!((server.kv_calls().await, server.calls(Call::Watch).await), (0, 0));
        client.put("key", "value").await.unwrap();
        client.get("key").await.unwrap();
        client.delete("key").await.unwrap();
        client.txn().await.unwrap();
        assert_eq!((server.kv_calls().await, server.calls(Call::Put).await), (4, 1));

        let watches = [client.watch("a").await.unwrap(), client.watch("b").await.unwrap()];
        let counts = (server.watches().await, server.watch_streams().await);
        assert_eq!((counts, server.calls(Call::Watch).await), ((2, 1), 1));
        drop(watches);
        eventually(SOON, "the watches end", async || {
            (server.watches().await, server.watch_streams().await) == (0, 0)
        })
        .await;

        let lease = client.lease_grant(SOON).await.unwrap();
        assert_eq!(server.renewals().await, 0);
        client.lease_keep_alive_once(lease.id).await.unwrap();
        assert_eq!((server.renewals().await, server.calls(Call::LeaseKeepAlive).await), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_restart_leaves_the_data() {
    on_each_server(async |server| {
        let server = TestServer::builder(&server).fast(true).start().await.unwrap();
        let client = server.client().await.unwrap();
        client.put("key", "value").await.unwrap();
        server.restart().await.unwrap();
        assert_eq!(client.count("key").await.unwrap().count, 1);
    })
    .await;
}

#[tokio::test]
async fn flags_are_obeyed_or_refused_by_name() {
    on_each_server(async |kind| {
        let builder = TestServer::builder(&kind).fast(true).flag("--max-txn-ops=2");
        let server = builder.start().await.unwrap();
        let client = server.client().await.unwrap();
        let three = ["a", "b", "c"].map(|key| tenure::Put::new(key, ""));
        let refused = client.txn().and_then(three).await.unwrap_err();
        assert_eq!(refused.etcd_error(), Some(tenure::EtcdError::TooManyOps));

        let unknown = TestServer::builder(&kind).flag("--no-such-flag=1").start().await;
        let text = unknown.unwrap_err().to_string();
        // etcd says it, and then all the flags there are.
        assert!(text.contains("no-such-flag") || server.cluster().is_some(), "{text}");
    })
    .await;
}

#[tokio::test]
async fn an_embedded_server_serves_while_the_thread_that_started_it_is_blocked() {
    for kind in [Server::Embedded, Server::InProcess] {
        let server = TestServer::builder(&kind).start().await.unwrap();
        let client = server.client().await.unwrap();
        let elsewhere = std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(client.put("key", "value").into_future()).is_ok()
        });
        assert!(elsewhere.join().unwrap());
    }
}

#[tokio::test]
async fn an_embedded_server_ends_when_it_is_dropped() {
    let server = TestServer::start().await.unwrap();
    let address = server.endpoint().replace("http://", "");
    TcpStream::connect(&address).unwrap();
    drop(server);
    eventually(SOON, "nobody listens", async || TcpStream::connect(&address).is_err()).await;
}

#[tokio::test]
async fn two_playgrounds_at_once_are_two() {
    if std::env::var_os("TENURE_ENDPOINTS").is_some() {
        return;
    }
    let (one, two) = (Playground::new().await.unwrap(), Playground::new().await.unwrap());
    assert_ne!(one.endpoints(), two.endpoints());
}
