//! Long queues at a semaphore, and contenders that leave them at the worst moment.

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tenure::{Client, ErrorKind, KeyRange, LossReason, Permits, Release, Semaphore, Session};
use tenure_testkit::{
    Call, Embedded, Proxy, TestServer, eventually, on_each_listener, on_each_server, virtual_time,
};
use tokio::time::{sleep, timeout};

#[path = "support/asking.rs"]
mod asking;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use asking::{Asking, ask, got, keys_are, take};
use lock::{ended, open, stranger, why};
use start::{SOON, start};

/// Where the claims on the semaphore `jobs` are.
const CLAIMS: &str = "tenure/semaphore/jobs/permits/";
/// So many permits that a queue with all of them out is a long one.
const MANY: u32 = 40;

fn of(session: &Session, permits: u32) -> Semaphore {
    Semaphore::new(session, "jobs", permits)
}

async fn queue_up(client: &Client, semaphore: &Semaphore, permits: u32) -> Asking<Permits> {
    asking::queue_up(client, CLAIMS, semaphore.acquire(permits)).await
}

fn foreign(permits: u32, number: u32) -> String {
    format!("{CLAIMS}{permits}/foreign-{number}")
}

/// Claims of others on one permit each.
async fn put_foreign(client: &Client, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        client.put(foreign(1, number), "").await.unwrap();
    }
}

async fn delete_foreign(client: &Client, number: u32) {
    assert_eq!(client.delete(foreign(1, number)).await.unwrap().deleted, 1);
}

async fn release(permits: Permits) {
    assert_eq!(permits.release().await.unwrap(), Release::Released);
}

#[tokio::test]
async fn far_back_in_a_queue_permits_come_in_the_order_of_asking() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let others = server.client().await.unwrap();
        put_foreign(&others, 0..MANY).await;
        let (one, other) = (of(&open(&client).await, MANY), of(&stranger(&server).await, MANY));
        let mut waiting = Vec::new();
        for (number, wanted) in [1, 3, 1, 1].into_iter().enumerate() {
            let semaphore = if number % 2 == 0 { &one } else { &other };
            waiting.push(queue_up(&others, semaphore, wanted).await);
        }
        // Whichever of the holders leaves.
        delete_foreign(&others, 20).await;
        let first = got(waiting.remove(0)).await;
        delete_foreign(&others, 39).await;
        delete_foreign(&others, 0).await;
        release(first).await;
        let second = got(waiting.remove(0)).await;
        assert_eq!(second.count(), 3);
        assert!(waiting.iter().all(|asking| !asking.is_finished()));
        // One that waits in between goes.
        waiting.remove(0).abort();
        keys_are(&others, CLAIMS, 39).await;
        release(second).await;
        let last = got(waiting.remove(0)).await;
        last.kv().put("k", "v").await.unwrap();
        assert!(last.fence().mod_revision > last.fence().create_revision, "it told who is next");
        release(last).await;
    })
    .await;
}

#[tokio::test]
async fn far_back_in_a_queue_more_permits_let_in_as_many_as_there_are_more() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let others = server.client().await.unwrap();
        put_foreign(&others, 0..MANY).await;
        let one = of(&open(&client).await, MANY);
        let mut waiting = Vec::new();
        for _ in 0..6 {
            waiting.push(queue_up(&others, &of(&stranger(&server).await, MANY), 1).await);
        }
        one.resize(MANY + 4).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(got(waiting.remove(0)).await);
        }
        assert!(waiting.iter().all(|asking| !asking.is_finished()));
        // Then fewer: those who hold do so on, and the next waits for all that is too much.
        one.resize(MANY).await.unwrap();
        for number in 0..4 {
            delete_foreign(&others, number).await;
            assert!(waiting.iter().all(|asking| !asking.is_finished()));
        }
        assert!(held.iter().all(|permits| permits.is_held()));
        delete_foreign(&others, 10).await;
        held.push(got(waiting.remove(0)).await);
        release(held.remove(0)).await;
        held.push(got(waiting.remove(0)).await);
    })
    .await;
}

