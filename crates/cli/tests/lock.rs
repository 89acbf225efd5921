//! `tenure lock` around a command, on real etcd: what the command gets, how it ends, who is next.

mod support;

use std::{process::Stdio, time::Duration};

use support::*;
use tenure::{Fence, Mutex, Session};
use tenure_testkit::{Proxy, eventually, on_each_etcd};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_command_finds_its_lock_in_its_environment_and_all_is_gone_afterwards() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let script = "echo $TENURE_LOCK_KEY; echo $TENURE_LOCK_FENCE; echo $TENURE_LOCK_REVISION; \
                      echo $TENURE_LEASE; echo $ETCD_LOCK_KEY; echo $ETCD_LOCK_REV; cat; exit 7";
        let mut command = tenure(endpoint, ["lock", "jobs", "--", "sh", "-c", script]);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        let (key, fence, revision) =
            (running.line().await, running.line().await, running.line().await);
        let (lease, ctl_key, ctl_revision) =
            (running.line().await, running.line().await, running.line().await);

        let held = contenders(&client, "jobs", 1).await.remove(0);
        assert_eq!(held.key, key);
        assert_eq!(held.lease.unwrap().to_string(), lease);
        assert_eq!(held.create_revision.to_string(), revision);
        assert_eq!((ctl_key, ctl_revision), (key, revision));
        let fence: Fence = fence.parse().unwrap();
        assert_eq!((fence.key, fence.create_revision), (held.key, held.create_revision));
        let holder = held.holder.unwrap();
        assert_eq!((holder.pid, &*holder.name), (running.pid(), "sh"));

        let mut stdin = running.stdin.take().unwrap();
        stdin.write_all(b"passed through\n").await.unwrap();
        drop(stdin);
        assert_eq!(running.line().await, "passed through");
        assert_eq!(running.end().await.0, 7);
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn exit_codes_tell_what_went_wrong() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        for (words, expected, says) in [
            (&["lock", "jobs", "--", "true"][..], 0, ""),
            (&["lock", "jobs", "--", "sh", "-c", "kill -s KILL $$"], 137, ""),
            (
                &["lock", "jobs", "--", "tenure-has-no-such-command"],
                127,
                "cannot run tenure-has-no",
            ),
            (&["lock", "jobs", "--", "/etc/passwd"], 126, "cannot run /etc/passwd"),
            (&["lock"], 2, "NAME"),
            (&["lock", "--prefix", "a", "b"], 2, "--prefix"),
            (&["lock", ""], 2, "name must not be empty"),
            (&["lock", "jobs", "--ttl", "1s"], 2, "--ttl: 2s at least"),
            (&["lock", "jobs", "--ttl", "10s", "--grace", "2s"], 2, "--grace: 1s at most"),
            (&["lock", "jobs", "--wait", "soon"], 2, "write 15s, 1m30s or 500ms"),
            (&["lock", "jobs", "--try", "--wait", "1s"], 2, "cannot be used with"),
        ] {
            let (code, _, stderr) = run(tenure(endpoint, words.iter().copied())).await;
            assert_eq!(code, expected, "{words:?}: {stderr}");
            assert!(stderr.contains(says), "{words:?}: {stderr}");
        }
        nothing_is_left(&client).await;
        cluster.kill(0).unwrap();
        let lock = tenure(endpoint, ["--command-timeout", "1s", "lock", "jobs", "--", "true"]);
        let (code, _, stderr) = run(lock).await;
        assert_eq!(code, 69, "{stderr}");
        let lock = tenure(endpoint, ["lock", "--wait", "300ms", "jobs", "--", "true"]);
        let (code, _, stderr) = run(lock).await;
        assert_eq!(code, 69, "{stderr}");
    })
    .await;
}

