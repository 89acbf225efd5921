//! Long queues at a lock, and contenders that leave them at the worst moment.

use std::{
    future::IntoFuture,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{join_all, try_join_all},
};
use tenure::{Client, ErrorKind, KeyRange, LossReason, Mutex, Release, Session};
use tenure_testkit::{Call, Proxy, on_each_listener, on_each_server};
use tokio::time::{sleep, timeout};

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{acquire, ended, granted, holders_are, open, queue_up, stranger, why};
use start::{SOON, start};

const PREFIX: &str = "q/";

/// Keys of others, in this order.
async fn put_foreign(client: &Client, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        client.put(foreign(number), "").await.unwrap();
    }
}

fn foreign(number: u32) -> String {
    format!("{PREFIX}foreign-{number}")
}

/// The lock whose keys are under [`PREFIX`].
fn at_prefix(session: &Session) -> Mutex {
    Mutex::at(session, PREFIX.trim_end_matches('/'))
}

#[tokio::test]
async fn far_back_in_a_queue_of_others_a_lock_costs_three_requests() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let stranger = server.client().await.unwrap();
        put_foreign(&stranger, 0..40).await;
        let jobs = at_prefix(&open(&client).await);
        let before = server.calls(Call::Txn).await;
        let mut waiting = tokio::spawn(jobs.acquire().into_future());
        let onlooker = open(&stranger).await;
        holders_are(&at_prefix(&onlooker), 41).await;
        for number in 0..40 {
            assert!((&mut waiting).now_or_never().is_none(), "{number} is ahead");
            stranger.delete(foreign(number)).await.unwrap();
        }
        let guard = granted(waiting).await;
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        let txns = server.calls(Call::Txn).await - before;
        assert_eq!(txns, 3, "to ask, to look when the one ahead is gone, and to release");
    })
    .await;
}

#[tokio::test]
async fn far_back_in_a_queue_it_does_not_matter_in_what_order_those_ahead_leave() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let stranger = server.client().await.unwrap();
        let session = open(&client).await;
        let jobs = at_prefix(&session);
        // The one just ahead first; from the middle; all at once; and then of some that came again.
        for order in [(0..40).rev().collect::<Vec<u32>>(), (20..40).chain(0..20).collect()] {
            put_foreign(&stranger, 0..40).await;
            let mut waiting = queue_up(&jobs).await;
            for &number in &order {
                assert!((&mut waiting).now_or_never().is_none(), "{number} is ahead");
                stranger.delete(foreign(number)).await.unwrap();
                // Whoever comes later is of no concern.
                put_foreign(&stranger, [number + 100]).await;
            }
            let guard = granted(waiting).await;
            assert!(guard.is_held());
            guard.release().await.unwrap();
            stranger.delete(KeyRange::prefix(PREFIX)).await.unwrap();
        }
        put_foreign(&stranger, 0..40).await;
        let (waiting, second) = (queue_up(&jobs).await, queue_up(&jobs).await);
        stranger.delete(KeyRange::prefix(format!("{PREFIX}foreign-"))).await.unwrap();
        let both = [waiting, second].map(|waiting| async {
            let guard = granted(waiting).await;
            assert_eq!(guard.release().await.unwrap(), Release::Released);
        });
        join_all(both).await;
        holders_are(&jobs, 0).await;
    })
    .await;
}

#[tokio::test]
async fn far_back_in_a_queue_losses_are_told_too() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let stranger = server.client().await.unwrap();
        put_foreign(&stranger, 0..40).await;
        let session = open(&client).await;
        let jobs = at_prefix(&session);
        // Somebody deletes the key of one who holds after the long way.
        let waiting = queue_up(&jobs).await;
        stranger.delete(KeyRange::prefix(format!("{PREFIX}foreign-"))).await.unwrap();
        let guard = granted(waiting).await;
        stranger.delete(guard.key()).await.unwrap();
        assert_eq!(why(guard.lost()).await, LossReason::KeyDeleted);
        drop(guard);

        // Of one who waits: told when it would be its turn, if not before; never granted.
        put_foreign(&stranger, 0..40).await;
        let waiting = queue_up(&jobs).await;
        let own = jobs.holders().await.unwrap()[40].key.clone();
        stranger.delete(own).await.unwrap();
        stranger.delete(KeyRange::prefix(format!("{PREFIX}foreign-"))).await.unwrap();
        let error = ended(waiting).await.unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::KeyDeleted), "{error}");

        // Of one whose session is lost.
        put_foreign(&stranger, 0..40).await;
        let waiting = queue_up(&jobs).await;
        session.close().await.unwrap();
        let error = ended(waiting).await.unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::Closed), "{error}");
        let left = stranger.count(KeyRange::prefix(PREFIX)).await.unwrap().count;
        assert_eq!(left, 40);
    })
    .await;
}

