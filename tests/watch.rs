//! Watches: who is told what, in which order, and how a watch ends.

use std::{future::IntoFuture, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future::join_all, stream::FusedStream};
use tenure::{
    Client, Delete, ErrorKind, Event, EventKind, KeyRange, Op, Put, Revision, WatchRequest,
    WatchResponse, WatchState, WatchStream,
};
use tenure_testkit::{Call, eventually, on_each_server};
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;
use start::{SOON, start, start_with};

async fn next(watch: &mut WatchStream) -> WatchResponse {
    timeout(SOON, watch.try_next()).await.expect("something is told").unwrap().unwrap()
}

/// Exactly so many events, in short: `key=value` or `key gone`.
async fn told(watch: &mut WatchStream, count: usize) -> Vec<String> {
    events(watch, count).await.iter().map(brief).collect()
}

async fn events(watch: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(next(watch).await.into_events());
    }
    assert_eq!(events.len(), count, "{events:?}");
    events
}

fn brief(event: &Event) -> String {
    let key = String::from_utf8_lossy(&event.kv.key);
    match event.kind {
        EventKind::Put => format!("{key}={}", String::from_utf8_lossy(&event.kv.value)),
        EventKind::Delete => format!("{key} gone"),
    }
}

async fn put(client: &Client, key: &'static str, value: &'static str) -> Revision {
    client.put(key, value).await.unwrap().header.revision
}

#[tokio::test]
async fn each_watch_is_told_of_its_own_keys_and_of_nothing_else() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let ranges = || {
            let keys = ["a", "b", "c"].map(KeyRange::from);
            keys.into_iter().chain([KeyRange::prefix("b"), KeyRange::span("a", "c")])
        };
        let mut live = Vec::new();
        for range in ranges() {
            live.push(client.watch(range).await.unwrap());
        }
        let first = put(&client, "a", "1").await;
        put(&client, "b", "1").await;
        put(&client, "bb", "1").await;
        put(&client, "c", "1").await;
        client.delete("b").await.unwrap();
        let end = ["a", "b", "bb", "c"].map(|key| Put::new(key, "end"));
        client.txn().and_then(end).await.unwrap();
        // The second time the same from the past.
        let mut past = Vec::new();
        for range in ranges() {
            past.push(client.watch(range).start_revision(first).await.unwrap());
        }
        for mut watches in [live, past] {
            let expected: [&[&str]; 5] = [
                &["a=1", "a=end"],
                &["b=1", "b gone", "b=end"],
                &["c=1", "c=end"],
                &["b=1", "bb=1", "b gone", "b=end", "bb=end"],
                &["a=1", "b=1", "bb=1", "b gone", "a=end", "b=end", "bb=end"],
            ];
            for (watch, expected) in watches.iter_mut().zip(expected) {
                let mut heard = told(watch, expected.len()).await;
                // The order within a revision is the server's.
                let border = heard.iter().position(|event| event.ends_with("=end")).unwrap();
                heard[border..].sort();
                assert_eq!(heard, expected);
                assert!(watch.next().now_or_never().is_none(), "nothing more");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_begins_after_the_revision_at_which_it_was_accepted() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for range in [KeyRange::key("k"), KeyRange::prefix("k"), KeyRange::span("j", "l")] {
            let before = put(&client, "k", "before").await;
            let mut watch = client.watch(range).created_notify().await.unwrap();
            assert_eq!(watch.created_revision(), Some(before));
            assert_eq!(watch.state(), WatchState::Live);
            let after = put(&client, "k", "after").await;
            assert_eq!(next(&mut watch).await, WatchResponse::Created { revision: before });
            let WatchResponse::Events { events, revision } = next(&mut watch).await else {
                panic!("an event was due")
            };
            assert_eq!((revision, after), (before.next(), before.next()));
            assert_eq!(events.iter().map(brief).collect::<Vec<_>>(), ["k=after"]);
            assert_eq!(events[0].kv.mod_revision, after);
            assert!(watch.next().now_or_never().is_none(), "created is told once");
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_from_a_revision_to_come_is_silent_until_then() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let now = put(&client, "k", "0").await;
        let start = Revision(now.0 + 10);
        let mut watch = client.watch("k").start_revision(start).await.unwrap();
        for _ in 0..12 {
            put(&client, "k", "1").await;
        }
        let revisions = events(&mut watch, 3).await;
        let revisions: Vec<_> = revisions.iter().map(|event| event.kv.mod_revision.0).collect();
        assert_eq!(revisions, [start.0, start.0 + 1, start.0 + 2]);
    })
    .await;
}

