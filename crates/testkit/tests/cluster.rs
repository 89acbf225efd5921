//! Clusters of real etcd members: what they survive, and what they leave behind.

use std::path::Path;
use std::time::Duration;

use tenure_testkit::{Cluster, TestCerts, eventually, on_each_etcd};

const SOON: Duration = Duration::from_secs(15);

async fn etcdctl(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.etcdctl(arguments).await.unwrap();
    assert!(output.status.success(), "etcdctl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn one_member_keeps_its_data_over_kill_and_stop() {
    on_each_etcd(async |etcd| {
        let cluster = Cluster::builder(&etcd).fast(true).start().await.unwrap();
        assert_eq!(cluster.leader().await.unwrap(), 0);
        etcdctl(&cluster, &["put", "color", "green"]).await;

        cluster.kill(0).unwrap();
        assert!(!cluster.member(0).is_running());
        assert!(!cluster.member(0).is_healthy().await);
        cluster.restart(0).await.unwrap();
        assert_eq!(etcdctl(&cluster, &["get", "color", "--print-value-only"]).await, "green\n");

        cluster.stop(0).await.unwrap();
        assert_eq!(cluster.member(0).pid(), None);
        cluster.restart(0).await.unwrap();
        assert_eq!(etcdctl(&cluster, &["get", "color", "--print-value-only"]).await, "green\n");
    })
    .await;
}

#[tokio::test]
async fn another_member_leads_while_the_leader_is_paused_or_dead() {
    on_each_etcd(async |etcd| {
        let cluster = Cluster::builder(&etcd).members(3).fast(true).start().await.unwrap();
        let first = cluster.leader().await.unwrap();

        cluster.pause(first).unwrap();
        let second = cluster.leader().await.unwrap();
        assert_ne!(second, first);
        etcdctl(&cluster, &["put", "color", "green"]).await;

        cluster.resume(first).unwrap();
        cluster.wait_ready().await.unwrap();
        let second = cluster.leader().await.unwrap();
        cluster.kill(second).unwrap();
        assert_ne!(cluster.leader().await.unwrap(), second);
        assert_eq!(etcdctl(&cluster, &["get", "color", "--print-value-only"]).await, "green\n");

        cluster.restart(second).await.unwrap();
        assert!(cluster.member(second).is_healthy().await);
    })
    .await;
}

#[tokio::test]
async fn members_restart_one_by_one_after_all_of_them_died() {
    on_each_etcd(async |etcd| {
        let cluster = Cluster::builder(&etcd).members(3).fast(true).start().await.unwrap();
        for index in 0..3 {
            cluster.kill(index).unwrap();
        }
        for index in 0..3 {
            cluster.restart(index).await.unwrap();
        }
        cluster.wait_ready().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_isolated_leader_loses_its_place_and_comes_back() {
    on_each_etcd(async |etcd| {
        let builder = Cluster::builder(&etcd).members(3).fast(true).proxied_peers(true);
        let cluster = builder.start().await.unwrap();
        let first = cluster.leader().await.unwrap();

        cluster.isolate(first).unwrap();
        let second = cluster.leader().await.unwrap();
        assert_ne!(second, first);
        eventually(SOON, "the isolated member knows that it is alone", async || {
            cluster.member(first).metric("etcd_server_has_leader").await == Some(0.0)
        })
        .await;
        etcdctl(&cluster, &["put", "color", "green"]).await;

        cluster.heal(first);
        cluster.wait_ready().await.unwrap();
        let at = format!("--endpoints={}", cluster.member(first).endpoint());
        let read = ["get", "color", "--print-value-only", "--consistency=s", &at];
        eventually(SOON, "the healed member has what it missed", async || {
            etcdctl(&cluster, &read).await == "green\n"
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn isolation_holds_over_a_restart() {
    on_each_etcd(async |etcd| {
        let builder = Cluster::builder(&etcd).members(3).fast(true).proxied_peers(true);
        let cluster = builder.start().await.unwrap();
        cluster.isolate(2).unwrap();
        cluster.restart(2).await.unwrap();
        etcdctl(&cluster, &["put", "color", "green"]).await;
        eventually(SOON, "the isolated member says that it is alone", async || {
            cluster.member(2).metric("etcd_server_has_leader").await == Some(0.0)
        })
        .await;
        cluster.heal(2);
        cluster.wait_ready().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_dropped_cluster_leaves_no_process_even_paused_or_in_a_panic() {
    on_each_etcd(async |etcd| {
        let cluster = Cluster::builder(&etcd).members(3).fast(true).start().await.unwrap();
        let pids: Vec<u32> = cluster.members().iter().filter_map(|m| m.pid()).collect();
        assert_eq!(pids.len(), 3);
        cluster.pause(1).unwrap();
        let test = tokio::spawn(async move {
            let _cluster = cluster;
            panic!("a test that fails (on purpose)");
        });
        assert!(test.await.unwrap_err().is_panic());
        for pid in pids {
            assert!(!Path::new("/proc").join(pid.to_string()).exists(), "{pid} still runs");
        }
    })
    .await;
}

#[tokio::test]
async fn a_start_that_fails_shows_the_log() {
    on_each_etcd(async |etcd| {
        let builder = Cluster::builder(&etcd).fast(true).flag("--election-timeout=1");
        let error = builder.start().await.unwrap_err().to_string();
        assert!(error.contains("m0 ended with"), "{error}");
        assert!(error.contains("election-timeout"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_cluster_with_tls_wants_a_client_certificate() {
    on_each_etcd(async |etcd| {
        let certs = TestCerts::new("root").unwrap();
        let builder = Cluster::builder(&etcd).members(3).fast(true).tls(certs.tls(true));
        let cluster = builder.start().await.unwrap();
        assert!(cluster.endpoints()[0].starts_with("https://127.0.0.1:"));
        etcdctl(&cluster, &["put", "color", "green"]).await;

        cluster.kill(cluster.leader().await.unwrap()).unwrap();
        cluster.leader().await.unwrap();
        let (cert, key) = (certs.client_cert_path(), certs.client_key_path());
        let cert = format!("--cert={}", cert.display());
        let key = format!("--key={}", key.display());
        let read = ["get", "color", "--print-value-only", &cert, &key];
        assert_eq!(etcdctl(&cluster, &read).await, "green\n");

        let stranger = TestCerts::new("root").unwrap();
        let (cert, key) = (stranger.client_cert_path(), stranger.client_key_path());
        let cert = format!("--cert={}", cert.display());
        let key = format!("--key={}", key.display());
        let read = ["get", "color", "--dial-timeout=1s", "--command-timeout=1s", &cert, &key];
        assert!(!cluster.etcdctl(&read).await.unwrap().status.success());
    })
    .await;
}

#[tokio::test]
async fn the_state_is_known_with_users_on() {
    on_each_etcd(async |etcd| {
        let cluster = Cluster::builder(&etcd).fast(true).start().await.unwrap();
        etcdctl(&cluster, &["user", "add", "root:secret"]).await;
        etcdctl(&cluster, &["user", "grant-role", "root", "root"]).await;
        etcdctl(&cluster, &["auth", "enable"]).await;
        cluster.restart(0).await.unwrap();
        assert_eq!(cluster.leader().await.unwrap(), 0);
    })
    .await;
}
