//! Permits: how many are out at a time, who gets them next, and how their number changes.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures::future::join_all;
use tenure::{
    ClaimState, Client, ErrorKind, LossReason, Permits, Release, Result, Semaphore, Session,
};
use tenure_testkit::{eventually, on_each_etcd, on_each_server};

#[path = "support/asking.rs"]
mod asking;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use asking::{Asking, ask, got, keys, keys_are, take};
use lock::{ended, open, stranger, told, why};
use start::{SOON, cluster, start};

/// Where the claims on the semaphore `jobs` are.
const CLAIMS: &str = "tenure/semaphore/jobs/permits/";

fn of(session: &Session, permits: u32) -> Semaphore {
    Semaphore::new(session, "jobs", permits)
}

async fn queue_up(client: &Client, semaphore: &Semaphore, permits: u32) -> Asking<Permits> {
    asking::queue_up(client, CLAIMS, semaphore.acquire(permits)).await
}

async fn release(permits: Permits) {
    assert_eq!(permits.release().await.unwrap(), Release::Released);
}

/// Twice in each of four processes.
async fn contenders(connect: impl AsyncFn() -> Result<Client>) -> Vec<Semaphore> {
    let mut contenders = Vec::new();
    for _ in 0..4 {
        let session = open(&connect().await.unwrap()).await;
        contenders.extend((0..2).map(|_| of(&session, 5)));
    }
    contenders
}

/// Each asks for one, two or three of five, again and again.
async fn contend(contenders: &[Semaphore]) {
    let out = AtomicU32::new(0);
    let most = AtomicU32::new(0);
    let cycles = contenders.iter().enumerate().map(async |(number, semaphore)| {
        for round in 0..8 {
            let wanted = 1 + ((number + round) % 3) as u32;
            let permits = take(semaphore.acquire(wanted)).await;
            assert_eq!(permits.count(), wanted);
            let now = out.fetch_add(wanted, Ordering::SeqCst) + wanted;
            assert!(now <= 5, "{now} are out");
            most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            out.fetch_sub(wanted, Ordering::SeqCst);
            if round % 3 == 0 {
                drop(permits);
            } else {
                release(permits).await;
            }
        }
    });
    join_all(cycles).await;
    assert!(most.into_inner() > 1, "they are shared");
    let semaphore = &contenders[0];
    eventually(SOON, "all are back", async || semaphore.holders().await.unwrap().is_empty()).await;
    assert_eq!(semaphore.size().await.unwrap(), Some(5));
}

#[tokio::test]
async fn never_are_more_permits_out_than_there_are() {
    on_each_server(async |server| {
        let (server, _) = start(&server).await;
        contend(&contenders(async || server.client().await).await).await;
    })
    .await;
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        contend(&contenders(async || Client::connect(cluster.endpoints()).await).await).await;
    })
    .await;
}

#[tokio::test]
async fn whoever_asks_for_many_is_not_overtaken_by_those_who_ask_for_few() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let one = of(&open(&client).await, 4);
        for other in [one.clone(), of(&stranger(&server).await, 4)] {
            let (first, second) = (take(one.acquire(2)).await, take(other.acquire(1)).await);
            let many = queue_up(&client, &other, 3).await;
            let few = queue_up(&client, &one, 1).await;
            assert!(take(other.try_acquire(1)).await.is_none(), "one is free, and others wait");
            release(second).await;
            assert!(!many.is_finished() && !few.is_finished(), "two are free, three are wanted");
            let fence = first.fence();
            release(first).await;
            let (many, few) = (got(many).await, got(few).await);
            assert_eq!((many.count(), few.count()), (3, 1));
            assert!(fence < many.fence() && many.fence() < few.fence());
            assert!(take(one.try_acquire(1)).await.is_none());
            release(few).await;
            let again = take(one.try_acquire(1)).await.expect("one is free");
            release(many).await;
            release(again).await;
            keys_are(&client, CLAIMS, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn all_permits_that_are_asked_for_come_at_once_or_none() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let one = of(&open(&client).await, 3);
        let other = of(&stranger(&server).await, 3);
        let held = take(one.acquire(2)).await;
        for dropped in [false, true] {
            if dropped {
                let asking = queue_up(&client, &other, 2).await;
                let behind = queue_up(&client, &one, 1).await;
                asking.abort();
                release(got(behind).await).await;
            } else {
                let error = other.acquire(2).timeout(Duration::from_millis(50)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            }
            keys_are(&client, CLAIMS, 1).await;
        }
        assert!(take(other.try_acquire(2)).await.is_none());
        assert_eq!(keys(&client, CLAIMS).await, 1);
        let last = take(other.try_acquire(1)).await.expect("one is left");
        assert!(held.is_held() && last.is_held());
    })
    .await;
}

