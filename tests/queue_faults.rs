//! Queues on a server that does as it is told: answers that are lost, copies that come late,
//! workers that die between any two requests, consumers that give up at the worst moment. On the
//! embedded server, in virtual time.

use std::{cell::Cell, future::IntoFuture, time::Duration};

use bytes::Bytes;
use tenure::{
    Client, Code, ErrorKind, KeyRange, LossReason, PriorityQueue, Queue, QueuedState, Result,
    Session,
};
use tenure_testkit::{Call, Embedded, Fault, TestServer, eventually, virtual_time};
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};

#[path = "support/copies.rs"]
mod copies;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use copies::{comes_late, txns};
use lock::{ended, open, open_for, seconds, stranger};
use start::{MINUTE, SOON};

const HOUR: Duration = Duration::from_secs(3600);

fn embedded(server: &TestServer) -> &Embedded {
    server.embedded().expect("virtual time has no other server")
}

/// The keys of queues: items, what lies beside them, and what Go's bookkeeping is.
async fn keys(client: &Client) -> Vec<Bytes> {
    let mut keys = Vec::new();
    for prefix in ["tenure/queue", "tenure/priority_queue"] {
        let found = client.get(KeyRange::prefix(prefix)).keys_only().await.unwrap();
        keys.extend(found.kvs.into_iter().map(|kv| kv.key));
    }
    keys
}

async fn nothing_is_left(client: &Client) {
    eventually(SOON, "nothing is left", async || keys(client).await.is_empty()).await;
}

/// All that can be taken within a minute, each time in a lease.
async fn drain(queue: &Queue) -> Vec<(Bytes, u32)> {
    let mut drained = Vec::new();
    while let Ok(delivery) = queue.take_leased().timeout(MINUTE).await {
        drained.push((delivery.value().clone(), delivery.attempts()));
        delivery.ack().await.unwrap();
    }
    drained
}

/// What may become of a transaction, though in the end it is answered.
fn faults() -> [Fault; 4] {
    [
        Fault::lose_answer(),
        Fault::silence(),
        Fault::lose_request(),
        Fault::refuse(Code::Unavailable, "etcdserver: leader changed"),
    ]
}

#[test]
fn an_item_whose_answers_are_lost_is_there_once_and_taken_once() {
    for fault in faults() {
        for times in 1..=3 {
            virtual_time(async |server| {
                let fault = || fault.clone().on(Call::Txn).times(times);
                let client = server.client().await.unwrap();
                let queue = Queue::new(&stranger(&server).await, "q");
                let other = Queue::new(&stranger(&server).await, "q");
                // One takes it before the second copy comes.
                let waiting = tokio::spawn(other.take().into_future());
                eventually(SOON, "it waits", async || keys(&client).await.len() == 1).await;
                let lost = embedded(&server).inject(fault());
                let putting = tokio::spawn(queue.enqueue("a").into_future());
                assert_eq!(ended(waiting).await.unwrap().value, "a");
                ended(putting).await.unwrap();
                assert!(lost.is_spent());
                nothing_is_left(&client).await;

                for value in ["b", "c", "d"] {
                    queue.enqueue(value).await.unwrap();
                }
                let lost = embedded(&server).inject(fault());
                assert_eq!(queue.take().await.unwrap().value, "b");
                assert!(lost.is_spent());
                let lost = embedded(&server).inject(fault());
                let delivery = queue.take_leased().await.unwrap();
                assert_eq!((&delivery.value()[..], delivery.attempts()), (&b"c"[..], 1));
                assert!(lost.is_spent());
                let lost = embedded(&server).inject(fault());
                delivery.nack().await.unwrap();
                assert!(lost.is_spent());
                assert_eq!(other.take().await.unwrap().value, "d");
                let delivery = queue.take_leased().await.unwrap();
                assert_eq!((&delivery.value()[..], delivery.attempts()), (&b"c"[..], 2));
                let lost = embedded(&server).inject(fault());
                delivery.ack().await.unwrap();
                assert!(lost.is_spent());
                nothing_is_left(&client).await;
            });
        }
    }
}

