//! Which members are called.

use std::{collections::HashMap, future::IntoFuture, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tenure::Client;
use tenure_testkit::{eventually, on_each_etcd};
use tokio::time::timeout;

use crate::{PATIENCE, beginning_with, connect, fake::Fake, three, visit_all};

#[tokio::test]
async fn members_that_serve_are_called_in_turn() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let client = connect(cluster.endpoints()).await;
        let mut calls = HashMap::<_, u32>::new();
        for _ in 0..300 {
            *calls.entry(client.get("a").await.unwrap().header.member_id).or_default() += 1;
        }
        assert_eq!(calls.values().copied().collect::<Vec<_>>(), [100, 100, 100]);
    })
    .await;
}

#[tokio::test]
async fn no_call_fails_beside_a_dead_endpoint() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        cluster.kill(1).unwrap();
        cluster.leader().await.unwrap();
        let endpoints = cluster.endpoints();
        let client = connect([endpoints[1].clone(), endpoints[0].clone()]).await;
        for _ in 0..200 {
            client.get("a").await.unwrap();
            client.put("a", "1").await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_frozen_member_costs_the_calls_it_has_and_no_later_ones() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let frozen = (cluster.leader().await.unwrap() + 1) % 3;
        let client = connect(beginning_with(cluster.endpoints(), frozen)).await;
        visit_all(&client).await;
        cluster.pause(frozen).unwrap();
        for _ in 0..30 {
            client.get("a").await.unwrap();
        }
        cluster.resume(frozen).unwrap();
        cluster.wait_ready().await.unwrap();
        let alone = connect([cluster.endpoints()[frozen].clone()]).await;
        let member_id = alone.get("a").await.unwrap().header.member_id;
        eventually(PATIENCE, "it is called again", async || {
            client.get("a").await.unwrap().header.member_id == member_id
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn writes_alone_find_out_that_a_member_is_frozen() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let frozen = (cluster.leader().await.unwrap() + 1) % 3;
        let client = connect(beginning_with(cluster.endpoints(), frozen)).await;
        visit_all(&client).await;
        cluster.pause(frozen).unwrap();
        let mut unsure = 0;
        for number in 0..12 {
            let put = client.put(format!("key/{number}"), "1").timeout(Duration::from_secs(4));
            match put.await {
                Ok(_) => {}
                Err(error) if error.may_have_been_applied() => unsure += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(unsure, 1, "only the first write lands there");
    })
    .await;
}

#[tokio::test]
async fn callers_in_a_hurry_find_out_that_a_member_is_frozen() {
    /// Shorter than an attempt.
    const HURRY: Duration = Duration::from_millis(400);
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let frozen = (cluster.leader().await.unwrap() + 1) % 3;
        let own: fn(Client) -> BoxFuture<'static, bool> =
            |client| client.get("a").timeout(HURRY).into_future().map(|got| got.is_ok()).boxed();
        let dropped: fn(Client) -> BoxFuture<'static, bool> =
            |client| timeout(HURRY, client.get("a").into_future()).map(|got| got.is_ok()).boxed();
        for get in [own, dropped] {
            let client = connect(beginning_with(cluster.endpoints(), frozen)).await;
            visit_all(&client).await;
            cluster.pause(frozen).unwrap();
            let mut failed = 0;
            for _ in 0..60 {
                failed += usize::from(!get(client.clone()).await);
            }
            assert!((1..=5).contains(&failed), "{failed} of 60 failed");
            cluster.resume(frozen).unwrap();
            cluster.wait_ready().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_says_goodbye_on_each_connection_fails_no_call() {
    let server = Fake::start().await;
    server.goodbye_after(3);
    let client = connect([server.endpoint()]).await;
    for _ in 0..200 {
        client.get("a").await.unwrap();
        client.put("a", "1").await.unwrap();
    }
    assert_eq!(server.requests("Put"), 200);
    assert!(server.connections() >= 100, "{} connections", server.connections());
}
