//! `tenure get`, `put`, `del` and `watch`, and how the command reaches etcd.

mod support;

use std::process::Stdio;

use support::*;
use tenure_testkit::{Cluster, TestCerts, on_each_etcd};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn keys_are_printed_as_etcdctl_prints_them() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        assert_eq!(run(tenure(endpoint, ["put", "a/1", "one"])).await.1, "OK\n");
        let mut put = tenure(endpoint, ["put", "a/2", "-"]);
        put.stdin(Stdio::piped());
        let mut put = Running::start(put);
        let mut stdin = put.stdin.take().unwrap();
        stdin.write_all(b"\xff\x00two").await.unwrap();
        drop(stdin);
        assert_eq!(put.end().await.0, 0);

        for words in [&["get", "a/1"][..], &["get", "a/", "--prefix"], &["get", "nothing"]] {
            let ours = tenure(endpoint, words.iter().copied()).output().await.unwrap();
            let theirs = cluster.etcdctl(words).await.unwrap();
            assert_eq!(ours.stdout, theirs.stdout, "{words:?}");
            assert!(ours.status.success());
        }
        let revision = client.get("a/1").await.unwrap().kv().unwrap().mod_revision;
        run(tenure(endpoint, ["put", "a/1", "later"])).await;
        let old = ["get", "a/1", "--rev", &revision.to_string()];
        assert_eq!(run(tenure(endpoint, old)).await.1, "a/1\none\n");
        let keys = ["get", "--prefix", "", "--keys-only", "--limit", "1"];
        assert_eq!(run(tenure(endpoint, keys)).await.1, "a/1\n");
        let json = run(tenure(endpoint, ["get", "--prefix", "a/", "--json"])).await.1;
        let json: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&json[0]["key"], &json[0]["value"]), (&"a/1".into(), &"later".into()));
        assert_eq!((&json[1]["value_hex"], &json[1]["version"]), (&"ff0074776f".into(), &1.into()));
        assert_eq!(run(tenure(endpoint, ["del", "a/", "--prefix"])).await.1, "2\n");
        assert_eq!(run(tenure(endpoint, ["get", ""])).await.0, 2);
    })
    .await;
}

#[tokio::test]
async fn a_key_put_on_a_lease_goes_with_it() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let lease = client.lease_grant(SOON).await.unwrap().id;
        let put = ["put", "--lease", &lease.to_string(), "key", "value"];
        assert_eq!(run(tenure(endpoint, put)).await.0, 0);
        client.lease_revoke(lease).await.unwrap();
        nothing_is_left(&client).await;
        assert_eq!(run(tenure(endpoint, put)).await.0, 1);
        assert_eq!(run(tenure(endpoint, ["put", "--lease", "0", "key", "value"])).await.0, 2);
    })
    .await;
}

#[tokio::test]
async fn a_watch_prints_changes_as_they_come() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let from = client.put("a/1", "one").await.unwrap().header.revision.to_string();
        let mut plain =
            Running::start(tenure(endpoint, ["watch", "a/", "--prefix", "--rev", &from]));
        let json = ["watch", "a/", "--prefix", "--json", "--rev", &from];
        let mut json = Running::start(tenure(endpoint, json));
        for line in ["PUT", "a/1", "one"] {
            assert_eq!(plain.line().await, line);
        }
        client.delete("a/1").await.unwrap();
        for line in ["DELETE", "a/1", ""] {
            assert_eq!(plain.line().await, line);
        }
        let put: serde_json::Value = serde_json::from_str(&json.line().await).unwrap();
        assert_eq!((&put["type"], &put["value"]), (&"PUT".into(), &"one".into()));
        let delete: serde_json::Value = serde_json::from_str(&json.line().await).unwrap();
        assert_eq!((&delete["type"], &delete["key"]), (&"DELETE".into(), &"a/1".into()));
    })
    .await;
}

