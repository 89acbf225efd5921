//! `tenure lock` when the lock is lost under the command: nobody of it is left when the key is
//! gone.

mod support;

use std::time::Duration;

use futures::TryStreamExt;
use support::*;
use tenure::{Client, EventKind, Mutex, WatchStream};
use tenure_testkit::{Proxy, eventually, on_each_etcd};
use tokio::time::timeout;

/// The margin of a lock's deadline, which the command's grace comes on top of.
const LEAST_AHEAD: Duration = Duration::from_millis(500);

/// A command that ignores SIGTERM, and so does what it starts. It prints its group.
const STUBBORN: &str = "trap '' TERM; sleep 60 & echo $$; sleep 60; :";

/// Watches the lock's keys on a connection of its own, from now on.
async fn keys(client: &Client) -> WatchStream {
    client.watch(tenure::KeyRange::prefix("tenure/mutex/jobs/")).await.unwrap()
}

/// Waits until the key is deleted and nobody of the group lives, and tells how much earlier that
/// was: nothing if it was not.
async fn group_gone_before_key(client: &Client, keys: &mut WatchStream, group: &str) -> Duration {
    let deleted = async {
        loop {
            let change = keys.try_next().await.unwrap().unwrap();
            if change.events().iter().any(|event| event.kind == EventKind::Delete) {
                return client.clock().now();
            }
        }
    };
    let deleted = async { timeout(SOON, deleted).await.expect("the key is deleted") };
    let gone = async {
        eventually(SOON, "the group is gone", async || alive(group).is_empty()).await;
        client.clock().now()
    };
    let (deleted, gone) = tokio::join!(deleted, gone);
    deleted.since(gone)
}

#[tokio::test]
async fn when_etcd_falls_silent_the_whole_group_is_gone_before_the_key() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let proxy = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        let mut keys = keys(&client).await;
        let words = ["lock", "--ttl", "3", "jobs", "--", "sh", "-c", STUBBORN];
        let mut holder = Running::start(tenure(&proxy.endpoint(), words));
        let group = holder.line().await;
        eventually(SOON, "all of the command runs", async || alive(&group).len() >= 3).await;
        let next = Running::start(tenure(&cluster.endpoints()[0], ["lock", "jobs", "--", "true"]));
        contenders(&client, "jobs", 2).await;

        proxy.pause();
        let ahead = group_gone_before_key(&client, &mut keys, &group).await;
        assert!(ahead > LEAST_AHEAD, "the group was gone only {ahead:?} before the key");
        assert_eq!(next.end().await.0, 0);
        let (code, stderr) = holder.end().await;
        assert_eq!(code, 76, "{stderr}");
        assert!(stderr.contains("etcd does not answer: the lock \"jobs\" is lost in"), "{stderr}");
        assert!(stderr.contains("the command was killed (SIGKILL) before the lock"), "{stderr}");
    })
    .await;
}

#[tokio::test]
async fn a_command_that_listens_ends_by_itself() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let proxy = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        let mut keys = keys(&client).await;
        let script = "trap 'echo cleaned up; exit 0' TERM; echo $$; while :; do sleep 0.05; done";
        let words = ["lock", "--ttl", "5", "jobs", "--", "sh", "-c", script];
        let mut holder = Running::start(tenure(&proxy.endpoint(), words));
        let group = holder.line().await;
        proxy.pause();
        assert_eq!(holder.line().await, "cleaned up");
        let ahead = group_gone_before_key(&client, &mut keys, &group).await;
        assert!(ahead > LEAST_AHEAD, "the group was gone only {ahead:?} before the key");
        let (code, stderr) = holder.end().await;
        assert_eq!(code, 76, "{stderr}");
        assert!(stderr.contains("is told to end (SIGTERM)"), "{stderr}");
        assert!(!stderr.contains("SIGKILL"), "{stderr}");
    })
    .await;
}

