//! Watches while connections, members and history go away, and readers are slow.

use std::{future::IntoFuture, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future::join_all};
use tenure::{
    Client, Error, ErrorKind, Event, EventKind, Revision, WatchResponse, WatchState, WatchStream,
};
use tenure_testkit::{
    Cluster, Direction, Proxy, eventually, on_each_etcd, on_each_listener, on_each_server,
};
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;
use start::{SOON, behind_a_proxy, cluster, start};

async fn told(watch: &mut WatchStream) -> Result<WatchResponse, Error> {
    timeout(SOON, watch.next()).await.expect("something is told").expect("it goes on")
}

async fn event(watch: &mut WatchStream) -> Event {
    let mut events = told(watch).await.unwrap().into_events();
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

/// The revisions of the next so many events.
async fn revisions(watch: &mut WatchStream, count: usize) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        let events = told(watch).await.unwrap().into_events();
        revisions.extend(events.iter().map(|event| event.kv.mod_revision.0));
    }
    revisions
}

async fn put(client: &Client, key: &'static str) -> Revision {
    client.put(key, "value").await.unwrap().header.revision
}

#[tokio::test]
async fn a_watch_goes_on_whenever_its_connection_breaks() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        // While it is being created.
        proxy.refuse();
        let mut watch = client.watch("k").start_revision(Revision(1)).created_notify().open();
        assert!(watch.next().now_or_never().is_none());
        assert_eq!(watch.state(), WatchState::Connecting);
        proxy.pass();
        let created = told(&mut watch).await.unwrap();
        assert_eq!(created, WatchResponse::Created { revision: Revision(1) });
        // Before its first event, after others, and while some are on their way.
        for _ in 0..3 {
            proxy.reset();
            let at = put(&direct, "k").await;
            assert_eq!(event(&mut watch).await.kv.mod_revision, at);
        }
        proxy.cut_after(100);
        let mut last = put(&direct, "k").await;
        for _ in 0..20 {
            last = put(&direct, "k").await;
        }
        let told = revisions(&mut watch, 21).await;
        assert!(told.into_iter().eq(last.0 - 20..=last.0), "each once, in order");
        assert!(watch.next().now_or_never().is_none(), "nor is its creation told again");
    })
    .await;
}