#[test]
fn with_priorities_lost_answers_change_nothing_either() {
    for fault in faults() {
        for times in 1..=3 {
            virtual_time(async |server| {
                let fault = || fault.clone().on(Call::Txn).times(times);
                let queue = PriorityQueue::new(&stranger(&server).await, "q");
                for value in ["a", "b", "c"] {
                    let lost = embedded(&server).inject(fault());
                    queue.enqueue(1, value).await.unwrap();
                    assert!(lost.is_spent());
                }
                let delivery = queue.take_leased().await.unwrap();
                let lost = embedded(&server).inject(fault());
                delivery.nack().await.unwrap();
                assert!(lost.is_spent());
                let mut taken = Vec::new();
                for _ in 0..3 {
                    let lost = embedded(&server).inject(fault());
                    taken.push(queue.take().await.unwrap().value);
                    assert!(lost.is_spent());
                }
                assert_eq!(taken, ["b", "c", "a"]);
                assert!(queue.items().await.unwrap().is_empty());
            });
        }
    }
}

#[test]
fn copies_that_come_late_change_nothing() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let client = server.client().await.unwrap();
        let session = stranger(&server).await;
        let queue = Queue::new(&session, "q").max_attempts(2);
        let tap = embedded.tap(1000);
        queue.enqueue("a").await.unwrap();
        queue.enqueue("b").await.unwrap();
        queue.take().await.unwrap();
        queue.take_leased().await.unwrap().nack().await.unwrap();
        queue.take_leased().await.unwrap().ack().await.unwrap();
        let other = open(&client).await;
        queue.enqueue("c").await.unwrap();
        let held = Queue::new(&other, "q").take_leased().await.unwrap();
        client.lease_revoke(other.lease()).await.unwrap();
        queue.take_leased().await.unwrap().ack().await.unwrap();
        drop(held);
        nothing_is_left(&client).await;
        let copies = txns(&tap);
        assert!(copies.len() > 8);
        for _ in 0..2 {
            for copy in &copies {
                comes_late(embedded, copy).await;
            }
        }
        assert_eq!(keys(&client).await, Vec::<Bytes>::new());
    });
}

#[test]
fn a_take_that_is_given_up_unanswered_gives_back_what_a_late_copy_takes() {
    for leased in [true, false] {
        virtual_time(async |server| {
            let embedded = embedded(&server);
            let client = server.client().await.unwrap();
            let queue = Queue::new(&stranger(&server).await, "q");
            let other = Queue::new(&stranger(&server).await, "q");
            other.enqueue("a").await.unwrap();
            // What looks is answered at once; what takes is carried out long after it was given up.
            let look = embedded.inject(Fault::delay(Duration::ZERO).on(Call::Txn).times(1));
            let late = embedded.inject(Fault::delay(MINUTE / 2).on(Call::Txn).times(1));
            let patience = Duration::from_millis(500);
            let error = match leased {
                true => queue.take_leased().timeout(patience).await.map(drop).unwrap_err(),
                false => queue.take().timeout(patience).await.map(drop).unwrap_err(),
            };
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(look.is_spent() && late.is_spent());
            sleep(MINUTE).await;
            let delivery = other.take_leased().timeout(SOON).await.unwrap();
            assert_eq!((&delivery.value()[..], delivery.attempts()), (&b"a"[..], 1));
            delivery.ack().await.unwrap();
            nothing_is_left(&client).await;
        });
    }
}

