//! The lock: who gets it, in what order, and what it leaves behind.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{
    StreamExt,
    future::{join_all, try_join_all},
};
use tenure::{
    ClaimState, Client, ErrorKind, Fence, KeyRange, LossReason, Mutex, Release, Result, Session,
};
use tenure_testkit::{on_each_etcd, on_each_server};
use tokio::time::timeout;

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{acquire, ended, granted, holders_are, open, queue_up, seconds, stranger, told};
use start::{SOON, cluster, start};

fn rises(fences: &[Fence]) -> bool {
    fences.windows(2).all(|pair| pair[0] < pair[1])
}

/// The lock `jobs` in sessions of four processes, so often in each.
async fn contenders(each: usize, connect: impl AsyncFn() -> Result<Client>) -> Vec<Mutex> {
    let mut contenders = Vec::new();
    for _ in 0..4 {
        let session = open(&connect().await.unwrap()).await;
        contenders.extend((0..each).map(|_| Mutex::new(&session, "jobs")));
    }
    contenders
}

#[tokio::test]
async fn who_asked_first_is_first_on_whatever_member() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let holder = Mutex::new(&open(&client).await, "jobs");
        let mut guard = acquire(&holder).await;
        let mut fences = vec![guard.fence()];
        let mut waiting = Vec::new();
        for number in 0..6 {
            let client = Client::connect([cluster.member(number % 3).endpoint()]).await.unwrap();
            waiting.push(queue_up(&Mutex::new(&open(&client).await, "jobs")).await);
        }
        while !waiting.is_empty() {
            let next = waiting.remove(0);
            assert!(!next.is_finished() && waiting.iter().all(|later| !later.is_finished()));
            assert_eq!(guard.release().await.unwrap(), Release::Released);
            guard = granted(next).await;
            assert!(guard.is_held());
            fences.push(guard.fence());
        }
        assert!(rises(&fences), "{fences:?}");
    })
    .await;
}

#[tokio::test]
async fn many_contenders_have_it_one_at_a_time_and_each_as_often_as_it_asks() {
    let contend = async |contenders: Vec<Mutex>| {
        let inside = AtomicBool::new(false);
        let fences = std::sync::Mutex::new(Vec::new());
        let cycles = contenders.iter().map(async |mutex| {
            for _ in 0..5 {
                let guard = acquire(mutex).await;
                assert!(!inside.swap(true, Ordering::SeqCst), "two are inside");
                fences.lock().unwrap().push(guard.fence());
                tokio::task::yield_now().await;
                inside.store(false, Ordering::SeqCst);
                assert_eq!(guard.release().await.unwrap(), Release::Released);
            }
        });
        join_all(cycles).await;
        let fences = fences.into_inner().unwrap();
        assert_eq!(fences.len(), 100);
        assert!(rises(&fences), "{fences:?}");
        assert!(contenders[0].holders().await.unwrap().is_empty());
    };
    on_each_server(async |server| {
        let (server, _) = start(&server).await;
        contend(contenders(5, async || server.client().await).await).await;
    })
    .await;
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        contend(contenders(5, async || Client::connect(cluster.endpoints()).await).await).await;
    })
    .await;
}

#[tokio::test]
async fn one_of_many_who_try_has_it_and_the_others_leave_nothing() {
    let one_has_it = async |tries: &[Mutex], client: &Client| {
        let tried = tries.iter().map(async |mutex| mutex.try_acquire().await.unwrap());
        let mut won: Vec<_> = join_all(tried).await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1);
        let guard = won.remove(0);
        assert!(guard.is_held());
        let keys = client.get(KeyRange::prefix("tenure/mutex/")).await.unwrap();
        assert_eq!(keys.kvs.len(), 1);
        assert_eq!(keys.kvs[0].key, guard.key());
        guard
    };
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let tries = contenders(2, async || Client::connect(cluster.endpoints()).await).await;
        assert!(one_has_it(&tries, &client).await.is_held());
    })
    .await;
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        // Two of one session exclude one another, too.
        let tries = contenders(2, async || server.client().await).await;
        let guard = one_has_it(&tries, &client).await;
        // Neither does a try overtake those who wait.
        let waiting = queue_up(&tries[3]).await;
        let before = server.kv_calls().await;
        assert!(tries[0].try_acquire().await.unwrap().is_none());
        assert_eq!(server.kv_calls().await, before + 1);
        guard.release().await.unwrap();
        granted(waiting).await.release().await.unwrap();
        let again = tries[0].try_acquire().await.unwrap().expect("nobody is there any more");
        assert!(again.is_held());
    })
    .await;
}