#[tokio::test]
async fn whoever_does_not_wait_hears_who_is_in_the_way() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let session = Session::builder().name("the night shift").open(&client).await.unwrap();
        let guard = Mutex::new(&session, "jobs").acquire().await.unwrap();
        for limit in [&["--try"][..], &["--wait", "300ms"]] {
            let words = ["lock", "jobs"].into_iter().chain(limit.iter().copied());
            let (code, stdout, stderr) =
                run(tenure(endpoint, words.chain(["--", "echo", "ran"]))).await;
            assert_eq!((code, &*stdout), (75, ""), "{limit:?}: {stderr}");
            let who = format!("pid {} (the night shift) since ", std::process::id());
            assert!(stderr.contains(&who), "{limit:?}: {stderr}");
            assert_eq!(contenders(&client, "jobs", 1).await[0].key, guard.key());
        }
        guard.release().await.unwrap();
        for limit in [&["--try"][..], &["--wait", "10s"]] {
            let words = ["lock", "jobs"].into_iter().chain(limit.iter().copied());
            let (code, stdout, stderr) =
                run(tenure(endpoint, words.chain(["--", "echo", "ran"]))).await;
            assert_eq!((code, &*stdout), (0, "ran\n"), "{limit:?}: {stderr}");
        }
    })
    .await;
}

#[tokio::test]
async fn signals_go_to_the_command_which_may_do_with_them_what_it_likes() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        // It ignores SIGTERM, answers SIGHUP, and ends by SIGINT.
        let script = "trap '' TERM; trap 'echo hup' HUP; trap 'exit 9' INT; echo ready; \
                      while :; do sleep 0.05; done";
        let holder = ["lock", "jobs", "--", "sh", "-c", script];
        let mut holder = Running::start(tenure(endpoint, holder));
        assert_eq!(holder.line().await, "ready");
        let key = contenders(&client, "jobs", 1).await.remove(0).key;
        let next = Running::start(tenure(endpoint, ["lock", "jobs", "--", "true"]));
        contenders(&client, "jobs", 2).await;

        holder.signal("TERM");
        holder.signal("HUP");
        assert_eq!(holder.line().await, "hup");
        assert_eq!(contenders(&client, "jobs", 2).await[0].key, key);
        holder.signal("INT");
        assert_eq!(holder.end().await.0, 9);
        assert_eq!(next.end().await.0, 0);

        let mut holder = Running::start(tenure(
            endpoint,
            ["lock", "jobs", "--", "sh", "-c", "echo ready; exec sleep 60"],
        ));
        assert_eq!(holder.line().await, "ready");
        holder.signal("TERM");
        assert_eq!(holder.end().await.0, 143);
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_before_the_lock_is_free() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        for (trap, said) in [("", false), ("trap '' TERM;", true)] {
            let script = format!("{trap} sleep 60 >/dev/null 2>&1 & echo $$; exit 3");
            let words = ["lock", "--ttl", "5", "jobs", "--", "sh", "-c", &script];
            let mut holder = Running::start(tenure(endpoint, words));
            let group = holder.line().await;
            let (code, stderr) = holder.end().await;
            assert_eq!(code, 3, "{stderr}");
            assert!(alive(&group).is_empty(), "{:?}", alive(&group));
            assert_eq!(
                stderr.contains("what the command left behind was killed"),
                said,
                "{stderr}"
            );
            nothing_is_left(&client).await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_command_it_prints_the_key_and_holds_until_a_signal() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        for signal in ["TERM", "INT"] {
            let mut holder = Running::start(tenure(endpoint, ["lock", "jobs"]));
            let key = holder.line().await;
            let mut next = Running::start(tenure(endpoint, ["lock", "jobs"]));
            assert_eq!(contenders(&client, "jobs", 2).await[0].key, key);
            holder.signal(signal);
            let (code, stderr) = holder.end().await;
            assert_eq!(code, 0, "{stderr}");
            // The key is gone as soon as the process is, and the next one has the lock.
            let left = Mutex::inspect(&client, "jobs").await.unwrap();
            assert_eq!(left.len(), 1, "{left:?}");
            assert_eq!(left[0].key, next.line().await);
            next.signal(signal);
            assert_eq!(next.end().await.0, 0);
            nothing_is_left(&client).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_signal_while_it_connects_or_waits_leaves_nothing_behind() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let proxy = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        for (signal, expected) in [("TERM", 143), ("INT", 130)] {
            proxy.pause();
            let before = proxy.accepted();
            let connecting = ["lock", "jobs", "--", "echo", "ran"];
            let connecting = Running::start(tenure(&proxy.endpoint(), connecting));
            eventually(SOON, "it dials", async || proxy.accepted() > before).await;
            connecting.signal(signal);
            assert_eq!(connecting.end().await.0, expected);
            proxy.pass();

            let mut holder = Running::start(tenure(&proxy.endpoint(), ["lock", "jobs"]));
            let key = holder.line().await;
            let waiter = ["lock", "jobs", "--", "echo", "ran"];
            let waiter = Running::start(tenure(&proxy.endpoint(), waiter));
            contenders(&client, "jobs", 2).await;
            waiter.signal(signal);
            let (code, stderr) = waiter.end().await;
            assert_eq!(code, expected, "{stderr}");
            let left = Mutex::inspect(&client, "jobs").await.unwrap();
            assert_eq!(left.len(), 1, "{left:?}");
            assert_eq!(left[0].key, key);
            holder.signal("TERM");
            assert_eq!(holder.end().await.0, 0);
            nothing_is_left(&client).await;
        }
    })
    .await;
}

