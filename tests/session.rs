//! Sessions: their lease, their states, and how they end.

use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future::try_join_all};
use tenure::{
    ClaimState, Client, ErrorKind, EtcdError, EventKind, KeyRange, LeaseState, LossReason, Mutex,
    MutexGuard, Session, WatchStream,
};
use tenure_testkit::{
    Call, Fault, Server, TestServer, embed::Data, eventually, on_each_etcd, on_each_listener,
    on_each_server, virtual_time,
};
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{open, open_for, seconds, told, why};
use start::{MINUTE, SOON, behind_a_proxy, cluster, start};

async fn acquire(session: &Session, name: &str) -> MutexGuard {
    lock::acquire(&Mutex::new(session, name)).await
}

async fn ended(states: &mut (impl Stream<Item = LeaseState> + Unpin)) -> bool {
    timeout(SOON, states.next()).await.expect("the stream ends").is_none()
}

/// The keys of the next so many deletions.
async fn deletions(watch: &mut WatchStream, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    while keys.len() < count {
        let told = timeout(SOON, watch.try_next()).await.expect("keys go").unwrap().unwrap();
        let gone = told.events().iter().filter(|event| event.kind == EventKind::Delete);
        keys.extend(gone.map(|event| String::from_utf8(event.kv.key.to_vec()).unwrap()));
    }
    keys
}

async fn lives(client: &Client, session: &Session) -> bool {
    let lease = client.lease_time_to_live(session.lease()).await.unwrap();
    lease.remaining.is_some()
}

fn lost(reason: LossReason) -> LeaseState {
    LeaseState::Lost { reason }
}

fn keys() -> KeyRange {
    KeyRange::prefix("tenure/")
}

#[tokio::test]
async fn a_session_has_the_ttl_that_was_asked_for_and_ends_a_little_before_it() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let before = client.clock().now();
        let session = Session::open(&client).await.unwrap();
        let after = client.clock().now();
        assert_eq!((session.ttl(), session.generation()), (seconds(15), 0));
        assert!(session.is_held());
        assert_eq!(session.state(), LeaseState::Healthy);
        // 1 % for clocks that drift, a twentieth for what is on its way.
        let kept = seconds(15).mul_f64(0.99 - 0.05);
        assert!(session.deadline() <= after + kept, "no later than the server's");
        assert!(session.deadline() >= before + kept - Duration::from_millis(1));
        let longer = open_for(&client, seconds(300)).await;
        let lease = client.lease_time_to_live(longer.lease()).await.unwrap();
        assert_eq!((longer.ttl(), lease.granted_ttl), (seconds(300), Some(seconds(300))));
        assert_ne!(session.lease(), longer.lease());

        let none = Session::builder().ttl(Duration::ZERO).open(&client).await.unwrap_err();
        assert_eq!(none.kind(), ErrorKind::InvalidInput, "{none}");
        assert_eq!(client.leases().await.unwrap().leases.len(), 2);
        client.close().await;
        assert_eq!(Session::open(&client).await.unwrap_err().kind(), ErrorKind::Closed);
    })
    .await;
}

#[tokio::test]
async fn closing_gives_back_what_is_held_the_newest_first_and_ends_the_lease() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let mut states = session.states();
        assert_eq!(told(&mut states).await, LeaseState::Healthy);
        let mut watch = client.watch(keys()).without_puts().await.unwrap();
        let mut held = Vec::new();
        for name in ["a", "b", "c"] {
            held.push(acquire(&session, name).await);
        }
        let waiting = Mutex::new(&session, "a").acquire().into_future();
        let mut waits = waiting.states();
        let waiting = tokio::spawn(waiting);
        let ahead = ClaimState::Waiting { ahead: Some(1) };
        eventually(SOON, "it waits", async || waits.next().await == Some(ahead.clone())).await;

        session.close().await.unwrap();
        assert!(!session.is_held() && held.iter().all(|guard| !guard.is_held()));
        assert_eq!(session.ttl(), Duration::ZERO);
        for guard in &held {
            assert_eq!(why(guard.lost()).await, LossReason::Closed);
        }
        let error = timeout(SOON, waiting).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::Closed), "{error}");
        let gone = deletions(&mut watch, 4).await;
        let order: Vec<_> = gone.iter().map(|key| key.split('/').nth(2).unwrap()).collect();
        assert_eq!(order, ["a", "c", "b", "a"], "{gone:?}");
        assert!(!lives(&client, &session).await);
        assert_eq!(told(&mut states).await, lost(LossReason::Closed));
        assert!(ended(&mut states).await);
        session.close().await.unwrap();
        assert_eq!(session.orphan().await.unwrap_err().kind(), ErrorKind::Lost);
    })
    .await;
}