#[tokio::test]
async fn interruptions_are_told_to_those_who_asked() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let mut told_of = client.watch("k").interruptions().await.unwrap();
        let mut silent = client.watch("k").await.unwrap();
        proxy.refuse();
        proxy.reset();
        assert_eq!(told(&mut told_of).await.unwrap(), WatchResponse::Interrupted);
        assert_eq!(told_of.state(), WatchState::Resuming);
        proxy.pass();
        assert_eq!(told(&mut told_of).await.unwrap(), WatchResponse::Resumed);
        let at = put(&direct, "k").await;
        for watch in [&mut told_of, &mut silent] {
            assert_eq!(event(watch).await.kv.mod_revision, at);
            assert_eq!(watch.state(), WatchState::Live);
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_from_the_past_survives_a_pause_of_the_connection() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let mut watch = client.watch("k").start_revision(Revision(1)).await.unwrap();
        proxy.pause();
        let first = put(&direct, "k").await;
        put(&direct, "k").await;
        proxy.pass();
        assert_eq!(revisions(&mut watch, 2).await, [first.0, first.0 + 1]);

        proxy.reset();
        proxy.pause();
        let first = put(&direct, "k").await;
        put(&direct, "k").await;
        proxy.pass();
        assert_eq!(revisions(&mut watch, 2).await, [first.0, first.0 + 1]);
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_was_cut_off_during_a_compaction_has_no_silent_gap() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        for behind in [0, 1, 3, 5] {
            let mut watch = client.watch("k").await.unwrap();
            let seen = put(&direct, "k").await;
            assert_eq!(event(&mut watch).await.kv.mod_revision, seen);
            proxy.refuse();
            proxy.reset();
            for _ in 0..5 {
                put(&direct, "k").await;
            }
            let compacted = Revision(seen.0 + behind);
            direct.compact(compacted).physical().await.unwrap();
            proxy.pass();
            if behind == 0 {
                // What it saw last is not what it still needs.
                let all = seen.0 + 1..=seen.0 + 5;
                assert!(revisions(&mut watch, 5).await.into_iter().eq(all));
            } else {
                let end = told(&mut watch).await.unwrap_err();
                assert_eq!(end.kind(), ErrorKind::Compacted, "{end}");
                assert_eq!(end.compact_revision(), Some(compacted));
                assert!(watch.next().await.is_none());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_deletion_at_the_compacted_revision_is_told_or_the_watch_ends() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        put(&direct, "k").await;
        let mut watch = client.watch("k").await.unwrap();
        proxy.refuse();
        proxy.reset();
        let deleted = direct.delete("k").await.unwrap().header.revision;
        direct.compact(deleted).physical().await.unwrap();
        // etcd 3.4.23 loses it once the compaction is through; then this put would come first.
        let later = put(&direct, "k").await;
        proxy.pass();
        match told(&mut watch).await {
            Ok(response) => {
                let events = response.into_events();
                assert_eq!(events[0].kind, EventKind::Delete, "{events:?}");
                assert_eq!(events[0].kv.mod_revision, deleted);
            }
            Err(end) => {
                assert_eq!(end.kind(), ErrorKind::Compacted);
                // And where it says that there is history, there is.
                let from = end.compact_revision().unwrap();
                let mut again = client.watch("k").start_revision(from).await.unwrap();
                let last = loop {
                    let events = told(&mut again).await.unwrap().into_events();
                    if events.iter().any(|event| event.kv.mod_revision == later) {
                        break later;
                    }
                };
                assert_eq!(last, later);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn progress_before_a_restart_leads_to_no_repeat_after_it() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut watch = client.watch("k").await.unwrap();
        let first = put(&client, "k").await;
        assert_eq!(event(&mut watch).await.kv.mod_revision, first);
        client.request_progress();
        let progress = told(&mut watch).await.unwrap();
        assert_eq!(progress, WatchResponse::Progress { revision: first });
        server.restart().await.unwrap();
        // A read finds out that the connection is gone; a write would not be repeated.
        client.count("k").await.unwrap();
        let second = put(&client, "k").await;
        assert_eq!(event(&mut watch).await.kv.mod_revision, second);
    })
    .await;
}

#[tokio::test]
async fn progress_asked_for_among_history_hides_none_of_it() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let mut last = Revision::NONE;
        for _ in 0..300 {
            last = put(&direct, "k").await;
        }
        let mut watch = client.watch("k").start_revision(Revision(1)).open();
        let mut seen = Vec::new();
        while seen.len() < 300 {
            client.request_progress();
            match told(&mut watch).await.unwrap() {
                WatchResponse::Progress { revision } => {
                    assert_eq!(revision, last);
                    // Servers before 3.4.25 and 3.5.8 say so too early; it must move nothing.
                    proxy.reset();
                }
                other => seen.extend(other.events().iter().map(|event| event.kv.mod_revision.0)),
            }
        }
        assert!(seen.into_iter().eq(2..=last.0), "each once, in order");
        let progress = async {
            loop {
                client.request_progress();
                if told(&mut watch).await.unwrap() == (WatchResponse::Progress { revision: last }) {
                    return;
                }
            }
        };
        timeout(SOON, progress).await.expect("in the end the server answers");
    })
    .await;
}

