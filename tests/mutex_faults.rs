//! The lock while answers are lost, members stand still or die, and sessions end in the queue.

use std::{future::IntoFuture, time::Duration};

use futures::{FutureExt, StreamExt};
use tenure::{ClaimState, Client, ErrorKind, KeyRange, LossReason, Mutex, Release, Session};
use tenure_testkit::{Call, Direction, Proxy, eventually, on_each_etcd, on_each_listener};
use tokio::time::timeout;

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{acquire, contenders_are, ended, granted, open, open_for, queue_up, seconds, why};
use start::{SOON, behind_a_proxy, cluster, start};

/// A client whose connection can be hurt.
async fn hurtable(endpoint: &str) -> (Proxy, Client) {
    let proxy = Proxy::start(endpoint).await.unwrap();
    let client = Client::connect([proxy.endpoint()]).await.unwrap();
    (proxy, client)
}

#[tokio::test]
async fn a_waiter_whose_lease_expired_in_the_queue_never_gets_the_lock() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let session = open(&direct).await;
        let jobs = Mutex::new(&session, "jobs");
        let holder = acquire(&jobs).await;
        let doomed = Session::builder().ttl(seconds(3)).reenter().open(&client).await.unwrap();
        let theirs = Mutex::new(&doomed, "jobs");
        let dead = queue_up(&theirs).await;
        let last = queue_up(&jobs).await;
        proxy.pause();
        // By its own clock: nobody can tell it.
        let error = ended(dead).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        assert_eq!(error.loss_reason(), Some(LossReason::Expired));
        contenders_are(&direct, 2).await;
        holder.release().await.unwrap();
        let last = granted(last).await;

        proxy.pass();
        // It may ask again, in a new life, and is behind those who came before.
        let again = tokio::spawn(theirs.acquire().into_future());
        contenders_are(&direct, 2).await;
        assert!(last.is_held() && !again.is_finished());
        let fence = last.fence();
        last.release().await.unwrap();
        let again = granted(again).await;
        assert!(again.fence() > fence && doomed.generation() > 0);
    })
    .await;
}

