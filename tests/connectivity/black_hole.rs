//! A member that swallows everything: it is connected, and nothing comes back.

use std::{future::IntoFuture, time::Duration};

use tenure::Client;
use tenure_testkit::{
    Cluster, Direction, Proxy, TestServer, eventually, on_each_etcd, on_each_listener,
};
use tokio::time::timeout;

use crate::{PATIENCE, READS, WRITES, connect, next_put, start, succeeds_soon, three, visit_all};

/// Longer than any test: no ping ever finds the black hole.
const NEVER: Duration = Duration::from_secs(3600);

/// A cluster whose first member is behind a proxy, and the endpoints in that order.
async fn proxied(cluster: &Cluster) -> (Proxy, Vec<String>) {
    let mut endpoints = cluster.endpoints();
    let proxy = Proxy::start(&endpoints[0]).await.unwrap();
    endpoints[0] = proxy.endpoint();
    (proxy, endpoints)
}

#[tokio::test]
async fn a_write_leaves_a_black_hole_without_pings() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        for (name, write) in WRITES {
            let (proxy, endpoints) = proxied(&cluster).await;
            let client = Client::builder(endpoints).keep_alive_time(NEVER).connect().await.unwrap();
            visit_all(&client).await;
            proxy.blackhole(Direction::Both);
            succeeds_soon(&client, name, write).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_read_fails_in_a_black_hole_without_pings() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        for (name, read) in READS {
            let (proxy, endpoints) = proxied(&cluster).await;
            let client = Client::builder(endpoints).keep_alive_time(NEVER).connect().await.unwrap();
            visit_all(&client).await;
            proxy.blackhole(Direction::Both);
            for _ in 0..6 {
                read(client.clone()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_member_that_was_a_black_hole_is_called_again() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let (proxy, endpoints) = proxied(&cluster).await;
        let client = connect(endpoints).await;
        visit_all(&client).await;
        proxy.blackhole(Direction::Both);
        for _ in 0..6 {
            client.get("a").await.unwrap();
        }
        proxy.pass();
        let heard = proxy.bytes_to_client();
        eventually(PATIENCE, "calls go through the proxy again", async || {
            client.get("a").await.unwrap();
            proxy.bytes_to_client() > heard + 10_000
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_watch_leaves_a_black_hole_and_comes_back() {
    on_each_etcd(async |etcd| {
        let quick_pings = "--grpc-keepalive-min-time=100ms";
        let cluster = start(Cluster::builder(&etcd).members(2).flag(quick_pings)).await;
        let [first, second] = &cluster.endpoints()[..] else { panic!("two members") };
        let proxies = [Proxy::start(first).await.unwrap(), Proxy::start(second).await.unwrap()];
        let client = Client::builder(proxies.iter().map(Proxy::endpoint))
            .keep_alive_time(Duration::from_millis(500))
            .keep_alive_timeout(Duration::from_millis(500))
            .connect()
            .await
            .unwrap();
        let mut watch = client.watch("a").require_leader().await.unwrap();
        let other = connect(cluster.endpoints()).await;
        for proxy in proxies.iter().chain(&proxies) {
            proxy.blackhole(Direction::Both);
            other.put("a", "1").await.unwrap();
            next_put(&mut watch, "a").await;
            proxy.pass();
        }
    })
    .await;
}

#[tokio::test]
async fn closing_ends_a_call_into_a_black_hole() {
    on_each_listener(async |server| {
        let server = TestServer::builder(&server).fast(true).start().await.unwrap();
        let proxy = Proxy::start(&server.endpoint()).await.unwrap();
        proxy.blackhole(Direction::Both);
        let client = connect([proxy.endpoint()]).await;
        let call = tokio::spawn(client.get("a").into_future());
        eventually(PATIENCE, "it dials", async || proxy.accepted() > 0).await;
        client.close().await;
        let ended = timeout(Duration::from_secs(5), call).await.expect("it ends").unwrap();
        assert_eq!(ended.unwrap_err().kind(), tenure::ErrorKind::Closed);
    })
    .await;
}