#[tokio::test]
async fn a_silence_that_ends_in_time_costs_nothing() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let proxy = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        let script = "echo running; read go; exit 4";
        let words = ["lock", "--ttl", "6", "jobs", "--", "sh", "-c", script];
        let mut command = tenure(&proxy.endpoint(), words);
        command.stdin(std::process::Stdio::piped());
        let mut holder = Running::start(command);
        holder.line().await;
        let key = contenders(&client, "jobs", 1).await.remove(0).key;
        proxy.pause();
        let begin = client.clock().now();
        eventually(SOON, "a while passes", async || {
            client.clock().now().since(begin) > Duration::from_millis(2_200)
        })
        .await;
        let before = proxy.bytes_to_client();
        proxy.pass();
        eventually(SOON, "it hears again", async || proxy.bytes_to_client() > before).await;
        assert_eq!(contenders(&client, "jobs", 1).await[0].key, key);
        drop(holder.stdin.take());
        let (code, stderr) = holder.end().await;
        assert_eq!(code, 4, "{stderr}");
        assert!(!stderr.contains("does not answer"), "{stderr}");
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn a_lock_that_somebody_takes_away_costs_the_command_its_life_at_once() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        for (deed, reason) in
            [("revoke", "the lease was revoked"), ("delete", "somebody deleted the key")]
        {
            let words = ["lock", "--ttl", "60", "jobs", "--", "sh", "-c", STUBBORN];
            let mut holder = Running::start(tenure(&cluster.endpoints()[0], words));
            let group = holder.line().await;
            let held = contenders(&client, "jobs", 1).await.remove(0);
            let done = client.clock().now();
            match deed {
                "revoke" => drop(client.lease_revoke(held.lease.unwrap()).await.unwrap()),
                _ => drop(client.delete(held.key).await.unwrap()),
            }
            eventually(SOON, "the group is gone", async || alive(&group).is_empty()).await;
            let took = client.clock().now().since(done);
            assert!(took < Duration::from_secs(2), "{deed}: {took:?}");
            let (code, stderr) = holder.end().await;
            assert_eq!(code, 76, "{deed}: {stderr}");
            assert!(stderr.contains("the lock \"jobs\" is lost: "), "{deed}: {stderr}");
            assert!(stderr.contains(reason), "{deed}: {stderr}");
            nothing_is_left(&client).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_holder_without_a_command_says_that_the_lock_is_lost() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let mut holder = Running::start(tenure(&cluster.endpoints()[0], ["lock", "jobs"]));
        let key = holder.line().await;
        client.delete(key).await.unwrap();
        let (code, stderr) = holder.end().await;
        assert_eq!(code, 76, "{stderr}");
        assert!(stderr.contains("the lock \"jobs\" is lost: somebody deleted the key"), "{stderr}");
        nothing_is_left(&client).await;
        assert!(Mutex::inspect(&client, "jobs").await.unwrap().is_empty());
    })
    .await;
}

/// Nobody reads its stderr, and a pipe is soon full: that must not keep it from killing.
#[tokio::test]
async fn a_stderr_that_nobody_reads_holds_up_no_kill() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let proxy = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        let mut keys = keys(&client).await;
        // The command fills it, then runs on.
        let script = "echo $$; (yes >&2) & trap '' TERM; sleep 60; :";
        let words = ["lock", "--ttl", "3", "jobs", "--", "sh", "-c", script];
        let mut holder = Running::start(tenure(&proxy.endpoint(), words));
        let group = holder.line().await;
        eventually(SOON, "the writer stands still", async || {
            alive(&group).iter().any(|process| process.contains("(yes"))
        })
        .await;
        proxy.pause();
        let ahead = group_gone_before_key(&client, &mut keys, &group).await;
        assert!(ahead > LEAST_AHEAD, "the group was gone only {ahead:?} before the key");
        assert_eq!(holder.end().await.0, 76);
    })
    .await;
}