#[tokio::test]
async fn history_is_told_before_what_happens_now() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for _ in 0..50 {
            put(&client, "k", "past").await;
        }
        for start in [1, 2] {
            let request = client.watch("k").start_revision(Revision(start));
            let mut watch = request.await.unwrap();
            let from = watch.created_revision().unwrap();
            for _ in 0..20 {
                put(&client, "k", "now").await;
            }
            let events = events(&mut watch, from.0 as usize - 1 + 20).await;
            let revisions = events.iter().map(|event| event.kv.mod_revision.0);
            assert!(revisions.eq(2..=from.0 + 20), "each once, in order");
        }
    })
    .await;
}

#[tokio::test]
async fn watches_opened_among_writes_miss_nothing_after_their_acceptance() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let writer = tokio::spawn({
            let client = client.clone();
            async move {
                for _ in 0..300 {
                    put(&client, "k", "v").await;
                }
            }
        });
        let mut watches = join_all((0..100).map(|_| client.watch("k").into_future())).await;
        writer.await.unwrap();
        let last = put(&client, "k", "last").await;
        for watch in &mut watches {
            let watch = watch.as_mut().unwrap();
            let created = watch.created_revision().unwrap();
            let events = events(watch, (last.0 - created.0) as usize).await;
            let revisions = events.iter().map(|event| event.kv.mod_revision.0);
            assert!(revisions.eq(created.0 + 1..=last.0));
        }
    })
    .await;
}

#[tokio::test]
async fn the_events_of_a_transaction_come_together_live_and_from_history() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut live = client.watch(KeyRange::prefix("k")).await.unwrap();
        let mut expected = Vec::new();
        for value in ["1", "2", "3"] {
            let puts = ["k1", "k2", "k3"].map(|key| Op::from(Put::new(key, value)));
            let ops = puts.into_iter().chain([Delete::new(KeyRange::prefix("kd")).into()]);
            client.txn().and_then(ops).await.unwrap();
            expected.push(["k1", "k2", "k3"].map(|key| format!("{key}={value}")));
        }
        let mut past = client.watch(KeyRange::prefix("k")).start_revision(Revision(2)).open();
        for watch in [&mut live, &mut past] {
            let mut heard = Vec::new();
            while heard.len() < 3 {
                let events = next(watch).await.into_events();
                for together in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
                    let mut together: Vec<_> = together.iter().map(brief).collect();
                    together.sort();
                    heard.push(together);
                }
            }
            assert_eq!(heard, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn creations_changes_deletions_and_expiries_are_told_apart() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut watch = client.watch(KeyRange::all()).await.unwrap();
        put(&client, "k", "1").await;
        client.put("k", "").await.unwrap();
        client.delete("k").await.unwrap();
        let lease = client.lease_grant(Duration::from_secs(1)).await.unwrap();
        client.put("k", "leased").lease(lease.id).await.unwrap();
        let events = events(&mut watch, 5).await;
        let kinds: Vec<_> = events
            .iter()
            .map(|event| (event.kind, event.is_create(), event.is_modify(), event.kv.version))
            .collect();
        let create = (EventKind::Put, true, false, 1);
        let delete = (EventKind::Delete, false, false, 0);
        assert_eq!(kinds, [create, (EventKind::Put, false, true, 2), delete, create, delete]);
        assert!(events[1].kv.value.is_empty(), "an empty value is a put all the same");
        assert_eq!(events[3].kv.lease, Some(lease.id));
    })
    .await;
}

