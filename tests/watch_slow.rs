//! Watches that nobody reads, or not fast enough.

use futures::{FutureExt, StreamExt};
use tenure::{
    Client, Delete, Error, ErrorKind, KeyRange, Put, Revision, WatchResponse, WatchState,
    WatchStream,
};
use tenure_testkit::{eventually, on_each_server};
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;
use start::{SOON, start};

async fn told(watch: &mut WatchStream) -> Result<WatchResponse, Error> {
    timeout(SOON, watch.next()).await.expect("something is told").expect("it goes on")
}

/// The revisions of the next events, up to and with `last`.
async fn revisions(watch: &mut WatchStream, last: Revision) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.last() != Some(&last.0) {
        let events = told(watch).await.unwrap().into_events();
        revisions.extend(events.iter().map(|event| event.kv.mod_revision.0));
    }
    revisions
}

async fn put(client: &Client, value: &str) -> Revision {
    client.put("k", value.to_owned()).await.unwrap().header.revision
}

async fn paused(watch: &WatchStream) {
    eventually(SOON, "it is paused", async || watch.state() == WatchState::Paused).await;
}

#[tokio::test]
async fn a_watch_that_nobody_reads_is_stopped_at_the_server_and_loses_nothing() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut slow = client.watch("k").buffer(10, 1024 * 1024).await.unwrap();
        let mut quick = client.watch("k").await.unwrap();
        let from = slow.created_revision().unwrap();
        let mut last = from;
        for _ in 0..100 {
            last = put(&client, "value").await;
            // Its sibling hears of each at once.
            assert_eq!(revisions(&mut quick, last).await, [last.0]);
        }
        paused(&slow).await;
        let cancelled = async || server.watches().await == 1;
        eventually(SOON, "it is cancelled at the server", cancelled).await;
        // What was accepted before, and no more, lies here.
        let mut read = Vec::new();
        while let Some(told) = slow.next().now_or_never() {
            let events = told.unwrap().unwrap().into_events();
            read.extend(events.iter().map(|event| event.kv.mod_revision.0));
            if read.len() == 10 {
                break;
            }
        }
        assert!(read.iter().copied().eq(from.0 + 1..=from.0 + 10), "{read:?}");
        read.extend(revisions(&mut slow, last).await);
        assert!(read.into_iter().eq(from.0 + 1..=last.0), "each once, in order");
        eventually(SOON, "it is live again", async || slow.state() == WatchState::Live).await;
        assert_eq!(server.watches().await, 2);
        let last = put(&client, "value").await;
        assert_eq!(revisions(&mut slow, last).await, [last.0]);
    })
    .await;
}

#[tokio::test]
async fn bytes_count_as_well_as_events() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut slow = client.watch("k").buffer(1_000_000, 10_000).await.unwrap();
        let from = slow.created_revision().unwrap();
        let kilobyte = "x".repeat(1_000);
        let mut last = from;
        for _ in 0..30 {
            last = put(&client, &kilobyte).await;
        }
        paused(&slow).await;
        assert!(revisions(&mut slow, last).await.into_iter().eq(from.0 + 1..=last.0));
    })
    .await;
}

#[tokio::test]
async fn a_revision_too_big_for_the_buffer_is_told_all_the_same() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for limit in [0, 1, 50, 1_000, 5_000] {
            let range = KeyRange::prefix("k");
            let mut watch = client.watch(range).buffer(1_000, limit).await.unwrap();
            let small = put(&client, "small").await;
            assert_eq!(revisions(&mut watch, small).await, [small.0]);
            // More than is left of the room, or than there is at all, to a reader who waits.
            let reader = tokio::spawn(async move {
                let told = told(&mut watch).await.unwrap();
                (told, watch)
            });
            let puts = (0..10).map(|place| Put::new(format!("k{place}"), "x".repeat(500)));
            client.txn().and_then(puts).await.unwrap();
            let (told, watch) = reader.await.unwrap();
            assert_eq!(told.events().len(), 10, "the events of a revision stay together");
            client.txn().and_then([Delete::new(KeyRange::prefix("k"))]).await.unwrap();
            drop(watch);
        }
    })
    .await;
}

#[tokio::test]
async fn history_is_read_at_the_readers_pace() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut last = Revision::NONE;
        for _ in 0..30 {
            last = put(&client, "value").await;
        }
        for buffer in [1, 2, 7, 20] {
            let request = client.watch("k").start_revision(Revision(2)).buffer(buffer, 1 << 20);
            let mut watch = request.await.unwrap();
            paused(&watch).await;
            assert!(revisions(&mut watch, last).await.into_iter().eq(2..=last.0), "{buffer}");
        }
        eventually(SOON, "none is left", async || server.watches().await == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_was_too_slow_for_a_compaction_tells_what_it_has_and_then_ends() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let mut slow = client.watch("k").buffer(10, 1024 * 1024).await.unwrap();
        let from = slow.created_revision().unwrap();
        let mut last = from;
        for _ in 0..30 {
            last = put(&client, "value").await;
        }
        paused(&slow).await;
        client.compact(last).await.unwrap();
        let mut read = Vec::new();
        let end = loop {
            match told(&mut slow).await {
                Ok(told) => read.extend(told.events().iter().map(|event| event.kv.mod_revision.0)),
                Err(end) => break end,
            }
        };
        assert!(read.into_iter().eq(from.0 + 1..=from.0 + 10), "no gap before the end");
        assert_eq!(end.kind(), ErrorKind::Compacted);
        assert_eq!(end.compact_revision(), Some(last));
        assert!(slow.next().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_paused_watch_survives_a_restart_and_can_be_dropped() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut slow = client.watch("k").buffer(5, 1024 * 1024).await.unwrap();
        let other = client.watch("k").buffer(5, 1024 * 1024).await.unwrap();
        let from = slow.created_revision().unwrap();
        let mut last = from;
        for _ in 0..20 {
            last = put(&client, "value").await;
        }
        paused(&slow).await;
        paused(&other).await;
        server.restart().await.unwrap();
        drop(other);
        assert!(revisions(&mut slow, last).await.into_iter().eq(from.0 + 1..=last.0));
        assert_eq!(server.watches().await, 1);
    })
    .await;
}