/// Whoever comes cannot tell by the numbers that the one before it is inside.
#[tokio::test]
async fn far_back_in_a_queue_that_was_made_smaller_the_last_holder_is_not_waited_for() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let others = server.client().await.unwrap();
        put_foreign(&others, 0..MANY - 1).await;
        let one = of(&open(&client).await, MANY);
        let last = take(one.acquire(1)).await;
        one.resize(MANY - 5).await.unwrap();
        let late = of(&stranger(&server).await, MANY - 5);
        let waiting = [queue_up(&others, &late, 1).await, queue_up(&others, &late, 1).await];
        for number in 0..5 {
            delete_foreign(&others, number).await;
            assert!(waiting.iter().all(|asking| !asking.is_finished()));
        }
        for (number, asking) in (5..).zip(waiting) {
            delete_foreign(&others, number).await;
            assert!(got(asking).await.is_held());
        }
        assert!(last.is_held());
    })
    .await;
}

#[tokio::test]
async fn far_back_in_a_queue_losses_are_told_too() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let others = server.client().await.unwrap();
        put_foreign(&others, 0..MANY).await;
        let session = open(&client).await;
        let jobs = of(&session, MANY);
        let waiting = queue_up(&others, &jobs, 1).await;
        delete_foreign(&others, 0).await;
        let held = got(waiting).await;
        others.delete(held.fence().key).await.unwrap();
        assert_eq!(why(held.lost()).await, LossReason::KeyDeleted);
        put_foreign(&others, [0]).await;

        // Of those who wait: told when it is looked, if not before; never granted.
        let (first, second) =
            (queue_up(&others, &jobs, 1).await, queue_up(&others, &jobs, 1).await);
        let own = jobs.holders().await.unwrap()[MANY as usize + 1].contender.key.clone();
        others.delete(own).await.unwrap();
        delete_foreign(&others, 0).await;
        let first = got(first).await;
        let error = ended(second).await.unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::KeyDeleted), "{error}");
        let third = queue_up(&others, &jobs, 1).await;
        session.close().await.unwrap();
        assert_eq!(ended(third).await.unwrap_err().loss_reason(), Some(LossReason::Closed));
        assert!(!first.is_held());
        keys_are(&others, CLAIMS, u64::from(MANY) - 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_compaction_during_a_long_wait_changes_nothing() {
    on_each_listener(async |server| {
        let (server, direct) = start(&server).await;
        for permits in [1, MANY] {
            let proxy = Proxy::start(&server.endpoint()).await.unwrap();
            let client = Client::connect([proxy.endpoint()]).await.unwrap();
            let jobs = of(&open(&client).await, permits);
            direct.delete(KeyRange::prefix("tenure/semaphore/")).await.unwrap();
            put_foreign(&direct, 0..permits).await;
            let mut waiting = ask(jobs.acquire(1));
            keys_are(&direct, CLAIMS, u64::from(permits) + 1).await;
            for cut in [false, true] {
                if cut {
                    proxy.refuse();
                    proxy.reset();
                    // Meanwhile another has come in place of one of them; it is behind.
                    delete_foreign(&direct, 0).await;
                    put_foreign(&direct, [0]).await;
                }
                for _ in 0..5 {
                    direct.put("elsewhere", "").await.unwrap();
                }
                let now = direct.put("elsewhere", "").await.unwrap().header.revision;
                direct.compact(now).physical().await.unwrap();
                if !cut {
                    assert!((&mut waiting).now_or_never().is_none(), "none is free");
                }
                proxy.pass();
            }
            let before = server.kv_calls().await;
            release(got(waiting).await).await;
            let calls = server.kv_calls().await - before;
            assert!(calls <= 10, "{calls} calls: it does not spin");
        }
    })
    .await;
}

#[tokio::test]
async fn of_hundreds_who_wait_each_release_lets_one_in_and_costs_few_requests() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let jobs = of(&open(&client).await, 2);
        let mut held = vec![take(jobs.acquire(1)).await, take(jobs.acquire(1)).await];
        let before = server.calls(Call::Txn).await;
        let mut waiting = FuturesUnordered::new();
        for asked in 1..=6 {
            waiting.extend((0..50).map(|_| jobs.acquire(1).into_future()));
            assert!(waiting.next().now_or_never().is_none());
            keys_are(&client, CLAIMS, 50 * asked + 2).await;
        }
        for _ in 0..300 {
            release(held.remove(0)).await;
            let next = timeout(SOON, waiting.next()).await.expect("one is woken");
            held.push(next.unwrap().unwrap());
            assert!(waiting.next().now_or_never().is_none_or(|next| next.is_none()), "only one");
        }
        let txns = server.calls(Call::Txn).await - before;
        // Each asks, looks again once it watches whoever is ahead, looks when that one has its
        // permit, maybe once more when it watches all, says that it has its own, and releases it.
        assert!(txns <= 300 * 8, "{txns}: nobody looks around besides");
        drop(held);
        keys_are(&client, CLAIMS, 0).await;
    })
    .await;
}

