//! Items that are worked on: who has one, and what becomes of those that fail.

use std::future::IntoFuture;

use futures::future::{join_all, try_join_all};
use tenure::{ErrorKind, LossReason, Queue, QueuedState, Session};
use tenure_testkit::on_each_server;

#[path = "support/lock.rs"]
mod lock;
#[path = "support/queue.rs"]
mod queue;
#[path = "support/start.rs"]
mod start;

use lock::{ended, open, stranger, why};
use queue::{idle_are, is_empty, put, take, take_leased};
use start::start;

#[tokio::test]
async fn of_many_writers_and_readers_each_item_reaches_one() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let write = async |writer: usize| {
            let queue = Queue::new(&stranger(&server).await, "q");
            try_join_all(
                (0..20).map(|number| queue.enqueue(format!("{writer}/{number}")).into_future()),
            )
            .await
        };
        let read = async |reader: usize| {
            let queue = Queue::new(&stranger(&server).await, "q");
            let mut read = Vec::new();
            for _ in 0..20 {
                if reader < 2 {
                    read.push(take(&queue).await.value);
                } else {
                    let delivery = take_leased(&queue).await;
                    assert_eq!(delivery.attempts(), 1);
                    read.push(delivery.value().clone());
                    delivery.ack().await.unwrap();
                }
            }
            read
        };
        let (written, read) = tokio::join!(join_all((0..4).map(write)), join_all((0..4).map(read)));
        assert!(written.iter().all(Result::is_ok));
        let mut read = read.concat();
        read.sort();
        read.dedup();
        assert_eq!(read.len(), 80);
        let session = open(&client).await;
        is_empty(&Queue::new(&session, "q")).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_as_the_last() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = Session::builder().name("ann").open(&client).await.unwrap();
        let queue = Queue::new(&session, "q").max_attempts(3);
        put(&queue, "a").await;
        put(&queue, "b").await;
        let first = take_leased(&queue).await;
        assert_eq!((&first.value()[..], first.attempts()), (&b"a"[..], 1));
        assert!(first.is_held());
        let listed = queue.items().await.unwrap();
        let states: Vec<_> = listed.iter().map(|item| (&item.value[..], item.attempts)).collect();
        assert_eq!(states, [(&b"b"[..], 0), (b"a", 1)]);
        let QueuedState::Running(Some(worker)) = &listed[1].state else { panic!("{listed:?}") };
        assert_eq!(worker.lease, Some(session.lease()));
        assert_eq!(worker.holder.as_ref().unwrap().name, "ann");
        // It is not to be removed by its key while somebody works on it.
        let error = queue.remove(listed[1].key.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");

        let fence = first.fence();
        first.nack().await.unwrap();
        let b = take_leased(&queue).await;
        assert_eq!(&b.value()[..], b"b");
        let again = take_leased(&queue).await;
        assert_eq!((&again.value()[..], again.attempts()), (&b"a"[..], 2));
        assert!(again.fence() > fence);
        drop(again);
        let again = take_leased(&queue).await;
        assert_eq!(again.attempts(), 3);
        again.nack().await.unwrap();
        b.ack().await.unwrap();
        let dead = queue.items().await.unwrap();
        assert_eq!((dead.len(), &dead[0].state, dead[0].attempts), (1, &QueuedState::Dead, 3));
        assert!(queue.try_take().await.unwrap().is_none());
        assert!(queue.remove(dead[0].key.clone()).await.unwrap());
        assert!(!queue.remove(dead[0].key.clone()).await.unwrap());
        is_empty(&queue).await;
    })
    .await;
}

#[tokio::test]
async fn the_item_of_a_worker_that_dies_comes_to_another_once() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let (queue, other) = (Queue::new(&session, "q"), Queue::new(&stranger(&server).await, "q"));
        put(&queue, "a").await;
        let held = take_leased(&queue).await;
        held.kv().put("result", "first").await.unwrap();
        // One who waits hears of it...
        let waiting = tokio::spawn(other.take_leased().into_future());
        idle_are(&client, 1).await;
        client.lease_revoke(session.lease()).await.unwrap();
        let again = ended(waiting).await.unwrap();
        assert_eq!((&again.value()[..], again.attempts()), (&b"a"[..], 2));
        assert!(again.fence() > held.fence());
        assert_eq!(why(held.lost()).await, LossReason::Revoked);
        let error = held.kv().put("result", "late").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        let error = held.ack().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        // ... and so does one who comes later, though there is something else to take.
        put(&other, "b").await;
        client.lease_revoke(again.fence().lease).await.unwrap();
        let late = Queue::new(&stranger(&server).await, "q");
        let mut taken = Vec::new();
        for _ in 0..2 {
            let delivery = take_leased(&late).await;
            taken.push((delivery.value().clone(), delivery.attempts()));
            delivery.ack().await.unwrap();
        }
        taken.sort();
        assert_eq!(taken, [("a".into(), 3), ("b".into(), 1)]);
        is_empty(&late).await;
        assert_eq!(client.get("result").await.unwrap().into_kv().unwrap().value, "first");
    })
    .await;
}

#[tokio::test]
async fn a_session_that_closes_gives_back_what_it_works_on() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let (session, other) = (open(&client).await, stranger(&server).await);
        let (queue, other) = (Queue::new(&session, "q"), Queue::new(&other, "q"));
        put(&queue, "a").await;
        let held = take_leased(&queue).await;
        let waiting = tokio::spawn(queue.take().into_future());
        idle_are(&client, 1).await;
        session.close().await.unwrap();
        assert_eq!(ended(waiting).await.unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(held.ack().await.unwrap_err().loss_reason(), Some(LossReason::Closed));
        let again = other.try_take_leased().await.unwrap().expect("it is back");
        assert_eq!(again.attempts(), 2);
        again.ack().await.unwrap();
        is_empty(&other).await;
        idle_are(&client, 0).await;
        let error = queue.enqueue("b").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    })
    .await;
}