#[tokio::test]
async fn another_signal_ends_a_release_that_gets_nowhere() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = start(&etcd).await;
        let proxy = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        let lock = ["lock", "--ttl", "60", "jobs"];
        let mut holder = Running::start(tenure(&proxy.endpoint(), lock));
        holder.line().await;
        proxy.pause();
        // Two that come at once are one to a process, so we insist.
        eventually(Duration::from_secs(10), "it goes without a release", async || {
            let ended = holder.has_ended();
            if !ended {
                holder.signal("TERM");
            }
            ended
        })
        .await;
        let (code, stderr) = holder.end().await;
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains("could not tell etcd that we are gone"), "{stderr}");
    })
    .await;
}

#[tokio::test]
async fn ignored_signals_stay_ignored() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let mut shell = program("sh");
        // As nohup does; the command must be able to end by another one all the same.
        shell.env("TENURE_ENDPOINTS", &cluster.endpoints()[0]).args([
            "-c",
            "trap '' HUP; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_tenure"),
            "lock",
            "jobs",
        ]);
        let mut holder = Running::start(shell);
        holder.line().await;
        holder.signal("HUP");
        let next = Running::start(tenure(&cluster.endpoints()[0], ["lock", "jobs", "--", "true"]));
        contenders(&client, "jobs", 2).await;
        assert!(!holder.has_ended());
        holder.signal("TERM");
        assert_eq!(holder.end().await.0, 0);
        assert_eq!(next.end().await.0, 0);
    })
    .await;
}

#[tokio::test]
async fn a_command_that_is_stopped_wakes_to_be_ended() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let script = "trap 'exit 8' TERM; echo $$; kill -s STOP $$; sleep 60";
        let words = ["lock", "jobs", "--", "sh", "-c", script];
        let mut holder = Running::start(tenure(&cluster.endpoints()[0], words));
        let pid = holder.line().await;
        eventually(SOON, "it is stopped", async || state(&pid) == Some('T')).await;
        holder.signal("TERM");
        assert_eq!(holder.end().await.0, 8);
        nothing_is_left(&client).await;
    })
    .await;
}

/// `script`, of every Linux, gives it a terminal of its own.
#[tokio::test]
async fn a_command_can_read_from_the_terminal() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = start(&etcd).await;
        let tenure = env!("CARGO_BIN_EXE_tenure");
        // It waits until its group is the terminal's. Its shell reads, too, once it has the terminal
        // back; then a command in a pipeline.
        let line = format!(
            "{tenure} lock jobs -- sh -c 'until [ $(cut -d\" \" -f5 /proc/$$/stat) = \
             $(cut -d\" \" -f8 /proc/$$/stat) ]; do :; done; echo it is mine; \
             read word; echo command: $word'; read word; echo shell: $word; \
             {tenure} lock jobs -- sh -c 'read word; echo piped: $word' | cat"
        );
        let mut terminal = program("script");
        terminal.env("TENURE_ENDPOINTS", &cluster.endpoints()[0]).env("SHELL", "/bin/sh");
        terminal.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped());
        let mut running = Running::start(terminal);
        let mut stdin = running.stdin.take().unwrap();
        while !running.line().await.contains("it is mine") {}
        // Control-Z would stop the command, and not the lock.
        stdin.write_all(b"\x1a").await.unwrap();
        while !running.line().await.contains("cannot be suspended") {}
        stdin.write_all(b"one\n").await.unwrap();
        while !running.line().await.contains("command: one") {}
        stdin.write_all(b"two\n").await.unwrap();
        while !running.line().await.contains("shell: two") {}
        stdin.write_all(b"three\n").await.unwrap();
        while !running.line().await.contains("piped: three") {}
    })
    .await;
}