#[tokio::test]
async fn users_come_from_flags_and_from_etcdctls_environment_and_passwords_are_never_shown() {
    on_each_etcd(async |etcd| {
        let builder = Cluster::builder(&etcd).fast(true).flag("--bcrypt-cost=4");
        let cluster = builder.start().await.unwrap();
        let endpoint = &cluster.endpoints()[0];
        for step in ["user add root:s3cret", "role add root", "user grant-role root root"] {
            let words: Vec<&str> = step.split(' ').collect();
            assert!(cluster.etcdctl(&words).await.unwrap().status.success(), "{step}");
        }
        assert!(cluster.etcdctl(&["auth", "enable"]).await.unwrap().status.success());

        let (code, _, stderr) = run(tenure(endpoint, ["get", "key"])).await;
        assert_eq!(code, 77, "{stderr}");
        assert_eq!(run(tenure(endpoint, ["--user", "root:s3cret", "get", "key"])).await.0, 0);
        let mut command = tenure(endpoint, ["get", "key"]);
        command.env("ETCDCTL_USER", "root").env("ETCDCTL_PASSWORD", "s3cret");
        assert_eq!(run(command).await.0, 0);
        // Ours come first.
        let mut command = tenure(endpoint, ["get", "key"]);
        command.env("ETCDCTL_USER", "root:wrong").env("TENURE_USER", "root:s3cret");
        assert_eq!(run(command).await.0, 0);

        for (words, expected) in [
            (&["--user", "root:hunter2", "get", "key", "--log-level", "trace"][..], 77),
            (&["--user", "root", "--password", "hunter2", "get", "key"], 77),
            (&["--password", "hunter2", "--user", "root", "get"], 2),
            (&["--endpoints", "http://root:hunter2@127.0.0.1:1", "get", "key"], 2),
            (&["--password", "hunter2", "--help"], 0),
            (&["--user", "root", "get", "key"], 2),
        ] {
            let mut command = tenure(endpoint, words.iter().copied());
            command.env("TENURE_LOG_LEVEL", "debug");
            let (code, stdout, stderr) = run(command).await;
            assert_eq!(code, expected, "{words:?}: {stderr}");
            assert!(!format!("{stdout}{stderr}").contains("hunter2"), "{words:?}: {stderr}");
        }
    })
    .await;
}

#[tokio::test]
async fn certificates_come_from_flags_and_from_etcdctls_environment() {
    on_each_etcd(async |etcd| {
        let certs = TestCerts::new("client").unwrap();
        let builder = Cluster::builder(&etcd).fast(true).tls(certs.tls(true));
        let cluster = builder.start().await.unwrap();
        let endpoint = &cluster.endpoints()[0];
        let (ca, cert, key) = (certs.ca_path(), certs.client_cert_path(), certs.client_key_path());
        let mut flags = tenure(endpoint, ["get", "key"]);
        flags.arg("--cacert").arg(&ca).arg("--cert").arg(&cert).arg("--key").arg(&key);
        assert_eq!(run(flags).await.0, 0);
        let mut environment = tenure(endpoint, ["lock", "jobs", "--", "true"]);
        environment.env("ETCDCTL_CACERT", &ca).env("ETCDCTL_CERT", &cert);
        environment.env("ETCDCTL_KEY", &key).env("TENURE_KEY", "");
        assert_eq!(run(environment).await.0, 0);
        let mut half = tenure(endpoint, ["get", "key"]);
        half.arg("--cert").arg(&cert);
        assert_eq!(run(half).await.0, 2);
        let mut stranger = tenure(endpoint, ["--command-timeout", "1s", "get", "key"]);
        stranger.arg("--cacert").arg(certs.client_cert_path());
        assert_eq!(run(stranger).await.0, 69);
    })
    .await;
}

#[tokio::test]
async fn what_is_empty_is_not_set() {
    let (code, _, stderr) = run({
        let mut command = program(env!("CARGO_BIN_EXE_tenure"));
        command.env("TENURE_ENDPOINTS", "").env("ETCDCTL_ENDPOINTS", "127.0.0.1:1");
        command.args(["--command-timeout", "500ms", "get", "key"]);
        command
    })
    .await;
    assert_eq!(code, 69);
    assert!(stderr.contains("127.0.0.1:1:"), "{stderr}");
}