#[tokio::test]
async fn an_uncontended_cycle_is_two_requests() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        acquire(&jobs).await.release().await.unwrap();
        let before = server.kv_calls().await;
        for _ in 0..10 {
            let guard = acquire(&jobs).await;
            assert_eq!(guard.release().await.unwrap(), Release::Released);
        }
        assert_eq!(server.kv_calls().await - before, 20);
        for _ in 0..10 {
            let guard = jobs.try_acquire().await.unwrap().expect("it is free");
            guard.release().await.unwrap();
        }
        assert_eq!(server.kv_calls().await - before, 40);
    })
    .await;
}

#[tokio::test]
async fn acquisitions_of_one_session_exclude_one_another() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        let first = acquire(&jobs).await;
        assert!(jobs.try_acquire().await.unwrap().is_none());
        let second = queue_up(&jobs).await;
        let third = queue_up(&Mutex::new(&session, "jobs")).await;
        let keys = jobs.holders().await.unwrap();
        let leases: HashSet<_> = keys.iter().map(|contender| contender.lease).collect();
        assert_eq!(leases, HashSet::from([Some(session.lease())]));
        drop(first);
        let second = granted(second).await;
        assert!(!third.is_finished());
        second.release().await.unwrap();
        granted(third).await.release().await.unwrap();
        holders_are(&jobs, 0).await;
    })
    .await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_how_many_are_ahead_and_leaves_no_key() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let jobs = Mutex::new(&open(&client).await, "jobs");
        let guard = acquire(&jobs).await;
        let other = Mutex::new(&stranger(&server).await, "jobs");
        for patience in [0, 1, 20, 200] {
            let patience = Duration::from_millis(patience);
            let error = other.acquire().timeout(patience).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.to_string().contains("not acquired within"), "{error}");
            holders_are(&jobs, 1).await;
        }
        assert!(guard.is_held());
        guard.release().await.unwrap();
        let guard = other.acquire().timeout(SOON).await.unwrap();
        assert!(guard.is_held());
    })
    .await;
}

#[tokio::test]
async fn a_dropped_guard_gives_the_lock_to_the_next() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let jobs = Mutex::new(&open(&client).await, "jobs");
        let other = Mutex::new(&stranger(&server).await, "jobs");
        for _ in 0..10 {
            let guard = acquire(&jobs).await;
            let waiting = queue_up(&other).await;
            drop(guard);
            drop(granted(waiting).await);
        }
        holders_are(&jobs, 0).await;
        // The scope of a guard ends by an error, or a panic, too.
        let held = tokio::spawn({
            let jobs = jobs.clone();
            async move {
                let guard = acquire(&jobs).await;
                assert!(guard.is_held());
                panic!("on purpose");
            }
        });
        assert!(timeout(SOON, held).await.unwrap().unwrap_err().is_panic());
        assert!(acquire(&other).await.is_held());
    })
    .await;
}