#[tokio::test]
async fn a_cycle_is_two_requests_and_one_more_for_the_first_of_a_handle() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        // Also among many holders.
        for taken in [0, 50] {
            let others = of(&session, 100);
            let held = join_all((0..taken).map(|_| take(others.acquire(1)))).await;
            let jobs = of(&stranger(&server).await, 100);
            let before = server.kv_calls().await;
            release(take(jobs.acquire(1)).await).await;
            assert_eq!(server.kv_calls().await - before, 3, "it agrees on the number");
            release(take(jobs.clone().acquire(2)).await).await;
            assert_eq!(server.kv_calls().await - before, 5);
            drop(held);
            keys_are(&client, CLAIMS, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let before = server.kv_calls().await;
        for (semaphore, wanted) in [
            (Semaphore::new(&session, "", 1), 1),
            (Semaphore::new(&session, "a\0b", 1), 1),
            (of(&session, 0), 1),
            (of(&session, 3), 0),
            (of(&session, 3), 4),
        ] {
            let error = semaphore.acquire(wanted).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(semaphore.try_acquire(wanted).await.is_err());
        }
        let jobs = of(&session, 3);
        assert_eq!(jobs.resize(0).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(server.kv_calls().await, before, "before anything is sent");
        release(take(jobs.acquire(3)).await).await;
        let before = server.kv_calls().await;
        let error = jobs.acquire(4).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(server.kv_calls().await - before, 1, "there may be more by now");
        // What others have said holds for all.
        for wrong in [2, 4] {
            let wrong = of(&stranger(&server).await, wrong);
            for _ in 0..2 {
                let error = wrong.acquire(1).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                let error = wrong.try_acquire(1).await.unwrap_err();
                assert!(error.to_string().contains("it has 3 permits"), "{error}");
            }
        }
        assert_eq!(keys(&client, CLAIMS).await, 0);
        assert_eq!(jobs.size().await.unwrap(), Some(3));
    })
    .await;
}

#[tokio::test]
async fn more_permits_let_in_as_many_as_there_are_more() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let (one, other) = (of(&open(&client).await, 1), of(&stranger(&server).await, 1));
        let held = take(one.acquire(1)).await;
        let mut waiting = Vec::new();
        for number in 0..5 {
            let semaphore = if number % 2 == 0 { &one } else { &other };
            waiting.push(queue_up(&client, semaphore, 1).await);
        }
        assert_eq!(other.resize(3).await.unwrap(), 1);
        let (first, second) = (got(waiting.remove(0)).await, got(waiting.remove(0)).await);
        let listed = one.holders().await.unwrap();
        let inside: Vec<_> = listed.iter().map(|claim| claim.is_held).collect();
        assert_eq!(inside, [true, true, true, false, false, false]);
        assert!(waiting.iter().all(|asking| !asking.is_finished()));
        // Both handles know of it: the one that did it, and the one that had agreed before.
        assert_eq!(one.size().await.unwrap(), Some(3));
        waiting.drain(..).for_each(|asking| asking.abort());
        keys_are(&client, CLAIMS, 3).await;
        drop((held, first, second));
        release(take(one.acquire(3)).await).await;
        release(take(other.acquire(3)).await).await;
        // Whoever comes later must say the new number.
        of(&stranger(&server).await, 1).acquire(1).await.unwrap_err();
        release(take(of(&stranger(&server).await, 3).acquire(3)).await).await;
    })
    .await;
}