#[test]
fn whoever_is_overtaken_while_an_answer_is_missing_is_not_served_later() {
    virtual_time(async |server| {
        let embedded = embedded(&server);
        let client = server.client().await.unwrap();
        let queue = Queue::new(&stranger(&server).await, "q");
        let first = queue.enqueue("a").await.unwrap();
        let look = embedded.inject(Fault::delay(Duration::ZERO).on(Call::Txn).times(1));
        let late = || embedded.inject(Fault::delay(MINUTE / 2).on(Call::Txn).times(1));
        let taken_late = late();
        let taking = tokio::spawn(queue.take().into_future());
        let asked = async || look.is_spent() && taken_late.is_spent();
        eventually(SOON, "it is asked", asked).await;
        client.delete(&first).await.unwrap();
        sleep(seconds(1)).await;
        let other = Queue::new(&open(&client).await, "q");
        other.enqueue("b").await.unwrap();
        assert_eq!(ended(taking).await.unwrap().value, "b");
        nothing_is_left(&client).await;
        let before = embedded.revision();
        sleep(MINUTE).await;
        assert_eq!(embedded.revision(), before);

        // The same of an item that there is no room for by then.
        let put_late = late();
        let putting = tokio::spawn(queue.clone().bounded(1).enqueue("d").into_future());
        eventually(SOON, "it is asked", async || put_late.is_spent()).await;
        other.enqueue("c").await.unwrap();
        assert_eq!(ended(putting).await.unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(other.take().await.unwrap().value, "c");
        sleep(MINUTE).await;
        nothing_is_left(&client).await;
    });
}

/// What a worker does until it dies: takes an item, and says how it went.
async fn works(queue: Queue, acknowledges: bool) -> Result<bool> {
    let delivery = queue.take_leased().await?;
    match acknowledges {
        true => delivery.ack().await.map(|()| true),
        false => delivery.nack().await.map(|()| false),
    }
}

#[test]
fn a_worker_may_die_between_any_two_requests() {
    // The last request of a worker is carried out, or it is not.
    for (last, acknowledges) in [Fault::ignore(), Fault::silence()]
        .into_iter()
        .flat_map(|it| [(it.clone(), true), (it, false)])
    {
        for survived in 0..6 {
            virtual_time(async |server| {
                let embedded = embedded(&server);
                let client = server.client().await.unwrap();
                let (doomed, lives) = (server.client().await.unwrap(), stranger(&server).await);
                let session = open(&doomed).await;
                let lease = session.lease();
                Queue::new(&lives, "q").enqueue("a").await.unwrap();
                let passed =
                    embedded.inject(Fault::delay(Duration::ZERO).on(Call::Txn).times(survived));
                let dies = embedded.inject(last.clone().on(Call::Txn));
                let worker = tokio::spawn(works(Queue::new(&session, "q"), acknowledges));
                sleep(seconds(1)).await;
                doomed.close().await;
                drop((passed, dies));
                embedded.expire_lease(lease);
                let done = matches!(ended(worker).await, Ok(true));
                let drained = drain(&Queue::new(&lives, "q")).await;
                match done {
                    true => assert_eq!(drained, [], "after {survived}"),
                    // The one exception: it was acknowledged, and nobody was told.
                    false if drained.is_empty() => assert!(acknowledges, "after {survived}"),
                    false => assert!(matches!(&drained[..], [(a, 1 | 2)] if a == "a")),
                }
                nothing_is_left(&client).await;
            });
        }
    }
}

#[test]
fn jobs_that_kill_their_workers_end_as_dead_letters() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let producer = Queue::new(&open(&client).await, "q");
        producer.enqueue("poison").await.unwrap();
        for attempt in 1..=3 {
            let session = stranger(&server).await;
            let queue = Queue::new(&session, "q").max_attempts(3);
            let delivery = queue.take_leased().timeout(SOON).await.unwrap();
            assert_eq!(delivery.attempts(), attempt);
            assert!(embedded(&server).expire_lease(session.lease()));
        }
        let queue = Queue::new(&stranger(&server).await, "q").max_attempts(3);
        assert!(queue.try_take_leased().await.unwrap().is_none());
        let items = queue.items().await.unwrap();
        assert_eq!((items.len(), &items[0].state), (1, &QueuedState::Dead));
    });
}

