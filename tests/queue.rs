//! The queue: its order, who gets an item, who waits.

use std::{collections::BTreeMap, future::IntoFuture, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use tenure::{Client, Compare, Delete, ErrorKind, Json, KeyRange, Queue, QueuedState, SortBy};
use tenure_testkit::on_each_server;

#[path = "support/lock.rs"]
mod lock;
#[path = "support/queue.rs"]
mod queue;
#[path = "support/start.rs"]
mod start;

use lock::{ended, open, stranger};
use queue::{idle_are, is_empty, put, take, take_leased, wait_for_item};
use start::{SOON, start};

#[tokio::test]
async fn items_come_out_as_they_went_in() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let (writer, reader) = (open(&client).await, stranger(&server).await);
        let (writer, reader) = (Queue::new(&writer, "q"), Queue::new(&reader, "q"));
        for number in 0..20 {
            put(&writer, &number.to_string()).await;
        }
        let listed = reader.items().await.unwrap();
        assert!(listed.iter().all(|item| item.state == QueuedState::Waiting && item.attempts == 0));
        for number in 0..20 {
            assert_eq!(take(&reader).await.value, number.to_string());
        }
        assert!(reader.try_take().await.unwrap().is_none());
        assert!(reader.try_take_leased().await.unwrap().is_none());
        // Other names, whatever is in them, are other queues.
        let session = stranger(&server).await;
        let [one, other] = ["q/1", "q"].map(|name| Queue::new(&session, name));
        put(&one, "x").await;
        assert!(other.try_take().await.unwrap().is_none());
        assert_eq!(Queue::inspect(&client, "q/1").await.unwrap().len(), 1);

        let typed = Json(BTreeMap::from([("to", "all")]));
        one.remove(Queue::inspect(&client, "q/1").await.unwrap()[0].key.clone()).await.unwrap();
        one.enqueue(typed.clone()).await.unwrap();
        let item = take(&one).await;
        assert_eq!(item.json::<BTreeMap<String, String>>().unwrap()["to"], "all");
    })
    .await;
}

#[tokio::test]
async fn an_item_costs_one_request_to_put_and_two_to_take() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = Queue::new(&session, "q");
        let before = server.kv_calls().await;
        put(&queue, "a").await;
        put(&queue, "b").await;
        assert_eq!(server.kv_calls().await, before + 2);
        assert_eq!(take(&queue).await.value, "a");
        assert_eq!(server.kv_calls().await, before + 4);
        assert!(queue.try_take().await.unwrap().is_some());
        assert!(queue.try_take().await.unwrap().is_none());
        assert_eq!(server.kv_calls().await, before + 7);
    })
    .await;
}

#[tokio::test]
async fn with_fifty_idle_consumers_an_item_wakes_one() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = Queue::new(&session, "q");
        let mut sessions = Vec::new();
        let mut waiting = Vec::new();
        for number in 0..50 {
            let session = stranger(&server).await;
            waiting.push(tokio::spawn(Queue::new(&session, "q").take().into_future()));
            sessions.push(session);
            // They stand in this order.
            if number < 3 {
                idle_are(&client, number + 1).await;
            }
        }
        idle_are(&client, 50).await;
        let first = waiting.remove(0);
        // Opening the watches of the first is over once it takes what it did not look for.
        put(&queue, "0").await;
        assert_eq!(ended(first).await.unwrap().value, "0");
        let second = waiting.remove(0);
        put(&queue, "1").await;
        assert_eq!(ended(second).await.unwrap().value, "1");
        let third = waiting.remove(0);
        let before = server.kv_calls().await;
        put(&queue, "2").await;
        assert_eq!(ended(third).await.unwrap().value, "2");
        put(&queue, "3").await;
        let (taken, _, rest) = futures::future::select_all(waiting).await;
        assert_eq!(taken.unwrap().unwrap().value, "3");
        // Of each: put, look, take, leave the line, and the next one looks. What the first of these
        // still owed before, and the last owes now, is about the same.
        let calls = server.kv_calls().await - before;
        assert!(calls <= 16, "{calls} calls for two items");
        assert!(rest.iter().all(|waiting| !waiting.is_finished()));
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_too_long_is_told_and_leaves_the_line() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = Queue::new(&session, "q");
        let soon = Duration::from_millis(50);
        let error = queue.take().timeout(soon).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let error = queue.take_leased().timeout(soon).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        idle_are(&client, 0).await;
        put(&queue, "a").await;
        assert_eq!(queue.take().timeout(SOON).await.unwrap().value, "a");
    })
    .await;
}

#[tokio::test]
async fn who_waited_first_is_served_first() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = Queue::new(&session, "q");
        let other = Queue::new(&stranger(&server).await, "q");
        let first = wait_for_item(&client, &queue).await;
        let second = wait_for_item(&client, &other).await;
        let third = wait_for_item(&client, &queue).await;
        for (number, waiting) in [first, second, third].into_iter().enumerate() {
            put(&queue, &number.to_string()).await;
            assert_eq!(ended(waiting).await.unwrap().value, number.to_string());
        }
    })
    .await;
}

