//! Counters, sequences and blocks of ids.

use std::{collections::BTreeSet, time::Duration};

use actix::Actor;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use tenure::{
    AtomicCounter, Client, Counted, Error, ErrorKind, IdBlocks, Json, Sequence, Stm,
    actor::{AddCount, CounterActor, GetCount, SetCount, StmActor, Transact},
};
use tenure_testkit::{Call, Fault, Server, TestServer, on_each_server, virtual_time};
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;
use start::start;

fn counted(before: i64, after: i64) -> Counted {
    Counted { before, after }
}

async fn value(client: &Client, key: &str) -> Option<Bytes> {
    client.get(key).await.unwrap().into_kv().map(|kv| kv.value)
}

#[tokio::test]
async fn a_counter_tells_what_it_was_before_and_after() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let visits = AtomicCounter::new(&client, "visits/eu");
        assert_eq!(visits.get().await.unwrap(), 0, "never written");
        assert_eq!(visits.add(5).await.unwrap(), counted(0, 5));
        assert_eq!(visits.add(-7).await.unwrap(), counted(5, -2));
        assert_eq!(visits.get().await.unwrap(), -2);
        visits.set(40).await.unwrap();
        assert_eq!(visits.add(1).await.unwrap(), counted(40, 41));
        // Another process, another handle; and as anybody reads it.
        let other = AtomicCounter::new(&server.client().await.unwrap(), "visits/eu");
        assert_eq!(other.add(1).await.unwrap(), counted(41, 42));
        assert_eq!(visits.add(0).await.unwrap(), counted(42, 42));
        let stored = value(&client, "tenure/counter/visits%2Feu").await.unwrap();
        assert_eq!(stored, "42");
        assert_eq!(Json::<i64>::read(&stored).unwrap().0, 42);
        client.put("raw", " 9\n").await.unwrap();
        assert_eq!(AtomicCounter::at(&client, "raw").add(1).await.unwrap(), counted(9, 10));
    })
    .await;
}

#[tokio::test]
async fn a_number_is_set_only_if_it_is_the_expected_one() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let count = AtomicCounter::new(&client, "count");
        assert!(!count.compare_and_set(1, 2).await.unwrap());
        assert_eq!(value(&client, "tenure/counter/count").await, None);
        assert!(count.compare_and_set(0, 2).await.unwrap());
        let fresh = AtomicCounter::new(&server.client().await.unwrap(), "count");
        assert!(!fresh.compare_and_set(0, 3).await.unwrap());
        assert!(fresh.compare_and_set(2, 3).await.unwrap());
        // What it remembers is old.
        assert!(!count.compare_and_set(2, 4).await.unwrap());
        assert!(count.compare_and_set(3, 4).await.unwrap());
        // Of many who want the same change one makes it.
        let racers = (0..8).map(|task| {
            let count = if task % 2 == 0 { count.clone() } else { fresh.clone() };
            tokio::spawn(async move { count.compare_and_set(4, 5).await.unwrap() })
        });
        let made = join_all(racers.collect::<Vec<_>>()).await;
        assert_eq!(made.into_iter().filter(|made| *made.as_ref().unwrap()).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn many_clients_add_up_exactly() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let client = server.client().await.unwrap();
            for _ in 0..4 {
                let count = AtomicCounter::new(&client, "count");
                tasks.push(tokio::spawn(async move {
                    for number in 1..=15 {
                        let counted = count.add(number).await.unwrap();
                        assert_eq!(counted.after - counted.before, number);
                    }
                }));
            }
        }
        try_join_all(tasks).await.unwrap();
        assert_eq!(AtomicCounter::new(&client, "count").get().await.unwrap(), 12 * 120);
    })
    .await;
}

#[tokio::test]
async fn a_change_costs_one_call_while_nobody_else_changes_it() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let count = AtomicCounter::new(&client, "count");
        count.add(1).await.unwrap();
        let before = server.kv_calls().await;
        for _ in 0..5 {
            count.clone().add(1).await.unwrap();
        }
        join_all((0..5).map(|_| count.add(1))).await;
        assert_eq!(server.kv_calls().await - before, 10);
        AtomicCounter::new(&server.client().await.unwrap(), "count").set(0).await.unwrap();
        let before = server.kv_calls().await;
        assert_eq!(count.add(1).await.unwrap(), counted(0, 1));
        assert_eq!(server.kv_calls().await - before, 2, "and two if somebody did");
    })
    .await;
}

#[tokio::test]
async fn what_is_no_number_is_an_error_until_it_is_set() {
    on_each_server(async |server: Server| {
        let (_server, client) = start(&server).await;
        let count = AtomicCounter::new(&client, "count");
        for corrupt in ["secret", "", "1.5", "9223372036854775808", "\u{ff}"] {
            client.put("tenure/counter/count", corrupt).await.unwrap();
            for error in [
                count.get().await.unwrap_err(),
                count.add(1).await.unwrap_err(),
                count.compare_and_set(0, 1).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
                assert!(!error.to_string().contains("secret"), "{error}");
            }
            assert_eq!(value(&client, "tenure/counter/count").await.unwrap(), corrupt);
        }
        count.set(i64::MAX).await.unwrap();
        let error = count.add(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(count.add(-1).await.unwrap(), counted(i64::MAX, i64::MAX - 1));
    })
    .await;
}

#[tokio::test]
async fn bad_names_are_refused_before_anything_is_sent() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let before = server.kv_calls().await;
        let mut errors = Vec::new();
        for name in ["", "a\0b"] {
            let count = AtomicCounter::new(&client, name);
            errors.push(count.get().await.unwrap_err());
            errors.push(count.add(1).await.unwrap_err());
            errors.push(count.set(1).await.unwrap_err());
            errors.push(count.compare_and_set(0, 1).await.unwrap_err());
            errors.push(Sequence::new(&client, name).next().await.unwrap_err());
            errors.push(IdBlocks::new(&client, name, 10).next().await.unwrap_err());
        }
        errors.push(AtomicCounter::at(&client, "").add(1).await.unwrap_err());
        errors.push(Sequence::at(&client, "").next().await.unwrap_err());
        errors.push(IdBlocks::new(&client, "ids", 0).next().await.unwrap_err());
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert_eq!(server.kv_calls().await, before);
    })
    .await;
}

