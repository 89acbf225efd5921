//! Several locks at once, all or none.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{
    StreamExt,
    future::{join_all, try_join_all},
};
use tenure::{
    ClaimState, Client, ErrorKind, Fence, KeyRange, LossReason, MultiGuard, MultiMutex, Mutex,
    Release,
};
use tenure_testkit::{eventually, on_each_server};
use tokio::time::timeout;

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{open, stranger, why};
use start::{SOON, start};

async fn acquire(locks: &MultiMutex) -> MultiGuard {
    timeout(SOON, locks.acquire()).await.expect("it is our turn").unwrap()
}

async fn keys(client: &Client) -> u64 {
    client.count(KeyRange::prefix("tenure/mutex/")).await.unwrap().count
}

async fn keys_are(client: &Client, count: u64) {
    eventually(SOON, &format!("{count} keys"), async || keys(client).await == count).await;
}

#[tokio::test]
async fn all_are_taken_together_or_none_is() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let (session, other) = (open(&client).await, open(&client).await);
        let all = MultiMutex::new(&session, ["a", "b", "c"]);
        let single = Mutex::new(&other, "b");
        let b = single.acquire().await.unwrap();
        let before = server.kv_calls().await;
        assert!(all.try_acquire().await.unwrap().is_none());
        assert_eq!(server.kv_calls().await, before + 1);
        assert_eq!(keys(&client).await, 1);

        let waiting = all.acquire().into_future();
        let mut states = waiting.states();
        let waiting = tokio::spawn(waiting);
        keys_are(&client, 4).await;
        // Whoever wants one of them waits, though nobody has it yet.
        assert!(Mutex::new(&other, "a").try_acquire().await.unwrap().is_none());
        let error = Mutex::new(&other, "c").acquire().timeout(Duration::from_millis(50)).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(!waiting.is_finished());
        b.release().await.unwrap();
        let guard = timeout(SOON, waiting).await.expect("its turn").unwrap().unwrap();
        assert!(guard.is_held() && guard.deadline() > client.clock().now());
        let fences = guard.fences();
        let names: Vec<_> =
            fences.iter().map(|fence| fence.key.split(|b| *b == b'/').nth(2)).collect();
        assert_eq!(names, [Some(&b"a"[..]), Some(b"b"), Some(b"c")]);
        assert!(fences.iter().all(|fence| fence.create_revision == fences[0].create_revision));
        let held = ClaimState::Held { fence: fences[0].clone() };
        eventually(SOON, "it is told", async || states.next().await == Some(held.clone())).await;
        guard.kv().put("k", "v").await.unwrap();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        assert_eq!(states.next().await, Some(ClaimState::Released));
        assert_eq!(keys(&client).await, 0);
        let guard = all.try_acquire().await.unwrap().expect("all are free");
        drop(guard);
        keys_are(&client, 0).await;
    })
    .await;
}

#[tokio::test]
async fn losing_one_is_losing_all() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let all = MultiMutex::new(&session, ["a", "b", "c"]);
        let guard = acquire(&all).await;
        let (own, fences) = (guard.kv(), guard.fences());
        client.delete(fences[2].key.clone()).await.unwrap();
        let refused = own.put("k", "stale").await.unwrap_err();
        assert_eq!(refused.loss_reason(), Some(LossReason::KeyDeleted), "{refused}");
        assert_eq!(why(guard.lost()).await, LossReason::KeyDeleted);
        assert!(!guard.is_held());
        let released = guard.release().await.unwrap();
        assert_eq!(released, Release::AlreadyLost(LossReason::KeyDeleted));
        keys_are(&client, 0).await;

        let guard = acquire(&all).await;
        client.lease_revoke(session.lease()).await.unwrap();
        assert_eq!(why(guard.lost()).await, LossReason::Revoked);
        let refused = guard.txn().and_then([tenure::Put::new("k", "stale")]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Lost);
        assert!(client.get("k").await.unwrap().kvs.is_empty());
    })
    .await;
}

