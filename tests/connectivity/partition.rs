//! A member that clients reach, and the other members do not.

use std::future::IntoFuture;

use tenure::{Client, WatchState};
use tenure_testkit::{Cluster, EtcdBinary, eventually, on_each_etcd};

use crate::{
    PATIENCE, READS, WRITES, beginning_with, connect, next_put, start, succeeds_soon, visit_all,
};

async fn partitionable(etcd: &EtcdBinary) -> Cluster {
    start(Cluster::builder(etcd).members(3).proxied_peers(true)).await
}

/// A client whose next call goes to a member that is cut off from now on.
async fn with_isolated(cluster: &Cluster, member: usize) -> Client {
    let client = connect(beginning_with(cluster.endpoints(), member)).await;
    visit_all(&client).await;
    cluster.isolate(member).unwrap();
    client
}

async fn follower(cluster: &Cluster) -> usize {
    (cluster.leader().await.unwrap() + 1) % 3
}

async fn heal(cluster: &Cluster, member: usize) {
    cluster.heal(member);
    cluster.wait_ready().await.unwrap();
}

#[tokio::test]
async fn a_write_leaves_a_member_without_a_quorum() {
    on_each_etcd(async |etcd| {
        let cluster = partitionable(&etcd).await;
        for (name, write) in WRITES {
            let member = follower(&cluster).await;
            let client = with_isolated(&cluster, member).await;
            succeeds_soon(&client, name, write).await;
            heal(&cluster, member).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_read_fails_at_a_member_without_a_quorum() {
    on_each_etcd(async |etcd| {
        let cluster = partitionable(&etcd).await;
        for (name, read) in READS {
            let member = follower(&cluster).await;
            let client = with_isolated(&cluster, member).await;
            for _ in 0..6 {
                read(client.clone()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            }
            heal(&cluster, member).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_read_fails_when_the_leader_is_cut_off() {
    on_each_etcd(async |etcd| {
        let cluster = partitionable(&etcd).await;
        let leader = cluster.leader().await.unwrap();
        let client = with_isolated(&cluster, leader).await;
        for _ in 0..6 {
            client.get("a").await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn reads_in_flight_when_the_leader_is_cut_off_are_answered() {
    on_each_etcd(async |etcd| {
        let cluster = partitionable(&etcd).await;
        let leader = cluster.leader().await.unwrap();
        let client = connect(cluster.endpoints()).await;
        visit_all(&client).await;
        let reads: Vec<_> = (0..32).map(|_| tokio::spawn(client.get("a").into_future())).collect();
        cluster.isolate(leader).unwrap();
        for read in reads {
            read.await.unwrap().unwrap();
        }
        client.get("a").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_member_that_answers_old_data_alone_is_left_all_the_same() {
    on_each_etcd(async |etcd| {
        let cluster = partitionable(&etcd).await;
        let member = follower(&cluster).await;
        let client = with_isolated(&cluster, member).await;
        let other = client.clone();
        let local_reads = tokio::spawn(async move {
            loop {
                other.get("a").serializable().await.unwrap();
            }
        });
        let isolated = cluster.endpoints()[member].clone();
        let alone = connect([isolated]).await;
        let member_id = alone.get("a").serializable().await.unwrap().header.member_id;
        for _ in 0..6 {
            client.get("a").await.unwrap();
        }
        eventually(PATIENCE, "nobody calls the member", async || {
            for _ in 0..20 {
                if client.get("a").serializable().await.unwrap().header.member_id == member_id {
                    return false;
                }
            }
            true
        })
        .await;
        local_reads.abort();
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_requires_a_leader_leaves_a_member_without_one() {
    on_each_etcd(async |etcd| {
        let cluster = partitionable(&etcd).await;
        let leader = cluster.leader().await.unwrap();
        for member in [leader, (leader + 1) % 3] {
            let client = connect([cluster.endpoints()[member].clone()]).await;
            let mut watch = client.watch("a").require_leader().await.unwrap();
            client.set_endpoints(cluster.endpoints()).await.unwrap();
            cluster.isolate(member).unwrap();
            let others =
                [(member + 1) % 3, (member + 2) % 3].map(|i| cluster.endpoints()[i].clone());
            let other = connect(others).await;
            eventually(PATIENCE, "the others take writes", async || {
                other.put("b", "1").await.is_ok()
            })
            .await;
            other.put("a", "1").await.unwrap();
            next_put(&mut watch, "a").await;
            heal(&cluster, member).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_requires_a_leader_says_that_there_is_none() {
    on_each_etcd(async |etcd| {
        let cluster = partitionable(&etcd).await;
        let leader = cluster.leader().await.unwrap();
        for member in [leader, (leader + 1) % 3] {
            let client = connect([cluster.endpoints()[member].clone()]).await;
            let mut watch = client.watch("a").require_leader().await.unwrap();
            cluster.isolate(member).unwrap();
            eventually(PATIENCE, "it is off the server", async || {
                watch.state() == WatchState::Resuming
            })
            .await;
            cluster.heal(member);
            cluster.wait_ready().await.unwrap();
            connect(cluster.endpoints()).await.put("a", "1").await.unwrap();
            next_put(&mut watch, "a").await;
        }
    })
    .await;
}