#[tokio::test]
async fn names_are_independent_of_one_another_whatever_is_in_them() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let long = "l".repeat(1000);
        let names =
            ["a", "a/b", "a/", "/", "a%2Fb", "A", "..", " ", "\n", "ü", "a-1", "a\u{1}", &long];
        let guards = names.map(|name| (name, Mutex::new(&session, name)));
        let held = guards.iter().map(|(_, mutex)| mutex.acquire().timeout(SOON).into_future());
        let held = try_join_all(held).await.unwrap();
        assert!(held.iter().all(|guard| guard.is_held()));
        for (name, mutex) in &guards {
            assert_eq!(mutex.holders().await.unwrap().len(), 1, "{name:?}");
            assert_eq!(Mutex::inspect(&client, name).await.unwrap().len(), 1, "{name:?}");
            assert!(mutex.try_acquire().await.unwrap().is_none(), "{name:?}");
        }
        let key_of = |place: usize| String::from_utf8(held[place].key().to_vec()).unwrap();
        assert!(key_of(1).starts_with("tenure/mutex/a%2Fb/"), "{}", key_of(1));
        assert!(key_of(6).starts_with("tenure/mutex/%2E%2E/"), "{}", key_of(6));
        assert!(key_of(9).starts_with("tenure/mutex/%C3%BC/"), "{}", key_of(9));
        drop(held);
        for (_, mutex) in &guards {
            holders_are(mutex, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_raw_prefix_has_the_layout_of_gos_recipe_and_minds_its_keys() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let shared = Mutex::at(&session, "app/lock");
        let guard = acquire(&shared).await;
        let key = String::from_utf8(guard.key().to_vec()).unwrap();
        let own = format!("app/lock/{:x}-", session.lease().get());
        let nonce = key.strip_prefix(&own).unwrap_or_else(|| panic!("{key} under {own}"));
        assert_eq!(u32::from_str_radix(nonce, 16).map(|n| format!("{n:x}")), Ok(nonce.to_owned()));
        let stored = client.get(key).await.unwrap().into_kv().unwrap();
        assert_eq!(stored.lease, Some(session.lease()));
        assert_eq!(stored.create_revision, guard.fence().create_revision);
        assert_eq!(Mutex::inspect_at(&client, "app/lock").await.unwrap().len(), 1);
        guard.release().await.unwrap();

        // One of Go's is there: its key is called by its lease alone.
        let lease = client.lease_grant(seconds(60)).await.unwrap().id;
        let foreign = format!("app/lock/{:x}", lease.get());
        client.put(foreign.clone(), "").lease(lease).await.unwrap();
        assert!(shared.try_acquire().await.unwrap().is_none());
        let waiting = queue_up(&shared).await;
        let contenders = shared.holders().await.unwrap();
        assert_eq!((contenders[0].lease, &contenders[0].holder), (Some(lease), &None));
        assert!(!waiting.is_finished());
        client.delete(foreign).await.unwrap();
        let guard = granted(waiting).await;
        // What is not under the prefix and its slash is of no concern, and nor is what comes later.
        client.put("app/lockless/1", "").await.unwrap();
        client.put("app/lock/0", "").await.unwrap();
        assert!(guard.is_held());
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    })
    .await;
}

#[tokio::test]
async fn bad_names_are_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let before = server.kv_calls().await;
        for (name, rule) in [("", "must not be empty"), ("a\0b", "must not contain NUL")] {
            let mutex = Mutex::new(&session, name);
            let refused = [
                mutex.acquire().await.unwrap_err(),
                mutex.acquire().timeout(SOON).await.unwrap_err(),
                mutex.try_acquire().await.unwrap_err(),
                mutex.holders().await.unwrap_err(),
                Mutex::inspect(&client, name).await.unwrap_err(),
            ];
            for error in refused {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains("lock name"), "{error}");
                assert!(error.to_string().contains(rule), "{error}");
            }
            let mut states = mutex.acquire().into_future().states();
            assert_eq!(states.next().await, None);
        }
        let error = Mutex::at(&session, "").acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("lock prefix"), "{error}");
        assert_eq!(server.kv_calls().await, before);
    })
    .await;
}