#[tokio::test]
async fn whoever_gives_up_leaves_none_of_its_keys() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let (session, other) = (open(&client).await, open(&client).await);
        let all = MultiMutex::new(&session, ["a", "b", "c"]);
        for round in 0..20 {
            let b = Mutex::new(&other, "b").acquire().await.unwrap();
            if round % 2 == 0 {
                let patience = Duration::from_millis(round);
                let error = all.acquire().timeout(patience).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            } else {
                let asking = tokio::spawn(all.acquire().into_future());
                if round % 3 == 0 {
                    keys_are(&client, 4).await;
                }
                asking.abort();
                assert!(asking.await.is_err());
            }
            b.release().await.unwrap();
            keys_are(&client, 0).await;
        }
        assert!(acquire(&all).await.is_held());
    })
    .await;
}

#[tokio::test]
async fn names_that_cannot_be_taken_together_are_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let many = |count: usize| (0..count).map(|n| format!("{n}")).collect::<Vec<_>>();
        let before = server.kv_calls().await;
        let bad: [(Vec<String>, &str); 4] = [
            (Vec::new(), "there is none"),
            (many(61), "more than 60"),
            (vec!["a".into(), "b".into(), "a".into()], "\"a\" is there twice"),
            (vec!["a".into(), String::new()], "must not be empty"),
        ];
        for (names, rule) in bad {
            let locks = MultiMutex::new(&session, names);
            for error in
                [locks.acquire().await.unwrap_err(), locks.try_acquire().await.unwrap_err()]
            {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(rule), "{error}");
            }
        }
        assert_eq!(server.kv_calls().await, before);

        let most = MultiMutex::new(&session, many(60));
        for tried in [false, true] {
            let guard = match tried {
                false => acquire(&most).await,
                true => most.try_acquire().await.unwrap().expect("all are free"),
            };
            assert_eq!(guard.fences().len(), 60);
            guard.kv().put("k", "v").await.unwrap();
            assert_eq!(keys(&client).await, 60);
            assert_eq!(guard.release().await.unwrap(), Release::Released);
            assert_eq!(keys(&client).await, 0);
        }
        let last = Mutex::new(&session, "59").acquire().await.unwrap();
        let waiting = tokio::spawn(most.acquire().into_future());
        keys_are(&client, 61).await;
        last.release().await.unwrap();
        let guard = timeout(SOON, waiting).await.expect("its turn").unwrap().unwrap();
        drop(guard);
        keys_are(&client, 0).await;
    })
    .await;
}

#[tokio::test]
async fn many_with_random_sets_all_finish_and_none_shares_a_lock() {
    const NAMES: usize = 6;
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let seed: u64 = std::env::var("TENURE_SEED").map_or(7, |seed| seed.parse().unwrap());
        println!("TENURE_SEED={seed}");
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(stranger(&server).await);
        }
        let taken: [AtomicBool; NAMES] = Default::default();
        let fences: [std::sync::Mutex<Vec<Fence>>; NAMES] = Default::default();
        let one = async |number: u64| {
            let mut random = seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for _ in 0..8 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // Some of the names, from any of them on.
                let (set, first) = (random as usize >> 8, random as usize % NAMES);
                let mut names: Vec<_> = (0..NAMES).map(|n| (first + n) % NAMES).collect();
                names.retain(|name| *name == first || set >> name & 1 == 1);
                let session = &sessions[number as usize % 4];
                let locks = MultiMutex::new(session, names.iter().map(usize::to_string));
                let guard = timeout(3 * SOON, locks.acquire()).await.expect("no deadlock").unwrap();
                for (name, fence) in names.iter().zip(guard.fences()) {
                    assert!(!taken[*name].swap(true, Ordering::SeqCst), "two have {name}");
                    fences[*name].lock().unwrap().push(fence);
                }
                tokio::task::yield_now().await;
                names.iter().for_each(|name| taken[*name].store(false, Ordering::SeqCst));
                assert_eq!(guard.release().await.unwrap(), Release::Released);
            }
        };
        join_all((0..20).map(one)).await;
        for fences in fences {
            let fences = fences.into_inner().unwrap();
            assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "the first is first");
        }
        assert_eq!(keys(&client).await, 0);
    })
    .await;
}

#[tokio::test]
async fn sets_in_any_order_of_their_names_take_turns() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let (there, back) = (["a", "b", "c", "d"], ["d", "c", "b", "a"]);
        let turns = (0..40).map(async |turn| {
            let names = if turn % 2 == 0 { there } else { back };
            MultiMutex::new(&session, names).acquire().timeout(SOON).await?.release().await
        });
        let released = try_join_all(turns).await.unwrap();
        assert_eq!(released, [Release::Released; 40]);
    })
    .await;
}