#[tokio::test]
async fn a_wait_outlives_the_deletion_of_everything_and_a_compaction() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = Queue::new(&stranger(&server).await, "q");
        let first = wait_for_item(&client, &queue).await;
        let second = tokio::spawn(queue.take_leased().into_future());
        idle_are(&client, 2).await;
        let deleted = client.delete(KeyRange::prefix("tenure/")).await.unwrap();
        assert!(deleted.deleted >= 2);
        idle_are(&client, 2).await;
        for _ in 0..20 {
            client.put("noise", "x").await.unwrap();
        }
        let revision = client.get("noise").await.unwrap().header.revision;
        client.compact(revision).await.unwrap();
        let producer = Queue::new(&session, "q");
        put(&producer, "a").await;
        put(&producer, "b").await;
        let taken = ended(first).await.unwrap();
        let delivery = ended(second).await.unwrap();
        let mut values = [taken.value, delivery.value().clone()];
        values.sort();
        assert_eq!(values, ["a", "b"]);
        delivery.ack().await.unwrap();
        is_empty(&queue).await;
    })
    .await;
}

#[tokio::test]
async fn a_queue_with_a_bound_is_full_or_waits_for_room() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = Queue::new(&session, "q").bounded(3);
        let added = join_all((0..10).map(|n| queue.enqueue(n.to_string()).into_future())).await;
        assert_eq!(added.iter().filter(|added| added.is_ok()).count(), 3);
        for error in added.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        }
        let error = queue.enqueue("x").timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");

        let producers = (0..4).map(async |writer| {
            let queue = Queue::new(&stranger(&server).await, "q").bounded(3);
            for number in 0..5 {
                queue.enqueue(format!("{writer}/{number}")).timeout(SOON).await.unwrap();
            }
        });
        let consumer = async {
            for _ in 0..23 {
                assert!(queue.items().await.unwrap().len() <= 3);
                take(&queue).await;
            }
        };
        tokio::join!(join_all(producers), consumer);
        is_empty(&queue).await;
    })
    .await;
}

/// What Go's consumer does: the first key by its last change, deleted if it is unchanged.
async fn go_takes(client: &Client, prefix: &'static str) -> Option<Bytes> {
    let first = client.get(KeyRange::prefix(prefix)).first(SortBy::ModRevision).await.unwrap();
    let kv = first.into_kv()?;
    let unchanged = Compare::mod_revision(kv.key.clone()).equal(kv.mod_revision);
    let delete = Delete::new(kv.key.clone());
    let taken = client.txn().when([unchanged]).and_then([delete]).await.unwrap();
    assert!(taken.succeeded);
    Some(kv.value)
}

#[tokio::test]
async fn a_raw_prefix_is_a_queue_of_gos_recipe() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = Queue::at(&session, "app/q");
        // A sibling, which Go's consumers of this prefix would take.
        client.put("app/q2/1", "sibling").await.unwrap();
        assert!(queue.try_take().await.unwrap().is_none());
        client.delete("app/q2/1").await.unwrap();

        // The order is that of etcd, not of the clocks.
        client.put("app/q/1700000000000000009", "go 1").await.unwrap();
        client.put("app/q/1700000000000000001", "go 2").await.unwrap();
        let key = put(&queue, "ours").await;
        let name = key.strip_prefix(b"app/q/").expect("its prefix");
        assert!(name.iter().all(u8::is_ascii_digit), "{key:?}");
        assert_eq!(take(&queue).await.value, "go 1");
        assert_eq!(go_takes(&client, "app/q").await, Some("go 2".into()));

        // Go does not see what is worked on, nor who waits.
        let delivery = take_leased(&queue).await;
        assert_eq!(go_takes(&client, "app/q").await, None);
        let waiting = wait_for_item(&client, &queue).await;
        assert_eq!(go_takes(&client, "app/q").await, None);
        client.put("app/q/1700000000000000005", "go 3").await.unwrap();
        assert_eq!(ended(waiting).await.unwrap().value, "go 3");
        delivery.nack().await.unwrap();
        assert_eq!(go_takes(&client, "app/q").await, Some("ours".into()));
        assert!(Queue::inspect_at(&client, "app/q").await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_cannot_be_is_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let before = server.kv_calls().await;
        let queues = [
            Queue::new(&session, ""),
            Queue::new(&session, "a\0b"),
            Queue::at(&session, ""),
            Queue::at(&session, "tenure/queue"),
            Queue::new(&session, "q").bounded(0),
            Queue::new(&session, "q").max_attempts(0),
        ];
        for queue in queues {
            for error in [
                queue.enqueue("x").await.unwrap_err(),
                queue.take().await.unwrap_err(),
                queue.try_take_leased().await.unwrap_err(),
                queue.items().await.unwrap_err(),
                queue.remove("x").await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            }
        }
        let unwritable = BTreeMap::from([(vec![1], "secret")]);
        let error = Queue::new(&session, "q").enqueue(Json(unwritable)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(!error.to_string().contains("secret"));
        assert_eq!(server.kv_calls().await, before);
    })
    .await;
}