#[tokio::test]
async fn a_compaction_during_a_long_wait_changes_nothing() {
    on_each_listener(async |server| {
        let (server, direct) = start(&server).await;
        for foreigners in [1, 40] {
            let proxy = Proxy::start(&server.endpoint()).await.unwrap();
            let client = Client::connect([proxy.endpoint()]).await.unwrap();
            let jobs = at_prefix(&open(&client).await);
            put_foreign(&direct, 0..foreigners).await;
            let mut waiting = tokio::spawn(jobs.acquire().into_future());
            holders_are(&at_prefix(&open(&direct).await), foreigners as usize + 1).await;
            for cut in [false, true] {
                if cut {
                    proxy.refuse();
                    proxy.reset();
                }
                // All but the last leave, unseen by a watch that is cut.
                let (keep, leave) = if cut { (1, foreigners) } else { (foreigners, foreigners) };
                for number in keep..leave {
                    direct.delete(foreign(number)).await.unwrap();
                }
                for _ in 0..5 {
                    direct.put("elsewhere", "").await.unwrap();
                }
                let now = direct.put("elsewhere", "").await.unwrap().header.revision;
                direct.compact(now).physical().await.unwrap();
                proxy.pass();
                assert_eq!(client.get("elsewhere").await.unwrap().kvs.len(), 1);
                assert!((&mut waiting).now_or_never().is_none(), "one is ahead");
            }
            let before = server.calls(Call::Range).await;
            direct.delete(foreign(0)).await.unwrap();
            let guard = granted(waiting).await;
            assert!(guard.is_held());
            let looks = server.calls(Call::Range).await - before;
            assert!(looks <= 3, "{looks} looks: it does not spin");
            guard.release().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn the_death_of_one_in_the_middle_moves_nobody_before_its_turn() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let holder = acquire(&Mutex::new(&open(&client).await, "jobs")).await;
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let session = stranger(&server).await;
            let jobs = Mutex::new(&session, "jobs");
            let asked = queue_up(&jobs).await;
            waiting.push((session, asked));
        }
        let (middle, dead) = waiting.remove(1);
        client.lease_revoke(middle.lease()).await.unwrap();
        // Told at once, and not when its turn comes.
        let error = ended(dead).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert_eq!(error.loss_reason(), Some(LossReason::Revoked), "{error}");
        let (_last_session, last) = waiting.remove(1);
        let (_next_session, next) = waiting.remove(0);
        assert!(holder.is_held() && !next.is_finished() && !last.is_finished());
        holder.release().await.unwrap();
        let next = granted(next).await;
        assert!(!last.is_finished());
        next.release().await.unwrap();
        let last = granted(last).await;
        assert!(last.is_held());
    })
    .await;
}

#[tokio::test]
async fn whoever_gives_up_at_the_instant_of_the_grant_had_it_or_leaves_no_key() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let jobs = Mutex::new(&open(&client).await, "jobs");
        let other = Mutex::new(&stranger(&server).await, "jobs");
        let mut granted = 0;
        for round in 0..150_u32 {
            let guard = acquire(&other).await;
            let mut asking = Box::pin(jobs.acquire().into_future());
            // Dropped unpolled, while it is asking, waiting, or just granted.
            if round % 10 != 0 {
                assert!(asking.as_mut().now_or_never().is_none());
            }
            if round % 3 != 0 && round % 10 != 0 {
                holders_are(&other, 2).await;
            }
            let release = tokio::spawn(guard.release());
            let patience = Duration::from_micros(u64::from(round) * 20);
            match round % 4 {
                0 => drop(asking),
                1 => {
                    granted += usize::from(timeout(patience, asking).await.is_ok());
                }
                2 => {
                    for _ in 0..round % 7 {
                        tokio::task::yield_now().await;
                        if asking.as_mut().now_or_never().is_some() {
                            break;
                        }
                    }
                    drop(asking);
                }
                _ => {
                    drop(asking);
                    match jobs.acquire().timeout(patience).await {
                        Ok(guard) => {
                            assert!(guard.is_held());
                            granted += 1;
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
                    }
                }
            }
            assert_eq!(release.await.unwrap().unwrap(), Release::Released);
        }
        println!("{granted} were granted");
        holders_are(&other, 0).await;
        assert!(jobs.try_acquire().await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn timeouts_that_race_with_releases_leave_the_lock_free_in_the_end() {
    on_each_server(async |server| {
        let (server, _) = start(&server).await;
        let mut contenders = Vec::new();
        for _ in 0..4 {
            let session = stranger(&server).await;
            contenders.extend((0..5).map(|_| Mutex::new(&session, "jobs")));
        }
        let inside = AtomicUsize::new(0);
        let one = async |place: u64, mutex: &Mutex| {
            let mut held = 0;
            for round in 0..20 {
                let patience = Duration::from_micros((place * 389 + round * 1_553) % 9_000);
                if let Ok(guard) = mutex.acquire().timeout(patience).await {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                    sleep(Duration::from_micros(200)).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    held += 1;
                    if round % 2 == 0 {
                        drop(guard);
                    } else {
                        assert_eq!(guard.release().await.unwrap(), Release::Released);
                    }
                }
            }
            held
        };
        let held = join_all((0..).zip(&contenders).map(|(place, mutex)| one(place, mutex))).await;
        println!("held {} times", held.iter().sum::<usize>());
        holders_are(&contenders[0], 0).await;
        let last = try_join_all(
            contenders
                .iter()
                .map(async |mutex| mutex.acquire().timeout(SOON).await?.release().await),
        );
        assert_eq!(last.await.unwrap(), [Release::Released; 20]);
    })
    .await;
}
