use tenure_testkit::{eventually, on_each_etcd};

use crate::{
    sides::{Both, Sides},
    support::SOON,
};

/// Starts a watch on both, and waits until so many stand on each.
async fn watch(sides: &Sides, words: &str, stand: u64) -> Both {
    let both = sides.run(words);
    for side in [&sides.embedded, &sides.real] {
        let what = format!("{stand} watches after {words}");
        eventually(SOON, &what, async || side.server.watches().await == stand).await;
    }
    both
}

#[tokio::test]
async fn watches_print_the_same_while_it_happens() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        // Lines for a put, a second one, a put beside it, and a deletion.
        for (words, lines) in [
            ("watch a", [3, 3, 0, 3]),
            ("watch a --prefix", [3, 3, 3, 3]),
            ("watch a b", [3, 3, 3, 3]),
            ("watch a --prev-kv", [3, 5, 0, 5]),
            ("watch a --hex", [3, 3, 0, 3]),
            ("watch a -w json", [1, 1, 0, 1]),
            ("watch a --prefix --prev-kv -w json", [1, 1, 1, 1]),
            ("watch a -w fields", [11, 11, 0, 11]),
            ("watch a -- echo changed", [4, 4, 0, 4]),
        ] {
            let mut both = watch(&sides, words, 1).await;
            let changes = ["put a 1", "put a 2", "put ab 3", "del a"];
            for (change, lines) in changes.into_iter().zip(lines) {
                sides.same(change).await;
                sides.lines(&mut both, lines).await;
            }
            sides.same("del ab").await;
            drop(both);
            for side in [&sides.embedded, &sides.real] {
                let gone = async || side.server.watches().await == 0;
                eventually(SOON, "the watch is gone", gone).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn watches_of_the_past_print_the_same() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        for words in ["put a 1", "put b 2", "put a 3", "del a", "put ab 4"] {
            sides.same(words).await;
        }
        for (words, lines) in [
            ("watch a --rev=2", 9),
            ("watch a --rev=4 --prev-kv", 10),
            ("watch '' --prefix --rev=1 --prev-kv -w json", 1),
            ("watch a b --rev=3", 9),
        ] {
            let mut both = sides.run(words);
            sides.lines(&mut both, lines).await;
        }
        // What is to come begins in the future.
        let mut both = watch(&sides, "watch a --rev=8", 1).await;
        sides.same("put a early").await;
        sides.same("put a due").await;
        assert_eq!(sides.lines(&mut both, 3).await, ["PUT", "a", "due"]);

        sides.same("compaction 5").await;
        let compacted =
            "watch was canceled (etcdserver: mvcc: required revision has been compacted)";
        sides.fails("watch a --rev=3", compacted).await;
        sides.fails("watch a --rev=3 -w json", compacted).await;
    })
    .await;
}

#[tokio::test]
async fn the_interactive_mode_has_several_watches_and_progress() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        let mut both = sides.run("watch -i");
        both.tell("watch a --prev-kv\nwatch b c\n").await;
        for side in [&sides.embedded, &sides.real] {
            eventually(SOON, "two watches", async || side.server.watches().await == 2).await;
        }
        for (change, lines) in [("put a 1", 3), ("put a 2", 5), ("put ba 3", 3), ("del a", 5)] {
            sides.same(change).await;
            sides.lines(&mut both, lines).await;
        }
        if sides.is_new() {
            both.tell("progress\n").await;
            assert_eq!(sides.lines(&mut both, 1).await, ["progress notify: 5"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_quiet_watch_is_told_how_far_it_is() {
    on_each_etcd(async |etcd| {
        // The flag of the server and that of etcdctl came with 3.5.
        if !etcd.at_least(3, 5) {
            return;
        }
        let flags = ["--experimental-watch-progress-notify-interval=100ms"];
        let mut sides = Sides::with_flags(&etcd, &flags).await;
        sides.same("put b 1").await;
        let mut both = sides.run("watch a --progress-notify");
        assert_eq!(sides.lines(&mut both, 2).await, ["progress notify: 2"; 2]);
    })
    .await;
}
