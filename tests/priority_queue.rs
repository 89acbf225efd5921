//! The queue with priorities.

use std::{future::IntoFuture, time::Duration};

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use tenure::{
    Client, Compare, Delete, Delivery, ErrorKind, GetResponse, KeyRange, PriorityQueue, Put,
    QueueItem, QueuedState, Revision, SortBy,
};
use tenure_testkit::{eventually, on_each_server};
use tokio::time::timeout;

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{ended, open, stranger};
use start::{SOON, start};

async fn put(queue: &PriorityQueue, priority: u16, value: &str) -> Bytes {
    timeout(SOON, queue.enqueue(priority, value)).await.expect("it is put").unwrap()
}

async fn take(queue: &PriorityQueue) -> QueueItem {
    timeout(SOON, queue.take()).await.expect("there is an item").unwrap()
}

async fn take_leased(queue: &PriorityQueue) -> Delivery {
    timeout(SOON, queue.take_leased()).await.expect("there is an item").unwrap()
}

#[tokio::test]
async fn the_lowest_priority_is_first_and_of_one_priority_the_oldest() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = PriorityQueue::new(&session, "q");
        let other = PriorityQueue::new(&stranger(&server).await, "q");
        for (priority, value) in [(9, "c"), (1, "a"), (9, "d"), (u16::MAX, "e"), (1, "b")] {
            put(&queue, priority, value).await;
        }
        assert_eq!(take(&other).await.value, "a");
        // What is added meanwhile finds its place, whoever adds it.
        put(&other, 0, "now").await;
        put(&other, 9, "d2").await;
        put(&queue, 9, "d3").await;
        let listed = other.items().await.unwrap();
        let mut taken = Vec::new();
        for _ in &listed {
            taken.push(take(&queue).await.value);
        }
        assert_eq!(taken, ["now", "b", "c", "d", "d2", "d3", "e"]);
        let listed: Vec<_> = listed.into_iter().map(|item| item.value).collect();
        assert_eq!(taken, listed);
        assert!(other.try_take().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn after_the_first_an_item_costs_one_request_to_put_and_two_to_take() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let queue = PriorityQueue::new(&open(&client).await, "q");
        let other = PriorityQueue::new(&stranger(&server).await, "q");
        let before = server.kv_calls().await;
        put(&queue, 1, "a").await;
        put(&queue, 1, "b").await;
        assert_eq!(server.kv_calls().await, before + 2);
        // One who does not know the end finds it by the way.
        put(&other, 1, "c").await;
        assert_eq!(server.kv_calls().await, before + 4);
        assert_eq!(take(&queue).await.value, "a");
        assert_eq!(server.kv_calls().await, before + 6);
    })
    .await;
}

#[tokio::test]
async fn of_many_writers_and_readers_each_item_reaches_one_in_its_order() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let write = async |writer: usize| {
            let queue = PriorityQueue::new(&stranger(&server).await, "q");
            let all = (0..20)
                .map(|n| queue.enqueue((n % 2) as u16, format!("{writer}/{n:02}")).into_future());
            try_join_all(all).await.unwrap();
        };
        join_all((0..4).map(write)).await;
        let read = async |_| {
            let queue = PriorityQueue::new(&stranger(&server).await, "q");
            let mut read = Vec::new();
            for _ in 0..20 {
                let delivery = take_leased(&queue).await;
                read.push((delivery.fence(), delivery.value().clone()));
                delivery.ack().await.unwrap();
            }
            read
        };
        let mut read = join_all((0..4).map(read)).await.concat();
        // In the order in which they were taken: all of the first priority, then the others.
        read.sort_by(|(one, _), (other, _)| one.partial_cmp(other).expect("one cluster"));
        let even = |value: &Bytes| value.last().is_some_and(|digit| digit % 2 == 0);
        assert!(read[..40].iter().all(|(_, value)| even(value)));
        let mut values: Vec<_> = read.into_iter().map(|(_, value)| value).collect();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 80);
        let session = open(&client).await;
        assert!(PriorityQueue::new(&session, "q").items().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_comes_back_is_the_last_of_its_priority() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = PriorityQueue::new(&session, "q").max_attempts(4);
        put(&queue, 5, "a").await;
        put(&queue, 5, "b").await;
        put(&queue, 7, "c").await;
        take_leased(&queue).await.nack().await.unwrap();
        let waiting = queue.items().await.unwrap();
        let listed: Vec<_> = waiting.iter().map(|item| (&item.value[..], item.attempts)).collect();
        assert_eq!(listed, [(&b"b"[..], 0), (b"a", 1), (b"c", 0)]);
        assert_eq!(take(&queue).await.value, "b");
        // Dropped: whoever looks next finds it.
        drop(take_leased(&queue).await);
        let is_free = async || {
            let items = queue.items().await.unwrap();
            items.iter().all(|item| !matches!(item.state, QueuedState::Running(Some(_))))
        };
        eventually(SOON, "its worker is gone", is_free).await;
        let other = PriorityQueue::new(&stranger(&server).await, "q").max_attempts(4);
        let a = take_leased(&other).await;
        assert_eq!((&a.value()[..], a.attempts()), (&b"a"[..], 3));
        assert_eq!(take(&queue).await.value, "c");
        a.nack().await.unwrap();
        let a = take_leased(&queue).await;
        assert_eq!(a.attempts(), 4);
        drop(a);
        let is_dead = async || {
            let items = queue.items().await.unwrap();
            matches!(&items[..], [item] if item.state == QueuedState::Dead)
        };
        eventually(SOON, "it is a dead letter", is_dead).await;
    })
    .await;
}