#[tokio::test]
async fn an_orphaned_session_leaves_its_keys_for_one_ttl_or_whoever_resumes_it() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        for resumed in [true, false] {
            let session = open_for(&client, seconds(3)).await;
            let guard = acquire(&session, "jobs").await;
            assert_eq!(session.orphan().await.unwrap(), session.lease());
            assert!(!guard.is_held());
            assert_eq!(why(guard.lost()).await, LossReason::Orphaned);
            assert_eq!(session.state(), lost(LossReason::Orphaned));
            assert!(lives(&client, &session).await);
            assert_eq!(client.count(keys()).await.unwrap().count, 1);
            let again = session.orphan().await.unwrap_err();
            assert_eq!(again.loss_reason(), Some(LossReason::Orphaned));
            drop(guard);
            session.close().await.unwrap();
            if resumed {
                let next = Session::resume(&client, session.lease()).await.unwrap();
                assert_eq!((next.lease(), next.ttl()), (session.lease(), seconds(3)));
                assert_eq!(next.inherited().len(), 1);
                let later = next.deadline() + seconds(3);
                eventually(SOON, "it is kept", async || next.deadline() > later).await;
                let kept = client.count(keys()).await.unwrap().count;
                assert_eq!(kept, 2, "the lock's, and the one that says who resumed");
                next.close().await.unwrap();
            } else {
                let mut watch = client.watch(keys()).without_puts().await.unwrap();
                assert_eq!(deletions(&mut watch, 1).await.len(), 1);
            }
            assert!(!lives(&client, &session).await);
            assert_eq!(client.count(keys()).await.unwrap().count, 0);
        }
        let gone = open(&client).await;
        gone.close().await.unwrap();
        let error = Session::resume(&client, gone.lease()).await.unwrap_err();
        assert_eq!(error.etcd_error(), Some(EtcdError::LeaseNotFound), "{error}");
        assert_eq!(error.kind(), ErrorKind::Refused);
    })
    .await;
}

#[tokio::test]
async fn the_last_that_is_dropped_ends_the_lease() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let is_gone = async |session: tenure::LeaseId| {
            client.lease_time_to_live(session).await.unwrap().remaining.is_none()
        };
        let session = open(&client).await;
        let (lease, other) = (session.lease(), session.clone());
        let mutex = Mutex::new(&session, "jobs");
        let guard = acquire(&session, "jobs").await;
        drop((session, other));
        assert!(guard.is_held());
        assert_eq!(guard.fence().lease, lease);
        let own = guard.kv();
        own.put("k", "v").await.unwrap();
        drop(guard);
        eventually(SOON, "the lock is free", async || mutex.holders().await.unwrap().is_empty())
            .await;
        assert_eq!(own.put("k", "w").await.unwrap_err().kind(), ErrorKind::Lost);
        assert!(mutex.session().is_held());
        drop((mutex, own));
        eventually(SOON, "the lease is revoked", async || is_gone(lease).await).await;

        // Nor does one stay that is given up before it is open.
        for polls in 0..3 {
            let mut opening = Box::pin(Session::open(&client));
            for _ in 0..polls {
                assert!(opening.as_mut().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
        }
        eventually(SOON, "no lease is left", async || {
            client.leases().await.unwrap().leases.is_empty()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn states_are_told_in_their_order_and_late_comers_hear_the_last_at_once() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let session = open_for(&client, seconds(6)).await;
        let mut states = session.states();
        assert_eq!(told(&mut states).await, LeaseState::Healthy);
        proxy.pause();
        let LeaseState::Jeopardy { until } = told(&mut states).await else { panic!("jeopardy") };
        assert_eq!((session.deadline(), session.is_held()), (until, true));
        proxy.pass();
        assert_eq!(told(&mut states).await, LeaseState::Healthy);
        assert!(session.deadline() > until);

        proxy.refuse();
        proxy.reset();
        assert!(matches!(told(&mut states).await, LeaseState::Jeopardy { .. }));
        let until = session.deadline();
        assert_eq!(told(&mut states).await, lost(LossReason::Expired));
        assert!(client.clock().now() >= until, "not before the deadline");
        assert!(lives(&direct, &session).await, "and before the server");
        assert!(ended(&mut states).await);
        let mut late = session.states();
        assert_eq!(late.next().now_or_never(), Some(Some(lost(LossReason::Expired))));
        assert_eq!(late.next().now_or_never(), Some(None));
        assert_eq!(session.lost().now_or_never(), Some(LossReason::Expired));
        proxy.pass();
        eventually(SOON, "what it had is given up", async || !lives(&direct, &session).await).await;
        assert_eq!(session.state(), lost(LossReason::Expired), "nothing revives it");
    })
    .await;
}

#[tokio::test]
async fn a_lease_revoked_by_somebody_else_is_lost_and_its_siblings_are_not() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let stranger = server.client().await.unwrap();
        let (idle, holder) =
            (open_for(&client, seconds(3)).await, open_for(&client, seconds(300)).await);
        let sibling = open_for(&client, seconds(3)).await;
        let guard = acquire(&holder, "jobs").await;
        let kept = acquire(&sibling, "other").await;
        // Heard at the next renewal, and much sooner where a key is watched.
        stranger.lease_revoke(idle.lease()).await.unwrap();
        assert_eq!(why(idle.lost()).await, LossReason::Revoked);
        stranger.lease_revoke(holder.lease()).await.unwrap();
        assert_eq!(why(guard.lost()).await, LossReason::Revoked);
        assert_eq!(why(holder.lost()).await, LossReason::Revoked);
        assert!(!holder.is_held() && !guard.is_held());
        idle.close().await.unwrap();
        let before = sibling.deadline();
        eventually(SOON, "the other is renewed", async || sibling.deadline() > before).await;
        assert!(kept.is_held());
        assert_eq!(sibling.state(), LeaseState::Healthy);
    })
    .await;
}