#[test]
fn who_gives_up_at_the_instant_of_the_take_had_it_or_it_is_there() {
    for leased in [true, false] {
        let ended_early = Cell::new(0);
        // Each request takes 2 ms, so that it is given up before, during and after each of them,
        // and a few turns of the tasks later.
        for (time, turns) in (0..7).flat_map(|time| (0..6).map(move |turns| (time, turns))) {
            virtual_time(async |server| {
                let session = stranger(&server).await;
                let queue = Queue::new(&session, "q");
                let taking = async {
                    match leased {
                        true => Ok(queue.take_leased().await.unwrap()),
                        false => Err(queue.take().await.unwrap()),
                    }
                };
                queue.enqueue("a").await.unwrap();
                let slow = Fault::delay(Duration::from_millis(2)).on(Call::Txn);
                let _slow = embedded(&server).inject(slow);
                let given_up = async {
                    sleep(Duration::from_millis(time)).await;
                    for _ in 0..turns {
                        yield_now().await;
                    }
                };
                let taken = tokio::select! {
                    biased;
                    taken = taking => Some(taken),
                    () = given_up => None,
                };
                let gave_up = taken.is_none();
                match taken {
                    Some(Ok(delivery)) => delivery.ack().await.unwrap(),
                    Some(Err(item)) => assert_eq!(item.value, "a"),
                    None => {
                        let again = queue.take_leased().timeout(MINUTE).await.unwrap();
                        assert_eq!((&again.value()[..], again.attempts()), (&b"a"[..], 1));
                        again.ack().await.unwrap();
                    }
                }
                assert!(queue.items().await.unwrap().is_empty());
                ended_early.set(ended_early.get() + usize::from(gave_up));
            });
        }
        let given_up = ended_early.take();
        assert!((20..40).contains(&given_up), "{given_up} of 42 gave up");
    }
}

#[test]
fn a_consumer_that_is_cut_off_for_an_hour_works_on_then() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let session = open_for(&client, 24 * HOUR).await;
        let queue = Queue::new(&session, "q");
        let waiting = tokio::spawn(queue.take_leased().into_future());
        eventually(SOON, "it waits", async || keys(&client).await.len() == 1).await;
        let cut = embedded(&server).inject(Fault::ignore());
        embedded(&server).silence_streams(true);
        sleep(HOUR).await;
        let putting = tokio::spawn(queue.enqueue("a").into_future());
        sleep(HOUR).await;
        assert!(!waiting.is_finished() && !putting.is_finished());
        embedded(&server).silence_streams(false);
        drop(cut);
        let delivery = timeout(HOUR, waiting).await.expect("it is taken").unwrap().unwrap();
        timeout(HOUR, putting).await.expect("it is put").unwrap().unwrap();
        assert_eq!((&delivery.value()[..], delivery.attempts()), (&b"a"[..], 1));
        delivery.ack().await.unwrap();
        nothing_is_left(&client).await;
    });
}

#[test]
fn one_whose_session_is_lost_is_told_and_the_next_in_line_is_served() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let doomed = Session::builder().ttl(HOUR).open(&client).await.unwrap();
        let first = tokio::spawn(Queue::new(&doomed, "q").take().into_future());
        eventually(SOON, "it waits", async || keys(&client).await.len() == 1).await;
        let other = Queue::new(&stranger(&server).await, "q");
        let second = tokio::spawn(other.take().into_future());
        eventually(SOON, "both wait", async || keys(&client).await.len() == 2).await;
        assert!(embedded(&server).expire_lease(doomed.lease()));
        let error = ended(first).await.unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::Revoked), "{error}");
        Queue::new(&open(&client).await, "q").enqueue("a").await.unwrap();
        assert_eq!(ended(second).await.unwrap().value, "a");
        nothing_is_left(&client).await;
    });
}

#[test]
fn an_item_that_nobody_can_say_of_is_indeterminate() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let session = open_for(&client, seconds(10)).await;
        let unanswered = embedded(&server).inject(Fault::silence());
        embedded(&server).silence_streams(true);
        let error = Queue::new(&session, "q").enqueue("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
        embedded(&server).silence_streams(false);
        drop(unanswered);
        let other = Queue::new(&stranger(&server).await, "q");
        assert_eq!(drain(&other).await, [("a".into(), 1)]);
    });
}