/// What a server has sent to watches until nothing more comes, and how often it was asked.
async fn settled(embedded: &Embedded) -> (u64, u64) {
    sleep(Duration::from_millis(50)).await;
    (embedded.events(), embedded.calls(Call::Txn))
}

/// A wake is an event that reaches a client that waits. Whoever has got its permit hears of what it
/// put itself, and maybe of what it deletes: these are none.
#[test]
fn a_release_wakes_two_of_a_hundred_clients_that_wait_in_a_long_queue() {
    virtual_time(async |server: TestServer| {
        let embedded = server.embedded().expect("virtual time has no other server");
        let direct = server.client().await.unwrap();
        put_foreign(&direct, 0..MANY).await;
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let session = stranger(&server).await;
            waiting.push(queue_up(&direct, &of(&session, MANY), 1).await);
        }
        let mut held = Vec::new();
        for number in 0..100 {
            let before = settled(embedded).await;
            let own = if number < MANY {
                delete_foreign(&direct, number).await;
                1
            } else {
                release(held.remove(0)).await;
                2
            };
            held.push(got(waiting.remove(0)).await);
            let after = settled(embedded).await;
            let (events, txns) = (after.0 - before.0, after.1 - before.1);
            assert!(events <= 2 + own, "{events} events after release {number}");
            // To release, for the first to look and to say that it has its permit, and for the one
            // behind it to look, before and after it watches all.
            assert!(txns <= 5, "{txns} requests after release {number}");
            assert!(waiting.iter().all(|asking| !asking.is_finished()));
        }
        assert_eq!(held.len(), MANY as usize);
    });
}

#[tokio::test]
async fn whoever_gives_up_at_the_instant_of_the_grant_had_it_or_leaves_no_key() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let jobs = of(&open(&client).await, 2);
        let other = of(&stranger(&server).await, 2);
        let mut granted = 0;
        for round in 0..120_u32 {
            let permits = take(other.acquire(2)).await;
            let release = tokio::spawn(permits.release());
            let patience = Duration::from_micros(u64::from(round) * 25);
            let second = ask(jobs.acquire(1).timeout(patience));
            let wanted = 1 + round % 2;
            match round % 3 {
                0 => drop(timeout(patience, jobs.acquire(wanted).into_future()).await),
                1 => match jobs.acquire(wanted).timeout(patience).await {
                    Ok(permits) => granted += usize::from(permits.is_held()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
                },
                _ => {
                    let mut asking = Box::pin(jobs.acquire(wanted).into_future());
                    for _ in 0..round % 7 {
                        tokio::task::yield_now().await;
                        if asking.as_mut().now_or_never().is_some() {
                            break;
                        }
                    }
                }
            }
            match ended(second).await {
                Ok(permits) => granted += usize::from(permits.is_held()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
            }
            assert_eq!(release.await.unwrap().unwrap(), Release::Released);
        }
        println!("{granted} were granted");
        keys_are(&client, CLAIMS, 0).await;
        assert!(jobs.try_acquire(2).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn whoever_resumes_a_session_far_back_in_a_queue_has_its_place() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let others = server.client().await.unwrap();
        put_foreign(&others, 0..MANY).await;
        let session = open(&client).await;
        let doomed = queue_up(&others, &of(&session, MANY), 1).await;
        let last = queue_up(&others, &of(&stranger(&server).await, MANY), 1).await;
        let lease = session.orphan().await.unwrap();
        assert_eq!(ended(doomed).await.unwrap_err().loss_reason(), Some(LossReason::Orphaned));
        let next = Session::resume(&others, lease).await.unwrap();
        assert_eq!(next.inherited().len(), 1);
        // What it left is free when its turn comes, though nobody asks for it yet.
        delete_foreign(&others, 0).await;
        let inherited = take(of(&next, MANY).acquire(1)).await;
        assert!(!last.is_finished());
        delete_foreign(&others, 1).await;
        let last = got(last).await;
        assert!(inherited.fence() < last.fence());
        let waits = queue_up(&others, &of(&next, MANY), 1).await;
        release(inherited).await;
        eventually(SOON, "it is granted", async || waits.is_finished()).await;
        assert!(got(waits).await.is_held());
    })
    .await;
}