#[tokio::test]
async fn one_who_waits_hears_of_items_and_of_workers_that_die() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = PriorityQueue::new(&session, "q");
        let other = PriorityQueue::new(&stranger(&server).await, "q");
        let waiting = tokio::spawn(other.take_leased().into_future());
        put(&queue, 3, "a").await;
        let held = ended(waiting).await.unwrap();
        let waiting = tokio::spawn(queue.take_leased().into_future());
        let work =
            async || client.count(KeyRange::prefix("tenure/queue-work/")).await.unwrap().count;
        eventually(SOON, "a job, its worker, and one who waits", async || work().await == 3).await;
        client.lease_revoke(held.fence().lease).await.unwrap();
        let again = ended(waiting).await.unwrap();
        assert_eq!((&again.value()[..], again.attempts()), (&b"a"[..], 2));
        again.ack().await.unwrap();
        let error = queue.take().timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(queue.items().await.unwrap().is_empty());
    })
    .await;
}

/// What Go's producer does for a priority: one more than the last number, if nobody else wrote
/// the bookkeeping key since it was read.
async fn go_puts(client: &Client, value: &'static str) {
    let (items, book) = ("app/q/00005", "__app/q/00005");
    let last = client.get(KeyRange::prefix(items)).last(SortBy::Key).await.unwrap();
    let read = last.header.revision;
    // Sscanf takes the digits, and leaves the rest.
    let number = |kv: tenure::KeyValue| {
        let name = String::from_utf8(kv.key.to_vec()).unwrap();
        let last = name.rsplit('/').next().unwrap().to_owned();
        let digits: String = last.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap() + 1
    };
    let next = last.into_kv().map_or(0, number);
    let unchanged = Compare::mod_revision(book).less(Revision(read.0 + 1));
    let puts = [Put::new(book, ""), Put::new(format!("{items}/{next:016}"), value)];
    assert!(client.txn().when([unchanged]).and_then(puts).await.unwrap().succeeded);
}

/// What Go's consumer does: the first key, deleted if it is unchanged.
async fn go_takes(client: &Client) -> Option<Bytes> {
    let kv =
        client.get(KeyRange::prefix("app/q/")).first(SortBy::Key).await.map(GetResponse::into_kv);
    let kv = kv.unwrap()?;
    let unchanged = Compare::mod_revision(kv.key.clone()).equal(kv.mod_revision);
    let taken = client.txn().when([unchanged]).and_then([Delete::new(kv.key.clone())]).await;
    assert!(taken.unwrap().succeeded);
    Some(kv.value)
}

#[tokio::test]
async fn a_raw_prefix_is_a_priority_queue_of_gos_recipe() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = PriorityQueue::at(&session, "app/q");
        go_puts(&client, "go 1").await;
        assert_eq!(put(&queue, 5, "ours 2").await, "app/q/00005/0000000000000001");
        assert_eq!(put(&queue, 5, "ours 3").await, "app/q/00005/0000000000000002");
        go_puts(&client, "go 4").await;
        assert_eq!(put(&queue, 5, "ours 5").await, "app/q/00005/0000000000000004");
        assert_eq!(take(&queue).await.value, "go 1");
        assert_eq!(go_takes(&client).await, Some("ours 2".into()));
        let delivery = take_leased(&queue).await;
        assert_eq!(&delivery.value()[..], b"ours 3");
        delivery.nack().await.unwrap();
        go_puts(&client, "go 6").await;
        for value in ["go 4", "ours 5", "ours 3", "go 6"] {
            assert_eq!(go_takes(&client).await, Some(value.into()));
        }
        // With nothing left Go counts from 0 again, and so do we once we look.
        assert_eq!(go_takes(&client).await, None);
        go_puts(&client, "go 7").await;
        assert_eq!(put(&queue, 5, "ours 8").await, "app/q/00005/0000000000000001");
        assert_eq!(take(&queue).await.value, "go 7");
        assert_eq!(PriorityQueue::inspect_at(&client, "app/q").await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_priority_queue_can_be_bounded_and_its_items_removed() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let queue = PriorityQueue::new(&session, "q").bounded(2);
        put(&queue, 1, "a").await;
        let b = put(&queue, 2, "b").await;
        let error = queue.enqueue(3, "c").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        let waiting = tokio::spawn(queue.enqueue(0, "c").timeout(SOON).into_future());
        assert!(queue.remove(b).await.unwrap());
        ended(waiting).await.unwrap();
        assert_eq!(take(&queue).await.value, "c");
        assert_eq!(take(&queue).await.value, "a");
        for error in [
            PriorityQueue::new(&session, "").take().await.unwrap_err(),
            PriorityQueue::new(&session, "q").bounded(0).enqueue(0, "x").await.unwrap_err(),
            PriorityQueue::new(&session, "q").max_attempts(0).take_leased().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    })
    .await;
}