#[tokio::test]
async fn a_sequence_rises_and_gives_nothing_twice() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let before = server.kv_calls().await;
        let (first, second) = (Sequence::new(&client, "a"), Sequence::new(&client, "b"));
        let one = first.next().await.unwrap();
        let two = second.next().await.unwrap();
        assert!(one < two && two < first.next().await.unwrap());
        assert_eq!(server.kv_calls().await - before, 3);

        let mut tasks = Vec::new();
        for _ in 0..3 {
            let orders = Sequence::new(&server.client().await.unwrap(), "orders");
            tasks.push(tokio::spawn(async move {
                let mut given = Vec::new();
                for _ in 0..30 {
                    given.push(orders.next().await.unwrap());
                }
                assert!(given.is_sorted());
                given
            }));
        }
        let given = try_join_all(tasks).await.unwrap().concat();
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 90);
    })
    .await;
}

#[test]
fn an_answer_that_is_lost_costs_a_number() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request()] {
        virtual_time(async |server: TestServer| {
            let client = server.client().await.unwrap();
            let embedded = server.embedded().expect("virtual time has no other server");
            let orders = Sequence::new(&client, "orders");
            let first = orders.next().await.unwrap();
            let lost = embedded.inject(fault.clone().on(Call::Put).times(1));
            let second = orders.next().await.unwrap();
            assert!(first < second && lost.is_spent());
            // Not for ever.
            let _lost = embedded.inject(fault.on(Call::Put));
            let error = orders.next().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
        });
    }
}

#[tokio::test]
async fn ids_are_unique_across_clients_and_crashes() {
    on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        let before = server.kv_calls().await;
        let ids = IdBlocks::new(&client, "orders", 10);
        let mut given = BTreeSet::new();
        for _ in 0..20 {
            assert!(given.insert(ids.clone().next().await.unwrap()));
        }
        assert_eq!(given, (1..=20).collect());
        // A look at the counter, and two blocks.
        assert_eq!(server.kv_calls().await - before, 3);

        // Processes that end in the middle of a block, and of fetching one.
        for crash in 0..20 {
            let ids = IdBlocks::new(&server.client().await.unwrap(), "orders", 7);
            let span = Duration::from_micros(100 * crash);
            let _ = timeout(span, async {
                loop {
                    assert!(given.insert(ids.next().await.unwrap()));
                }
            })
            .await;
        }
        let tasks = (0..4).map(|_| {
            let ids = ids.clone();
            tokio::spawn(async move {
                let mut given = Vec::new();
                for _ in 0..25 {
                    given.push(ids.next().await.unwrap());
                }
                given
            })
        });
        for id in try_join_all(tasks.collect::<Vec<_>>()).await.unwrap().concat() {
            assert!(given.insert(id), "{id} twice");
        }
    })
    .await;
}

#[test]
fn a_block_that_could_not_be_fetched_is_told_and_the_next_call_fetches_one() {
    virtual_time(async |server: TestServer| {
        let client = server.client().await.unwrap();
        let embedded = server.embedded().expect("virtual time has no other server");
        let ids = IdBlocks::new(&client, "orders", 2);
        assert_eq!((ids.next().await.unwrap(), ids.next().await.unwrap()), (1, 2));
        let lost = embedded.inject(Fault::lose_answer().on(Call::Txn).times(1));
        let error = ids.next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
        drop(lost);
        // Those of the block that was lost are given to nobody.
        assert_eq!((ids.next().await.unwrap(), ids.next().await.unwrap()), (5, 6));
    });
}

#[test]
fn counters_and_transactions_are_spoken_to_in_messages() {
    actix::System::new().block_on(on_each_server(async |server: Server| {
        let (server, _) = start(&server).await;
        let client = server.connect().current_arbiter().connect().await.unwrap();
        let visits = CounterActor::of(AtomicCounter::new(&client, "visits")).start();
        assert_eq!(visits.send(AddCount(3)).await.unwrap().unwrap(), counted(0, 3));
        let adds = join_all((0..5).map(|_| visits.send(AddCount(1)))).await;
        assert!(adds.into_iter().all(|added| added.unwrap().is_ok()));
        assert_eq!(visits.send(GetCount).await.unwrap().unwrap(), 8);
        visits.send(SetCount(1)).await.unwrap().unwrap();

        let stm = StmActor::of(Stm::new(&client)).start();
        let doubled = stm
            .send(Transact::new(async |view| {
                let key = "tenure/counter/visits";
                let value = view.get(key).await?.unwrap_or_default();
                let Json(number) = Json::<i64>::read(&value)?;
                view.put(key, Json(2 * number))?;
                Ok::<_, Error>(2 * number)
            }))
            .await;
        assert_eq!(doubled.unwrap().unwrap(), 2);
        assert_eq!(visits.send(GetCount).await.unwrap().unwrap(), 2);
    }));
}