#[tokio::test]
async fn filters_leave_out_puts_or_deletions() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut deletions = client.watch("k").without_puts().await.unwrap();
        let mut puts = client.watch("k").without_deletes().await.unwrap();
        for value in ["1", "2"] {
            put(&client, "k", value).await;
            client.delete("k").await.unwrap();
        }
        assert_eq!(told(&mut puts, 2).await, ["k=1", "k=2"]);
        assert_eq!(told(&mut deletions, 2).await, ["k gone", "k gone"]);
    })
    .await;
}

#[tokio::test]
async fn the_old_value_comes_to_those_who_asked_for_it_and_to_nobody_else() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut watches = Vec::new();
        for place in 0..12 {
            let range = match place % 3 {
                0 => KeyRange::key("k"),
                1 => KeyRange::prefix("k"),
                _ => KeyRange::span("k", "l"),
            };
            let plain = client.watch(range);
            let request = if place % 2 == 0 { plain.prev_kv() } else { plain };
            // Two streams: etcd shares event objects among all of them.
            let request = if place % 4 < 2 { request } else { request.require_leader() };
            watches.push((place % 2 == 0, request.await.unwrap()));
        }
        for value in ["1", "2", "3"] {
            put(&client, "k", value).await;
        }
        client.delete("k").await.unwrap();
        for (asked, watch) in &mut watches {
            let events = events(watch, 4).await;
            let before: Vec<_> =
                events.iter().map(|event| event.prev_kv.as_ref().map(|kv| &kv.value[..])).collect();
            let values: [Option<&[u8]>; 4] = [None, Some(b"1"), Some(b"2"), Some(b"3")];
            assert_eq!(before, if *asked { values } else { [None; 4] });
        }
    })
    .await;
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let bad: [fn(&Client) -> WatchRequest; 4] = [
            |client| client.watch(""),
            |client| client.watch(KeyRange::span("b", "a")),
            |client| client.watch(KeyRange::span("a", "a")),
            |client| client.watch("k").start_revision(Revision(-1)),
        ];
        for request in bad {
            let error = request(&client).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            let mut stream = request(&client).open();
            let error = stream.next().await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(stream.next().await.is_none());
            assert!(stream.is_terminated());
        }
        // The answer to this comes after anything that was sent before it.
        client.count("k").await.unwrap();
        assert_eq!(server.calls(Call::Watch).await, 0);
        // What is unusual and allowed.
        let mut watches = Vec::new();
        for start in [0, 1] {
            let request = client.watch(KeyRange::starting_at("a")).start_revision(Revision(start));
            watches.push(request.await.unwrap());
        }
        put(&client, "z", "1").await;
        for watch in &mut watches {
            assert_eq!(told(watch, 1).await, ["z=1"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_from_before_the_compaction_ends_and_says_from_where_there_is_history() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut sibling = client.watch("k").await.unwrap();
        for _ in 0..8 {
            put(&client, "k", "v").await;
        }
        client.compact(Revision(7)).await.unwrap();
        let mut watch = client.watch("k").start_revision(Revision(3)).open();
        let error = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compacted);
        assert_eq!(error.compact_revision(), Some(Revision(7)));
        assert!(watch.next().await.is_none());
        assert_eq!(watch.state(), WatchState::Ended);
        // From there on it works, and the end of one concerns no other.
        let mut again = client.watch("k").start_revision(Revision(7)).await.unwrap();
        assert_eq!(events(&mut again, 3).await[0].kv.mod_revision, Revision(7));
        assert_eq!(events(&mut sibling, 8).await[7].kv.mod_revision, Revision(9));
    })
    .await;
}