#[tokio::test]
async fn a_session_that_reenters_begins_anew_and_what_was_held_stays_lost() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = Session::builder().ttl(seconds(3)).reenter().open(&client).await.unwrap();
        let mut states = session.states();
        let mut leases = Vec::new();
        let mut fences = Vec::new();
        for generation in 0..3 {
            assert_eq!(told(&mut states).await, LeaseState::Healthy);
            assert_eq!(session.generation(), generation);
            leases.push(session.lease());
            let guard = acquire(&session, "jobs").await;
            assert_eq!(guard.fence().lease, session.lease());
            fences.push(guard.fence());
            let own = guard.kv();
            own.put("k", "v").await.unwrap();
            let lease = session.lease();
            client.lease_revoke(lease).await.unwrap();
            assert_eq!(why(guard.lost()).await, LossReason::Revoked);
            assert_eq!(told(&mut states).await, lost(LossReason::Revoked));
            eventually(SOON, "it begins anew", async || session.lease() != lease).await;
            // Waits for the next life if it must.
            let again = acquire(&session, "jobs").await;
            assert!(again.is_held() && !guard.is_held());
            assert_eq!(guard.lost().now_or_never(), Some(LossReason::Revoked));
            assert_eq!(own.put("k", "w").await.unwrap_err().kind(), ErrorKind::Lost);
            drop(guard);
            again.release().await.unwrap();
        }
        assert!(leases[0] != leases[1] && leases[1] != leases[2]);
        assert!(fences[0] < fences[1] && fences[1] < fences[2]);
        assert_eq!(told(&mut states).await, LeaseState::Healthy);
        session.close().await.unwrap();
        assert_eq!(told(&mut states).await, lost(LossReason::Closed));
        assert!(ended(&mut states).await);
        let error = Mutex::new(&session, "jobs").acquire().await.unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::Closed));
        eventually(SOON, "no lease is left", async || {
            client.leases().await.unwrap().leases.is_empty()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_session_outlives_members_and_connections_that_come_and_go() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let session = open_for(&client, seconds(10)).await;
        let guard = acquire(&session, "jobs").await;
        for index in 0..3 {
            cluster.kill(index).unwrap();
            let before = session.deadline();
            eventually(SOON, "it is renewed", async || session.deadline() > before).await;
            cluster.restart(index).await.unwrap();
        }
        assert!(guard.is_held());
        guard.kv().put("k", "v").await.unwrap();
        assert_eq!(session.generation(), 0);
    })
    .await;
}

#[tokio::test]
async fn another_cluster_behind_the_same_address_is_no_place_for_the_session() {
    on_each_listener(async |server| {
        let (_server, proxy, client, _) = behind_a_proxy(&server).await;
        let (other, there) = start(&server).await;
        let session = open_for(&client, seconds(10)).await;
        there.lease_grant(seconds(60)).id(session.lease()).await.unwrap();
        let guard = acquire(&session, "jobs").await;
        proxy.retarget(&other.endpoint());
        proxy.reset();
        // It has a lease of that number, too, and answers each renewal.
        assert_eq!(why(session.lost()).await, LossReason::ClusterChanged);
        assert_eq!(why(guard.lost()).await, LossReason::ClusterChanged);
    })
    .await;
}

