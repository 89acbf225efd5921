//! `tenure lock --prefix` and `etcdctl lock` are one lock, on each etcd with the etcdctl beside it.

mod support;

use support::*;
use tenure::{Client, Contender, Mutex};
use tenure_testkit::{EtcdBinary, eventually, on_each_etcd};
use tokio::process::Command;

fn etcdctl<'a>(
    etcd: &EtcdBinary,
    endpoint: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut command = program(etcd.etcdctl().expect("there is an etcdctl"));
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoint}")).args(words);
    command
}

async fn at_prefix(client: &Client, count: usize) -> Vec<Contender> {
    eventually(SOON, &format!("{count} contenders"), async || {
        let all = Mutex::inspect_at(client, "jobs").await.unwrap();
        (all.len() == count).then_some(all)
    })
    .await
}

#[tokio::test]
async fn tenure_waits_for_etcdctl() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let mut theirs = Running::start(etcdctl(&etcd, endpoint, ["lock", "jobs"]));
        let their_key = theirs.line().await;
        let (code, _, stderr) =
            run(tenure(endpoint, ["lock", "--try", "--prefix", "jobs", "--", "true"])).await;
        assert_eq!(code, 75, "{stderr}");
        assert!(stderr.contains(&format!("somebody with the key {their_key}")), "{stderr}");

        let mut ours = Running::start(tenure(endpoint, ["lock", "--prefix", "jobs"]));
        let waiting = at_prefix(&client, 2).await;
        assert_eq!(waiting[0].key, their_key);

        let (code, table, _) = run(tenure(endpoint, ["inspect", "--prefix", "jobs"])).await;
        assert_eq!(code, 0);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(lines[1].starts_with("holds ") && lines[1].ends_with(&their_key), "{table}");
        assert!(lines[2].starts_with("waits 1 "), "{table}");
        assert!(lines[2].contains(&format!(" {} ", ours.pid())), "{table}");

        let (_, json, _) = run(tenure(endpoint, ["inspect", "--prefix", "jobs", "--json"])).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["prefix"], "jobs");
        assert_eq!(json["holder"]["key"], their_key);
        assert_eq!(json["holder"]["lease"], waiting[0].lease.unwrap().to_string());
        assert_eq!(json["holder"].get("pid"), None);
        assert_eq!(json["waiters"].as_array().unwrap().len(), 1);
        assert_eq!(json["waiters"][0]["pid"], ours.pid());
        assert_eq!(json["waiters"][0]["create_revision"], waiting[1].create_revision.0);

        theirs.signal("TERM");
        let our_key = ours.line().await;
        assert_eq!(waiting[1].key, our_key);
        ours.signal("TERM");
        assert_eq!(ours.end().await.0, 0);
        let (code, text, _) = run(tenure(endpoint, ["inspect", "--prefix", "jobs"])).await;
        assert_eq!((code, &*text), (0, "nobody holds the lock at prefix \"jobs\"\n"));
    })
    .await;
}

#[tokio::test]
async fn etcdctl_waits_for_tenure() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let mut ours = Running::start(tenure(endpoint, ["lock", "--prefix", "jobs"]));
        let our_key = ours.line().await;
        let mut theirs = Running::start(etcdctl(&etcd, endpoint, ["lock", "jobs"]));
        let waiting = at_prefix(&client, 2).await;
        assert_eq!(waiting[0].key, our_key);
        assert_eq!(waiting[1].holder, None);
        ours.signal("TERM");
        assert_eq!(ours.end().await.0, 0);
        assert_eq!(waiting[1].key, theirs.line().await);
        theirs.signal("TERM");
        at_prefix(&client, 0).await;
    })
    .await;
}