#[tokio::test]
async fn contenders_are_listed_in_their_order_with_what_they_say_of_themselves() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let builder = || Session::builder().ttl(seconds(30));
        let first = builder().name("worker 1").open(&client).await.unwrap();
        let second = builder().name("worker \"2\"").open(&client).await.unwrap();
        let guard = acquire(&Mutex::new(&first, "jobs")).await;
        let jobs = Mutex::new(&second, "jobs");
        let waiting = queue_up(&jobs).await;
        let contenders = Mutex::inspect(&client, "jobs").await.unwrap();
        assert_eq!(contenders, jobs.holders().await.unwrap());
        let [holds, waits] = &contenders[..] else { panic!("{contenders:?}") };
        assert_eq!((holds.key.clone(), holds.lease), (guard.key(), Some(first.lease())));
        assert_eq!(holds.create_revision, guard.fence().create_revision);
        assert_eq!(waits.lease, Some(second.lease()));
        assert!(holds.create_revision < waits.create_revision);
        let [holder, waiter] = [holds, waits].map(|one| one.holder.as_ref().unwrap());
        assert_eq!((holder.name.as_str(), holder.pid), ("worker 1", std::process::id()));
        assert_eq!(waiter.name, "worker \"2\"");
        assert!(!holder.host.is_empty() && holder.since <= waiter.since);
        drop(guard);
        granted(waiting).await.release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_lock_tells_how_it_stands_from_the_waiting_to_the_end() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let first = acquire(&Mutex::new(&session, "jobs")).await;
        let jobs = Mutex::new(&stranger(&server).await, "jobs");
        let second = queue_up(&jobs).await;
        let third = jobs.acquire().into_future();
        let mut states = third.states();
        let mut late = third.states();
        let third = tokio::spawn(third);
        let unknown = ClaimState::Waiting { ahead: None };
        let ahead = |count| ClaimState::Waiting { ahead: Some(count) };
        let mut state = told(&mut states).await;
        if state == unknown {
            state = told(&mut states).await;
        }
        assert_eq!(state, ahead(2));
        first.release().await.unwrap();
        assert_eq!(told(&mut states).await, ahead(1));
        let second = granted(second).await;
        second.release().await.unwrap();
        let guard = ended(third).await.unwrap();
        let held = ClaimState::Held { fence: guard.fence() };
        // That nobody is ahead may be told before, or be over when it is looked at.
        let mut state = told(&mut states).await;
        if state == ahead(0) {
            state = told(&mut states).await;
        }
        assert_eq!(state, held);
        assert_eq!(guard.state(), held);
        let mut of_guard = guard.states();
        assert_eq!(told(&mut of_guard).await, held);
        assert_eq!(told(&mut late).await, held, "what is over is left out");
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        for states in [&mut states, &mut late] {
            assert_eq!(told(states).await, ClaimState::Released);
            assert_eq!(states.next().await, None);
        }
        assert_eq!(told(&mut of_guard).await, ClaimState::Released);
    })
    .await;
}

#[tokio::test]
async fn a_lock_asked_for_in_a_session_that_is_over_is_refused_with_the_reason() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        session.close().await.unwrap();
        let before = server.kv_calls().await;
        let closed = jobs.acquire().await.unwrap_err();
        assert_eq!(
            (closed.kind(), closed.loss_reason()),
            (ErrorKind::Lost, Some(LossReason::Closed))
        );
        assert_eq!(jobs.try_acquire().await.unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(server.kv_calls().await, before);

        // Nobody told this one that its lease is gone, but etcd says so.
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        client.lease_revoke(session.lease()).await.unwrap();
        for _ in 0..2 {
            let revoked = timeout(SOON, jobs.acquire()).await.unwrap().unwrap_err();
            assert_eq!(revoked.kind(), ErrorKind::Lost, "{revoked}");
            assert_eq!(revoked.loss_reason(), Some(LossReason::Revoked));
        }
        assert_eq!(session.lost().await, LossReason::Revoked);
        let client = server.client().await.unwrap();
        let jobs = Mutex::new(&open(&client).await, "jobs");
        client.close().await;
        let closed = timeout(SOON, jobs.acquire()).await.unwrap().unwrap_err();
        assert!(matches!(closed.kind(), ErrorKind::Closed | ErrorKind::Lost), "{closed}");
    })
    .await;
}
