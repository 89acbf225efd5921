//! Members that end, and come back.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tenure::ErrorKind;
use tenure_testkit::{Cluster, eventually, on_each_etcd};
use tokio::time::timeout;

use crate::{PATIENCE, READS, WRITES, beginning_with, connect, next_put, start, three, visit_all};

/// For calls that outlive a restart of the cluster.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn writes_and_reads_succeed_at_once_after_a_member_was_killed() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let leader = cluster.leader().await.unwrap();
        for member in [leader, (leader + 1) % 3] {
            let client = connect(beginning_with(cluster.endpoints(), member)).await;
            visit_all(&client).await;
            cluster.kill(member).unwrap();
            cluster.leader().await.unwrap();
            for (name, call) in WRITES.into_iter().chain(READS) {
                call(client.clone()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            }
            cluster.restart(member).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn reads_in_flight_when_a_member_is_killed_are_answered() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let leader = cluster.leader().await.unwrap();
        let client = connect(cluster.endpoints()).await;
        visit_all(&client).await;
        for member in [(leader + 1) % 3, leader] {
            let reads: Vec<_> = READS
                .into_iter()
                .cycle()
                .take(60)
                .map(|(name, read)| (name, tokio::spawn(read(client.clone()))))
                .collect();
            cluster.kill(member).unwrap();
            for (name, read) in reads {
                read.await.unwrap().unwrap_or_else(|error| panic!("{name}: {error:?}"));
            }
            cluster.restart(member).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn no_read_fails_while_members_are_stopped_in_order_and_started_again() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let client = connect(cluster.endpoints()).await;
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = READS
            .into_iter()
            .map(|(name, read)| {
                let (client, stop) = (client.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        read(client.clone()).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
                    }
                })
            })
            .collect();
        for member in 0..3 {
            cluster.stop(member).await.unwrap();
            cluster.leader().await.unwrap();
            cluster.restart(member).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_goes_on_after_its_member_was_killed() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let leader = cluster.leader().await.unwrap();
        for member in [leader, (leader + 1) % 3] {
            let client = connect([cluster.endpoints()[member].clone()]).await;
            let mut watch = client.watch("a").await.unwrap();
            client.set_endpoints(cluster.endpoints()).await.unwrap();
            cluster.kill(member).unwrap();
            cluster.leader().await.unwrap();
            client.put("a", "1").await.unwrap();
            next_put(&mut watch, "a").await;
            cluster.restart(member).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn reads_that_wait_for_a_cluster_without_members_are_answered_when_it_is_back() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let client = connect(cluster.endpoints()).await;
        visit_all(&client).await;
        for order in [[0, 1, 2], [2, 1, 0]] {
            for member in order {
                cluster.kill(member).unwrap();
            }
            let reads = [
                tokio::spawn(client.get("a").timeout(LONG).into_future()),
                tokio::spawn(client.get("a").serializable().timeout(LONG).into_future()),
            ];
            let error = client.get("a").timeout(Duration::from_millis(300)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            cluster.restart(order[0]).await.unwrap();
            cluster.restart(order[1]).await.unwrap();
            for read in reads {
                read.await.unwrap().unwrap();
            }
            cluster.restart(order[2]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_read_outlives_the_restart_of_the_only_member() {
    on_each_etcd(async |etcd| {
        let cluster = start(Cluster::builder(&etcd)).await;
        let client = connect(cluster.endpoints()).await;
        client.get("a").await.unwrap();
        cluster.kill(0).unwrap();
        let error = client.put("a", "1").timeout(Duration::from_millis(500)).await.unwrap_err();
        assert!(error.is_retryable() || error.may_have_been_applied(), "{error:?}");
        let read = tokio::spawn(client.get("b").timeout(LONG).into_future());
        cluster.restart(0).await.unwrap();
        assert!(read.await.unwrap().unwrap().kv().is_none());
    })
    .await;
}

#[tokio::test]
async fn with_all_members_down_every_call_ends_at_its_own_timeout() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let client = connect(cluster.endpoints()).await;
        visit_all(&client).await;
        for member in 0..3 {
            cluster.kill(member).unwrap();
        }
        eventually(PATIENCE, "the client knows", async || {
            let get = client.get("a").timeout(Duration::from_millis(50)).await;
            get.is_err_and(|error| error.kind() == ErrorKind::Unavailable)
        })
        .await;
        for _ in 0..3 {
            let short = Duration::from_millis(300);
            let put = timeout(PATIENCE, client.put("a", "1").timeout(short).into_future());
            let error = put.await.expect("it ends").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            assert!(!error.may_have_been_applied());
            assert!(error.to_string().contains("refused"), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn closing_ends_calls_to_a_stopped_member() {
    on_each_etcd(async |etcd| {
        let cluster = start(Cluster::builder(&etcd)).await;
        let client = connect(cluster.endpoints()).await;
        client.get("a").await.unwrap();
        cluster.kill(0).unwrap();
        let get = tokio::spawn(client.get("a").into_future());
        let put = tokio::spawn(client.put("a", "1").into_future());
        client.close().await;
        for error in [
            timeout(PATIENCE, get).await.expect("it ends").unwrap().unwrap_err(),
            timeout(PATIENCE, put).await.expect("it ends").unwrap().unwrap_err(),
        ] {
            let kinds = [ErrorKind::Closed, ErrorKind::Indeterminate];
            assert!(kinds.contains(&error.kind()), "{error:?}");
        }
    })
    .await;
}