#[tokio::test]
async fn a_thousand_watches_use_one_stream_and_end_at_the_server_when_dropped() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let accepted = (0..1000).map(|place| client.watch(format!("k{place}")).into_future());
        let mut watches: Vec<_> =
            join_all(accepted).await.into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(server.watches().await, 1000);
        assert_eq!(server.watch_streams().await, 1);
        for value in ["1", "2"] {
            let puts = (990..1000).map(|place| Put::new(format!("k{place}"), value));
            client.txn().and_then(puts).await.unwrap();
        }
        drop(watches.drain(..500));
        eventually(SOON, "half of them are gone", async || server.watches().await == 500).await;
        for (place, watch) in (990..).zip(&mut watches[490..]) {
            let expected = ["1", "2"].map(|value| format!("k{place}={value}"));
            assert_eq!(told(watch, 2).await, expected);
        }
        drop(watches);
        eventually(SOON, "all of them, and the stream", async || {
            server.watches().await == 0 && server.watch_streams().await == 0
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_watch_given_up_before_it_is_accepted_leaves_nothing_behind() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut sibling = client.watch("k").await.unwrap();
        for _ in 0..100 {
            assert!(client.watch("k").into_future().now_or_never().is_none());
            drop(client.watch("k").open());
            // One that is still busy with history.
            drop(client.watch("k").start_revision(Revision(1)).open());
        }
        put(&client, "k", "1").await;
        assert_eq!(told(&mut sibling, 1).await, ["k=1"]);
        eventually(SOON, "only the sibling is left", async || server.watches().await == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_closed_client_ends_its_watches_and_takes_no_more() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut watches = Vec::new();
        for _ in 0..1000 {
            watches.push(client.watch(KeyRange::all()).open());
            watches.push(client.watch("k").require_leader().open());
        }
        timeout(SOON, watches[1999].accepted()).await.unwrap().unwrap();
        watches.truncate(1000);
        put(&client, "k", "1").await;
        assert_eq!(told(&mut watches[0], 1).await, ["k=1"]);
        timeout(SOON, client.close()).await.expect("closing takes a second at most");
        for watch in &mut watches[..2] {
            let end = timeout(SOON, async {
                loop {
                    if let Err(end) = watch.next().await.expect("it says why it ends") {
                        return end;
                    }
                }
            });
            assert_eq!(end.await.unwrap().kind(), ErrorKind::Closed);
            assert!(watch.next().await.is_none());
        }
        eventually(SOON, "nothing of it is left at the server", async || {
            server.watches().await == 0 && server.watch_streams().await == 0
        })
        .await;
        let error = timeout(SOON, client.watch("k")).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn progress_is_told_regularly_to_those_who_asked_for_it() {
    on_each_server(async |server| {
        let often = "--experimental-watch-progress-notify-interval=200ms";
        let (_server, client) = start_with(&server, &[often]).await;
        let now = put(&client, "other", "1").await;
        let mut asked = client.watch("k").progress_notify().await.unwrap();
        let mut silent = client.watch("k").await.unwrap();
        for _ in 0..2 {
            assert_eq!(next(&mut asked).await, WatchResponse::Progress { revision: now });
        }
        let then = put(&client, "k", "1").await;
        let event = loop {
            match next(&mut asked).await {
                WatchResponse::Progress { revision } => assert_eq!(revision, now),
                event => break event,
            }
        };
        assert_eq!(event.events()[0].kv.mod_revision, then);
        assert_eq!(next(&mut asked).await, WatchResponse::Progress { revision: then });
        assert_eq!(told(&mut silent, 1).await, ["k=1"]);
        assert!(silent.next().now_or_never().is_none());
    })
    .await;
}

#[tokio::test]
async fn progress_on_request_is_told_to_all_watches() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        client.request_progress();
        let now = put(&client, "other", "1").await;
        let mut watches = Vec::new();
        for count in 1..=2 {
            watches.push(client.watch("k").await.unwrap());
            client.request_progress();
            for watch in &mut watches {
                // The newest may have been told of the request made before there was any watch.
                let told = next(watch).await;
                assert_eq!(told, WatchResponse::Progress { revision: now }, "of {count} watches");
            }
        }
    })
    .await;
}