#[tokio::test]
async fn a_waiter_that_could_not_hear_of_its_revocation_never_gets_the_lock() {
    on_each_listener(async |server| {
        let (server, direct) = start(&server).await;
        let session = open(&direct).await;
        let jobs = Mutex::new(&session, "jobs");
        for others_follow in [false, true] {
            let (proxy, client) = hurtable(&server.endpoint()).await;
            let holder = acquire(&jobs).await;
            let doomed = open(&client).await;
            let dead = queue_up(&Mutex::new(&doomed, "jobs")).await;
            proxy.refuse();
            proxy.reset();
            direct.lease_revoke(doomed.lease()).await.unwrap();
            holder.release().await.unwrap();
            let next = if others_follow { Some(acquire(&jobs).await) } else { None };
            assert!(!dead.is_finished());
            proxy.pass();
            let error = ended(dead).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
            assert_eq!(error.loss_reason(), Some(LossReason::Revoked));
            if let Some(next) = next {
                assert!(next.is_held());
                next.release().await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_acquire_whose_answer_was_lost_is_one_entry_with_one_fence() {
    on_each_etcd(async |etcd| {
        let (cluster, direct) = cluster(&etcd, 3).await;
        let other = Mutex::new(&open(&direct).await, "jobs");
        for (contended, tried) in [(false, false), (true, false), (false, true)] {
            let (proxy, client) = hurtable(&cluster.endpoints()[0]).await;
            let jobs = Mutex::new(&open(&client).await, "jobs");
            let holder = if contended { Some(acquire(&other).await) } else { None };
            let ahead = usize::from(contended);
            proxy.blackhole(Direction::ToClient);
            let asking = match tried {
                false => tokio::spawn(jobs.acquire().into_future()),
                true => {
                    let tried = jobs.try_acquire().into_future();
                    tokio::spawn(async move { Ok(tried.await?.expect("it is ours")) })
                }
            };
            contenders_are(&direct, ahead + 1).await;
            let put = Mutex::inspect(&direct, "jobs").await.unwrap().remove(ahead);
            // The same again, at another member.
            proxy.retarget(&cluster.endpoints()[1]);
            proxy.pass();
            if let Some(holder) = holder {
                client.get("k").await.unwrap();
                assert!(!asking.is_finished());
                holder.release().await.unwrap();
            }
            let guard = granted(asking).await;
            let fence = guard.fence();
            assert_eq!((&fence.key, fence.create_revision), (&put.key, put.create_revision));
            assert_eq!(fence.mod_revision, fence.create_revision);
            contenders_are(&direct, 1).await;
            guard.kv().put("k", "v").await.unwrap();
            assert_eq!(guard.release().await.unwrap(), Release::Released);
            contenders_are(&direct, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_acquire_given_up_while_its_answer_is_missing_leaves_no_key() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let jobs = Mutex::new(&open(&client).await, "jobs");
        for dropped in [true, false] {
            proxy.blackhole(Direction::ToClient);
            let patience = if dropped { SOON } else { Duration::from_millis(300) };
            let asking = tokio::spawn(jobs.acquire().timeout(patience).into_future());
            contenders_are(&direct, 1).await;
            if dropped {
                asking.abort();
            } else {
                assert_eq!(ended(asking).await.unwrap_err().kind(), ErrorKind::Timeout);
            }
            proxy.pass();
            contenders_are(&direct, 0).await;
            let guard = acquire(&jobs).await;
            assert_eq!(guard.release().await.unwrap(), Release::Released);
        }
    })
    .await;
}

#[tokio::test]
async fn a_release_whose_answer_was_lost_touches_nobody_elses_hold() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let session = open(&client).await;
        let jobs = Mutex::new(&session, "jobs");
        for by_itself in [false, true] {
            let guard = acquire(&jobs).await;
            proxy.blackhole(Direction::ToClient);
            let releasing = tokio::spawn(guard.release());
            contenders_are(&direct, 0).await;
            // Taken again by the same session, from where answers come, or by another one.
            let next = match by_itself {
                true => Session::resume(&direct, session.lease()).await.unwrap(),
                false => open(&direct).await,
            };
            let next = acquire(&Mutex::new(&next, "jobs")).await;
            proxy.pass();
            assert_eq!(ended(releasing).await.unwrap(), Release::Released, "sent again");
            assert!(next.is_held());
            next.kv().put("k", "v").await.unwrap();
            contenders_are(&direct, 1).await;
            assert_eq!(next.release().await.unwrap(), Release::Released);
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_paused_member_applies_late_makes_no_entry() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        let leader = cluster.leader().await.unwrap();
        let follower = (leader + 1) % 3;
        let direct = Client::connect([cluster.endpoints()[leader].clone()]).await.unwrap();
        // So long that the request is seen among what else is sent.
        let name = "n".repeat(1000);
        for round in 0..6 {
            let (proxy, client) = hurtable(&cluster.endpoints()[follower]).await;
            let session = open(&client).await;
            let jobs = Mutex::new(&session, &name);
            if round % 2 == 0 {
                acquire(&jobs).await.release().await.unwrap();
            }
            let came = cluster.member(follower).calls(Call::Txn).await;
            let sent = proxy.bytes_to_server();
            cluster.pause(follower).unwrap();
            let patience = if round % 3 == 0 { Duration::from_millis(200) } else { SOON };
            let asking = tokio::spawn(jobs.acquire().timeout(patience).into_future());
            eventually(SOON, "it is sent", async || proxy.bytes_to_server() > sent + 3000).await;
            // Nor does the member hear that nobody waits for the answer.
            proxy.blackhole(Direction::ToServer);
            client.set_endpoints([proxy.endpoint(), direct.endpoints()[0].clone()]).await.unwrap();
            match round % 3 {
                0 => assert_eq!(ended(asking).await.unwrap_err().kind(), ErrorKind::Timeout),
                1 => asking.abort(),
                _ => session.close().await.unwrap(),
            }
            // It is withdrawn through another member, which is seen by the mark that it leaves.
            let lease = session.lease();
            let mark = format!("tenure/session/{:x}", lease.get());
            eventually(SOON, "it is withdrawn", async || {
                let gone = direct.lease_time_to_live(lease).await.unwrap().remaining.is_none();
                gone || direct.count(mark.clone()).await.unwrap().count == 1
            })
            .await;
            cluster.resume(follower).unwrap();
            eventually(SOON, "the late copy has come", async || {
                cluster.member(follower).calls(Call::Txn).await > came
            })
            .await;
            // What the follower proposed before this write was applied before it.
            let at = Client::connect([cluster.endpoints()[follower].clone()]).await.unwrap();
            at.put("after", "").await.unwrap();
            let left = direct.get(KeyRange::prefix("tenure/mutex/")).await.unwrap();
            assert_eq!(left.kvs, [], "round {round}");
            proxy.pass();
            if session.is_held() {
                acquire(&jobs).await.release().await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_stream_of_renewals_is_left_before_the_lock_is_lost() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        let mut proxies = Vec::new();
        for endpoint in cluster.endpoints() {
            proxies.push(Proxy::start(&endpoint).await.unwrap());
        }
        let client = Client::connect(proxies.iter().map(Proxy::endpoint)).await.unwrap();
        let guard = acquire(&Mutex::new(&open_for(&client, seconds(9)).await, "jobs")).await;
        let mut states = guard.states();
        let held = Some(ClaimState::Held { fence: guard.fence() });
        assert_eq!(states.next().await, held);
        for (proxy, member) in proxies.iter().zip(cluster.members()) {
            if member.calls(Call::LeaseKeepAlive).await.unwrap_or(0) > 0 {
                proxy.blackhole(Direction::ToClient);
            }
        }
        let state = timeout(SOON, states.next()).await.expect("it is told");
        let Some(ClaimState::Jeopardy { until }) = state else { panic!("{state:?}") };
        assert!(guard.is_held() && client.clock().now() < until);
        assert_eq!(timeout(SOON, states.next()).await.expect("it is told"), held);
        assert!(guard.deadline() > until);
        guard.kv().put("k", "v").await.unwrap();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    })
    .await;
}

#[tokio::test]
async fn holders_and_waiters_outlive_every_member_and_changes_of_leader() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let session = open_for(&client, seconds(9)).await;
        let guard = acquire(&Mutex::new(&session, "jobs")).await;
        let stranger = Client::connect(cluster.endpoints()).await.unwrap();
        let other = Mutex::new(&open_for(&stranger, seconds(9)).await, "jobs");
        let waiting = queue_up(&other).await;
        for index in 0..3 {
            cluster.kill(index).unwrap();
            let (before, now) = (session.deadline(), client.clock().now());
            assert!(before <= now + session.ttl(), "no more than it was granted");
            eventually(SOON, "it is renewed", async || session.deadline() > before).await;
            cluster.restart(index).await.unwrap();
        }
        // The leader hands over when it is told to end, and the lease starts anew.
        let leader = cluster.leader().await.unwrap();
        cluster.stop(leader).await.unwrap();
        let before = session.deadline();
        eventually(SOON, "it is renewed", async || session.deadline() > before).await;
        assert!(guard.is_held() && !waiting.is_finished());
        guard.kv().put("k", "v").await.unwrap();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        let next = granted(waiting).await;
        assert!(next.is_held());
        next.kv().put("k", "w").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_is_cut_off_is_told_before_the_next_one_has_the_lock() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let guard = acquire(&Mutex::new(&open_for(&client, seconds(3)).await, "jobs")).await;
        let next = Mutex::new(&open(&direct).await, "jobs");
        let next = queue_up(&next).await;
        proxy.blackhole(Direction::Both);
        assert_eq!(why(guard.lost()).await, LossReason::Expired);
        assert!(!next.is_finished(), "the server still has the lease");
        let next = granted(next).await;
        assert!(guard.fence() < next.fence());
        proxy.pass();
        let own = guard.kv();
        let stale = own.put("k", "stale").into_future().now_or_never().expect("at once");
        assert_eq!(stale.unwrap_err().loss_reason(), Some(LossReason::Expired));
        assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Expired));
        assert!(next.is_held());
    })
    .await;
}
