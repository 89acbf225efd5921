//! Endpoints that change while the client runs.

use std::{collections::BTreeSet, future::IntoFuture, time::Duration};

use tenure::{Client, ErrorKind};
use tenure_testkit::{Cluster, eventually, on_each_etcd};
use tokio::time::timeout;

use crate::{
    PATIENCE, connect,
    fake::{Fake, Member},
    start, three,
};

#[tokio::test]
async fn endpoints_set_before_the_only_one_dies_are_used() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let client = connect([cluster.endpoints()[0].clone()]).await;
        client.get("a").await.unwrap();
        client.set_endpoints(cluster.endpoints()).await.unwrap();
        cluster.kill(0).unwrap();
        client.get("a").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn endpoints_set_after_the_only_one_died_rescue_calls_in_flight_too() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let client = connect([cluster.endpoints()[0].clone()]).await;
        client.get("a").await.unwrap();
        cluster.kill(0).unwrap();
        let in_flight = tokio::spawn(client.get("a").timeout(PATIENCE).into_future());
        let error = client.get("a").timeout(Duration::from_millis(300)).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        client.set_endpoints(cluster.endpoints()).await.unwrap();
        client.get("a").await.unwrap();
        in_flight.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn all_endpoints_are_replaced_when_the_old_one_has_no_quorum() {
    on_each_etcd(async |etcd| {
        let cluster = start(Cluster::builder(&etcd).members(3).proxied_peers(true)).await;
        let [first, others @ ..] = &cluster.endpoints()[..] else { panic!("three members") };
        let client = connect([first]).await;
        client.get("a").await.unwrap();
        cluster.isolate(0).unwrap();
        let error = client.get("a").timeout(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        client.set_endpoints(others).await.unwrap();
        client.get("a").await.unwrap();
        assert_eq!(client.endpoints(), others);
    })
    .await;
}

#[tokio::test]
async fn a_put_right_after_new_endpoints_succeeds() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        for _ in 0..20 {
            let client = connect([cluster.endpoints()[0].clone()]).await;
            client.set_endpoints([cluster.endpoints()[1].clone()]).await.unwrap();
            client.put("a", "1").await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_given_twice_counts_once_and_is_left_when_it_dies() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let [first, second, _] = &cluster.endpoints()[..] else { panic!("three members") };
        let client = connect([first, first, second]).await;
        assert_eq!(client.endpoints(), [first.clone(), second.clone()]);
        client.set_endpoints([first, second, first]).await.unwrap();
        assert_eq!(client.endpoints(), [first.clone(), second.clone()]);
        cluster.kill(0).unwrap();
        for _ in 0..20 {
            client.get("a").await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn bad_endpoints_change_nothing() {
    let client = connect(["127.0.0.1:1"]).await;
    for bad in [vec![], vec!["ftp://x"], vec!["127.0.0.1:2", ""]] {
        let error = client.set_endpoints(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(client.endpoints(), ["http://127.0.0.1:1"]);
}

#[tokio::test]
async fn sync_takes_the_endpoints_from_the_cluster() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let client = connect([cluster.endpoints()[0].clone()]).await;
        client.sync().await.unwrap();
        let found: BTreeSet<_> = client.endpoints().into_iter().collect();
        assert_eq!(found, cluster.endpoints().into_iter().collect());
        cluster.kill(0).unwrap();
        client.get("a").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn sync_leaves_out_a_member_that_was_never_started() {
    on_each_etcd(async |etcd| {
        let cluster = start(Cluster::builder(&etcd)).await;
        let added = ["member", "add", "new", "--learner", "--peer-urls=http://127.0.0.1:1"];
        let output = cluster.etcdctl(&added).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let client = connect(cluster.endpoints()).await;
        client.sync().await.unwrap();
        assert_eq!(client.endpoints(), cluster.endpoints());
    })
    .await;
}

#[tokio::test]
async fn sync_leaves_out_unnamed_members_and_learners() {
    let server = Fake::start().await;
    let urls = |port: u16| vec![format!("http://127.0.0.1:{port}")];
    server.members([
        Member { name: "a", urls: urls(1), learner: false },
        Member { name: "", urls: urls(2), learner: false },
        Member { name: "b", urls: urls(3), learner: true },
        Member { name: "c", urls: [urls(4), urls(5)].concat(), learner: false },
    ]);
    let client = connect([server.endpoint()]).await;
    client.sync().await.unwrap();
    assert_eq!(
        client.endpoints(),
        ["http://127.0.0.1:1", "http://127.0.0.1:4", "http://127.0.0.1:5"]
    );
}

#[tokio::test]
async fn sync_with_a_cluster_that_names_nobody_changes_nothing() {
    let server = Fake::start().await;
    let client = connect([server.endpoint()]).await;
    client.sync().await.unwrap();
    assert_eq!(client.endpoints(), [server.endpoint()]);
}

#[tokio::test]
async fn endpoints_change_under_load_without_a_failed_call() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let client = connect(cluster.endpoints()).await;
        let load: Vec<_> = (0..4).map(|_| tokio::spawn(reads(client.clone()))).collect();
        for turn in 0..60 {
            let endpoint = cluster.endpoints()[turn % 3].clone();
            client.set_endpoints([endpoint]).await.unwrap();
        }
        for task in load {
            timeout(PATIENCE, task).await.expect("it ends").unwrap();
        }
        eventually(PATIENCE, "writes go through", async || client.put("a", "1").await.is_ok())
            .await;
    })
    .await;
}

async fn reads(client: Client) {
    for _ in 0..100 {
        client.get("a").await.unwrap();
    }
}