#[tokio::test]
async fn renewals_go_on_while_the_callers_thread_is_blocked() {
    let ttl = seconds(2);
    // On all servers at once, since it takes its time.
    let mut blocked = Vec::new();
    for kind in Server::all().unwrap() {
        let (server, client) = start(&kind).await;
        let session = open_for(&client, ttl).await;
        let guard = acquire(&session, "jobs").await;
        let mut states = session.states();
        assert_eq!(told(&mut states).await, LeaseState::Healthy);
        blocked.push((kind, server, guard, states));
    }
    // This waits for no state. It is what is tested: a caller that blocks its thread, the only one
    // of this runtime, for the 10 x TTL that were promised; renewals must not need that thread.
    #[expect(clippy::disallowed_methods, reason = "that it blocks the caller's thread is tested")]
    std::thread::sleep(10 * ttl);
    for (kind, _server, guard, mut states) in blocked {
        assert!(guard.is_held(), "on {kind}");
        assert_eq!(states.next().now_or_never(), None, "it was healthy all the time on {kind}");
        guard.kv().put("k", "v").await.unwrap();
    }
}

#[test]
fn a_session_with_a_thousand_locks_sends_no_more_renewals_than_one_with_none() {
    let with_all_and_none = async |server: TestServer| {
        let client = server.client().await.unwrap();
        let session = open_for(&client, seconds(6)).await;
        // Three renewals take about as long as one TTL.
        let in_a_while = async || {
            let (before, until) = (server.renewals().await, session.deadline() + session.ttl());
            eventually(SOON, "it is renewed", async || session.deadline() >= until).await;
            server.renewals().await - before
        };
        let with_none = in_a_while().await;
        let locks: Vec<_> =
            (0..1000).map(|number| Mutex::new(&session, format!("{number}"))).collect();
        let held = try_join_all(locks.iter().map(|lock| lock.acquire().into_future()));
        let held = timeout(3 * SOON, held).await.unwrap().unwrap();
        let with_all = in_a_while().await;
        assert!(held.iter().all(|guard| guard.is_held()));
        assert!(with_none >= 3, "{with_none}");
        assert!(with_all <= with_none + 1, "{with_all}, and {with_none} without locks");
        session.close().await.unwrap();
    };
    // It takes its time, where there is no other.
    virtual_time(with_all_and_none);
    Runtime::new().unwrap().block_on(on_each_etcd(async |etcd| {
        let (server, _) = start(&Server::Etcd(etcd)).await;
        with_all_and_none(server).await;
    }));
}

#[test]
fn a_session_whose_answers_are_lost_has_one_lease_and_counts_from_the_first_copy() {
    for fault in [Fault::lose_answer(), Fault::silence()] {
        for times in 1..=3 {
            virtual_time(async |server| {
                let client = server.client().await.unwrap();
                let server = server.embedded().unwrap();
                let lost = |call| server.inject(fault.clone().on(call).times(times));
                let grants = lost(Call::LeaseGrant);
                let begun = client.clock().now();
                let session = Session::open(&client).await.unwrap();
                assert!(grants.is_spent());
                let kept = seconds(15).mul_f64(0.99 - 0.05);
                assert_eq!(session.deadline(), begun + kept);
                assert_eq!(client.leases().await.unwrap().leases, [session.lease()]);
                sleep(MINUTE).await;
                assert_eq!(session.state(), LeaseState::Healthy);

                let guard = acquire(&session, "jobs").await;
                let revocations = lost(Call::LeaseRevoke);
                session.close().await.unwrap();
                assert!(revocations.is_spent());
                assert_eq!(why(guard.lost()).await, LossReason::Closed);
                assert!(client.leases().await.unwrap().leases.is_empty());
                assert_eq!(client.count(keys()).await.unwrap().count, 0);
            });
        }
    }
}

#[test]
fn renewals_that_are_lost_cost_nothing_before_the_ttl_is_over() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let server = server.embedded().unwrap();
        let session = Session::open(&client).await.unwrap();
        let guard = acquire(&session, "jobs").await;
        for fault in [Fault::lose_request(), Fault::ignore(), Fault::silence()] {
            for _ in 0..2 {
                // A third of it may pass before the first renewal is due.
                let lost = server.inject(fault.clone().on(Call::LeaseKeepAlive));
                server.cut_streams();
                sleep(session.ttl() / 2).await;
                drop(lost);
                sleep(session.ttl()).await;
                assert_eq!(session.state(), LeaseState::Healthy);
            }
        }
        assert!(guard.is_held());
        assert_eq!(session.generation(), 0);
    });
}

#[test]
fn a_session_that_reenters_lives_on_at_a_server_that_lost_its_data() {
    virtual_time(async |server| {
        let client = server.client().await.unwrap();
        let session = Session::builder().reenter().open(&client).await.unwrap();
        let mut states = session.states();
        for generation in 0..3 {
            assert_eq!(told(&mut states).await, LeaseState::Healthy);
            let guard = acquire(&session, "jobs").await;
            assert_eq!(session.generation(), generation);
            server.embedded().unwrap().restart(Data::Lost);
            let changed = LossReason::ClusterChanged;
            assert_eq!(told(&mut states).await, lost(changed));
            assert!(!guard.is_held());
            assert_eq!(why(guard.lost()).await, changed);
        }
    });
}