#[tokio::test]
async fn a_watch_without_history_is_told_progress_in_the_end() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let last = put(&client, "other").await;
        let mut watch = client.watch("k").start_revision(Revision(1)).open();
        let progress = eventually(SOON, "progress is told", async || {
            client.request_progress();
            watch.try_next().now_or_never().map(|told| told.unwrap().unwrap())
        });
        assert_eq!(progress.await, WatchResponse::Progress { revision: last });
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_requires_a_leader_waits_for_one_and_another_is_told_what_there_is() {
    on_each_etcd(async |etcd| {
        let (cluster, direct) = cluster(&etcd, 3).await;
        let at = put(&direct, "k").await;
        let client = Client::connect([cluster.endpoints()[0].clone()]).await.unwrap();
        let mut running = client.watch("k").require_leader().interruptions().await.unwrap();
        cluster.kill(1).unwrap();
        cluster.kill(2).unwrap();
        assert_eq!(told(&mut running).await.unwrap(), WatchResponse::Interrupted);
        let waits = client.watch("k").require_leader().timeout(Duration::from_secs(1));
        let error = waits.await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        let mut plain = client.watch("k").start_revision(at).await.unwrap();
        assert_eq!(event(&mut plain).await.kv.mod_revision, at);

        cluster.restart(1).await.unwrap();
        assert_eq!(told(&mut running).await.unwrap(), WatchResponse::Resumed);
        let mut new = client.watch("k").require_leader().await.unwrap();
        let at = put(&direct, "k").await;
        for watch in [&mut running, &mut plain, &mut new] {
            assert_eq!(event(watch).await.kv.mod_revision, at);
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_leaves_a_member_that_is_cut_off_from_the_leader() {
    on_each_etcd(async |etcd| {
        let builder = Cluster::builder(&etcd).members(3).fast(true).proxied_peers(true);
        let cluster = builder.start().await.unwrap();
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        for _ in 0..2 {
            let mut watch = client.watch("k").require_leader().interruptions().await.unwrap();
            let host = host(&cluster).await;
            cluster.isolate(host).unwrap();
            assert_eq!(told(&mut watch).await.unwrap(), WatchResponse::Interrupted);
            assert_eq!(told(&mut watch).await.unwrap(), WatchResponse::Resumed);
            let others = (0..3).filter(|&index| index != host);
            let others: Vec<_> = others.map(|index| cluster.endpoints()[index].clone()).collect();
            let at = put(&Client::connect(others).await.unwrap(), "k").await;
            assert_eq!(event(&mut watch).await.kv.mod_revision, at);
            cluster.heal(host);
            cluster.wait_ready().await.unwrap();
        }
    })
    .await;
}

/// The member that the only watch stream is on.
async fn host(cluster: &Cluster) -> usize {
    eventually(SOON, "a member has the stream", async || {
        for (index, member) in cluster.members().iter().enumerate() {
            if member.watch_streams().await.is_some_and(|streams| streams > 0) {
                return Some(index);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn a_watch_moves_when_its_stream_is_open_and_silent() {
    on_each_etcd(async |etcd| {
        let (cluster, direct) = cluster(&etcd, 3).await;
        let mut proxies = Vec::new();
        for endpoint in cluster.endpoints() {
            proxies.push(Proxy::start(&endpoint).await.unwrap());
        }
        let client = Client::connect(proxies.iter().map(Proxy::endpoint)).await.unwrap();
        let mut watch = client.watch("k").await.unwrap();
        let host = host(&cluster).await;
        proxies[host].blackhole(Direction::ToClient);
        let at = put(&direct, "k").await;
        assert_eq!(event(&mut watch).await.kv.mod_revision, at);
        // And back again, when the next one goes dark.
        proxies[host].pass();
        for other in (0..3).filter(|&index| index != host) {
            proxies[other].blackhole(Direction::ToClient);
        }
        let at = put(&direct, "k").await;
        assert_eq!(event(&mut watch).await.kv.mod_revision, at);
    })
    .await;
}

#[tokio::test]
async fn a_watch_on_the_only_member_notices_silence_and_goes_on_when_it_is_over() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let mut watch = client.watch("k").interruptions().await.unwrap();
        proxy.blackhole(Direction::ToClient);
        let at = put(&direct, "k").await;
        assert_eq!(told(&mut watch).await.unwrap(), WatchResponse::Interrupted);
        assert_eq!(watch.state(), WatchState::Resuming);
        proxy.pass();
        assert_eq!(told(&mut watch).await.unwrap(), WatchResponse::Resumed);
        assert_eq!(event(&mut watch).await.kv.mod_revision, at);
    })
    .await;
}

#[tokio::test]
async fn a_watch_survives_the_death_of_any_member() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let mut watch = client.watch("k").await.unwrap();
        for hurt in 0..3 {
            cluster.kill(hurt).unwrap();
            // A write is not repeated while the leader dies; the watch is not to blame for that.
            let at = eventually(SOON, "a put succeeds", async || client.put("k", "v").await.ok());
            let at = at.await.header.revision;
            while event(&mut watch).await.kv.mod_revision != at {}
            cluster.restart(hurt).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_member_that_was_restored_from_a_snapshot_tells_what_its_watches_missed() {
    on_each_etcd(async |etcd| {
        let builder = Cluster::builder(&etcd).members(3).fast(true).proxied_peers(true);
        let cluster = builder.flag("--snapshot-count=10").start().await.unwrap();
        let lagging = cluster.leader().await.unwrap().wrapping_add(1) % 3;
        let here = Client::connect([cluster.endpoints()[lagging].clone()]).await.unwrap();
        let mut watch = here.watch("k").await.unwrap();
        let from = watch.created_revision().unwrap();
        cluster.isolate(lagging).unwrap();
        let others = (0..3).filter(|&index| index != lagging);
        let others: Vec<_> = others.map(|index| cluster.endpoints()[index].clone()).collect();
        let there = Client::connect(others).await.unwrap();
        eventually(SOON, "the others have a leader", async || there.count("k").await.is_ok()).await;
        // A leader keeps 5,000 entries of its log for those who lag behind.
        let writers = (0..32).map(|_| async {
            for _ in 0..170 {
                put(&there, "k").await;
            }
        });
        join_all(writers).await;
        let last = there.count("k").await.unwrap().header.revision;
        cluster.heal(lagging);
        let missed = (last.0 - from.0) as usize;
        assert!(missed > 5_000);
        let told = timeout(SOON, revisions(&mut watch, missed)).await.expect("it catches up");
        assert!(told.into_iter().eq(from.0 + 1..=last.0), "each once, in order");
    })
    .await;
}

#[tokio::test]
async fn watches_come_and_go_over_breaking_connections_and_none_ends_with_another() {
    on_each_listener(async |server| {
        let (server, proxy, client, direct) = behind_a_proxy(&server).await;
        let mut kept = Vec::new();
        for round in 0..60 {
            let mut watches = Vec::new();
            for place in 0..4 {
                let request = client.watch("k");
                watches.push(if place % 2 == 0 { request } else { request.require_leader() });
            }
            let mut opened = join_all(watches.into_iter().map(|it| it.into_future())).await;
            if round % 10 == 5 {
                proxy.reset();
            }
            // All of one lane go at once now and then, so that its stream ends under the next.
            let rest = opened.split_off(if round % 20 == 0 { 2 } else { 0 });
            kept.extend(opened.into_iter().map(Result::unwrap));
            drop(rest);
        }
        let at = put(&direct, "k").await;
        for watch in &mut kept {
            assert_eq!(event(watch).await.kv.mod_revision, at);
        }
        let left = kept.len() as u64;
        eventually(SOON, "only those are left at the server", async || {
            server.watches().await == left && server.watch_streams().await <= 2
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn dropping_watches_and_closing_works_while_nobody_can_be_reached() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 1).await;
        let mut watches = Vec::new();
        for _ in 0..1000 {
            watches.push(client.watch("k").open());
        }
        timeout(SOON, watches[999].accepted()).await.unwrap().unwrap();
        cluster.kill(0).unwrap();
        let mut last = watches.pop().unwrap();
        let ends = async {
            drop(watches);
            client.close().await;
            last.next().await.unwrap().unwrap_err()
        };
        let end = timeout(SOON, ends).await.expect("nothing hangs");
        assert_eq!(end.kind(), ErrorKind::Closed);
        assert!(last.next().await.is_none());
    })
    .await;
}

/// A value that says which one it is.
fn big(number: u8) -> Vec<u8> {
    vec![number; 1024 * 1024]
}

#[tokio::test]
async fn ten_events_of_a_mebibyte_arrive_whole_with_fragments_and_without() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        for number in 0..10 {
            client.put("k", big(number)).await.unwrap();
        }
        let limit = 2 * 1024 * 1024;
        let limited = server.connect().max_receive_bytes(limit).connect().await.unwrap();
        for (client, fragment) in [(&client, true), (&client, false), (&limited, true)] {
            let request = client.watch("k").start_revision(Revision(1)).fragment(fragment);
            let mut watch = request.buffer(10, 20 * 1024 * 1024).await.unwrap();
            let mut numbers = Vec::new();
            while numbers.len() < 10 {
                for event in told(&mut watch).await.unwrap().events() {
                    let number = event.kv.value[0];
                    assert!(event.kv.value == big(number), "{number} is not whole");
                    numbers.push(number);
                }
            }
            assert!(numbers.into_iter().eq(0..10), "each once, in order");
        }
    })
    .await;
}