#[tokio::test]
async fn fewer_permits_put_nobody_out_and_let_nobody_in() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let (one, other) = (of(&open(&client).await, 3), of(&stranger(&server).await, 3));
        let mut held = Vec::new();
        for semaphore in [&one, &other, &one] {
            held.push(take(semaphore.acquire(1)).await);
        }
        let waiting = queue_up(&client, &other, 1).await;
        assert_eq!(one.resize(1).await.unwrap(), 3);
        assert!(held.iter().all(|permits| permits.is_held()));
        held[1].kv().put("k", "v").await.unwrap();
        for _ in 0..2 {
            release(held.remove(0)).await;
            assert!(take(one.try_acquire(1)).await.is_none());
            assert!(!waiting.is_finished(), "one is out, and there is one");
        }
        // Who asks for more than there are now is told so, and is in nobody's way.
        let error = ended(ask(other.acquire(2))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        keys_are(&client, CLAIMS, 2).await;
        release(held.remove(0)).await;
        release(got(waiting).await).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ends_gives_its_permits_back_and_its_places() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let other = of(&open(&client).await, 2);
        for closed in [true, false] {
            let session = stranger(&server).await;
            let jobs = of(&session, 2);
            let held = take(jobs.acquire(2)).await;
            let mut states = held.states();
            assert_eq!(told(&mut states).await, ClaimState::Held { fence: held.fence() });
            let doomed = queue_up(&client, &jobs, 1).await;
            let next = queue_up(&client, &other, 2).await;
            let reason = if closed {
                session.close().await.unwrap();
                LossReason::Closed
            } else {
                client.lease_revoke(session.lease()).await.unwrap();
                LossReason::Revoked
            };
            assert_eq!(why(held.lost()).await, reason);
            assert_eq!(ended(doomed).await.unwrap_err().loss_reason(), Some(reason));
            let next = got(next).await;
            held.kv().put("k", "stale").await.unwrap_err();
            assert_eq!(held.release().await.unwrap(), Release::AlreadyLost(reason));
            assert_eq!(keys(&client, CLAIMS).await, 1);
            release(next).await;
        }
        assert_eq!(client.count("k").await.unwrap().count, 0);
        assert_eq!(keys(&client, "tenure/session/").await, 0);
    })
    .await;
}

#[tokio::test]
async fn who_loses_its_key_has_lost_its_permits() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let jobs = of(&open(&client).await, 2);
        // One that had them at once, and one that waited.
        let first = take(jobs.acquire(2)).await;
        let second = queue_up(&client, &jobs, 1).await;
        client.delete(first.fence().key).await.unwrap();
        assert_eq!(why(first.lost()).await, LossReason::KeyDeleted);
        let second = got(second).await;
        second.kv().put("k", "v").await.unwrap();
        client.delete(second.fence().key).await.unwrap();
        let error = second.kv().put("k", "stale").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        assert_eq!(why(second.lost()).await, LossReason::KeyDeleted);
    })
    .await;
}

#[tokio::test]
async fn all_who_hold_or_wait_can_be_listed_with_what_they_want() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let jobs = of(&session, 4);
        assert_eq!(jobs.size().await.unwrap(), None);
        assert_eq!(jobs.holders().await.unwrap(), []);
        let held = take(jobs.acquire(3)).await;
        let waiting = queue_up(&client, &jobs, 2).await;
        let all = Semaphore::inspect(&client, "jobs").await.unwrap();
        assert_eq!(all, jobs.holders().await.unwrap());
        let brief: Vec<_> = all.iter().map(|claim| (claim.permits, claim.is_held)).collect();
        assert_eq!(brief, [(3, true), (2, false)]);
        assert_eq!(all[0].contender.key, held.fence().key);
        assert!(all.iter().all(|claim| claim.contender.lease == Some(session.lease())));
        assert!(Semaphore::inspect(&client, "others").await.unwrap().is_empty());
        waiting.abort();
    })
    .await;
}
