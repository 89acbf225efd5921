//! Keeping leases alive while members and connections fail, and hearing of the loss in
//! time when that cannot be done.

use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt, future::join_all};
use tenure::{Client, ErrorKind, EventKind, LeaseGrant, LeaseId, LeaseState, LossReason};
use tenure_testkit::{
    Call, Cluster, Member, eventually, on_each_etcd, on_each_listener, on_each_server,
};
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;
use start::{MINUTE, SOON, behind_a_proxy, cluster, start};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Streams of renewals that were opened on it.
async fn streams(member: &Member) -> u64 {
    member.calls(Call::LeaseKeepAlive).await.unwrap_or(0)
}

/// The member that the only stream of renewals is on.
async fn host(cluster: &Cluster) -> usize {
    eventually(SOON, "a member has the stream of renewals", async || {
        for (index, member) in cluster.members().iter().enumerate() {
            if streams(member).await > 0 {
                return Some(index);
            }
        }
        None
    })
    .await
}

fn lost(reason: LossReason) -> LeaseState {
    LeaseState::Lost { reason }
}

#[tokio::test]
async fn a_kept_lease_outlives_its_ttl_with_a_renewal_every_third_of_it() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let lease = client.lease_grant(seconds(3)).await.unwrap();
        client.put("key", "value").lease(lease.id).await.unwrap();
        let begin = client.clock().now();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        assert_eq!(kept.state(), LeaseState::Healthy);
        // Nobody reads this one.
        let _states = kept.states();
        eventually(SOON, "three TTLs go by", async || client.clock().now() > begin + seconds(9))
            .await;
        assert!(kept.is_held());
        assert_eq!(client.count("key").await.unwrap().count, 1);
        let renewed = server.renewals().await as f64;
        let thirds = client.clock().now().since(begin).as_secs_f64();
        assert!(renewed >= thirds * 0.6 && renewed <= thirds / 0.9 + 1.0, "{renewed} in {thirds}");
        assert_eq!(server.calls(Call::LeaseKeepAlive).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_shortest_lease_there_is_can_be_kept() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(seconds(1)).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        for _ in 0..6 {
            let before = kept.deadline();
            eventually(SOON, "a renewal is answered", async || kept.deadline() > before).await;
        }
        assert!(kept.is_held());
        let left = client.lease_time_to_live(lease.id).await.unwrap();
        assert_eq!(left.granted_ttl, Some(seconds(1)));
    })
    .await;
}

#[tokio::test]
async fn a_lease_known_by_its_id_alone_is_renewed_at_once() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let lease = client.lease_grant(seconds(7)).await.unwrap();
        let other = server.client().await.unwrap();
        let asked = other.clock().now();
        let kept = other.lease_keep_alive(lease.id).await.unwrap();
        assert_eq!((kept.id(), kept.ttl()), (lease.id, seconds(7)));
        assert!(kept.deadline() >= asked + seconds(6));
        assert_eq!(kept.states().next().await, Some(LeaseState::Healthy));
    })
    .await;
}

#[tokio::test]
async fn many_handles_keep_one_lease_until_the_last_is_dropped() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let mut watch = client.watch("key").without_puts().await.unwrap();
        let lease = client.lease_grant(seconds(2)).await.unwrap();
        client.put("key", "value").lease(lease.id).await.unwrap();
        let mut handles = Vec::new();
        for _ in 0..10 {
            handles.push(client.lease_keep_alive(&lease).await.unwrap());
            handles.push(client.clone().lease_keep_alive(lease.id).await.unwrap());
        }
        let last = handles.pop().unwrap();
        drop(handles);
        let before = last.deadline();
        eventually(SOON, "the last handle keeps it", async || last.deadline() > before + lease.ttl)
            .await;
        assert_eq!(last.state(), LeaseState::Healthy);
        let renewed = server.renewals().await;
        assert!(renewed < 15, "{renewed} renewals of one lease");
        assert!(watch.try_next().now_or_never().is_none(), "the key is there");

        drop(last);
        let gone = timeout(SOON, watch.try_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(gone.events()[0].kind, EventKind::Delete);
    })
    .await;
}

#[tokio::test]
async fn a_handle_that_is_given_up_leaves_the_others_and_the_client_ends_them_all() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let lease = client.lease_grant(seconds(10)).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        let mut states = kept.states();
        assert_eq!(states.next().await, Some(LeaseState::Healthy));
        // Begun, and dropped before there was an answer.
        assert!(client.lease_keep_alive(lease.id).now_or_never().is_none());
        drop(client.lease_keep_alive(&lease).await.unwrap());
        let before = kept.deadline();
        assert_eq!(client.lease_keep_alive_once(lease.id).await.unwrap(), seconds(10));
        assert!(kept.deadline() > before);

        client.close().await;
        assert_eq!(states.next().await, Some(lost(LossReason::Closed)));
        assert_eq!(states.next().await, None);
        assert_eq!(kept.lost().await, LossReason::Closed);
    })
    .await;
}

#[tokio::test]
async fn revoking_one_of_three_leases_ends_only_its_own_handle() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let stranger = server.client().await.unwrap();
        let mut kept = Vec::new();
        for _ in 0..3 {
            let lease = client.lease_grant(seconds(3)).await.unwrap();
            kept.push(client.lease_keep_alive(&lease).await.unwrap());
        }
        stranger.lease_revoke(kept[1].id()).await.unwrap();
        let reason = timeout(SOON, kept[1].lost()).await.unwrap();
        assert_eq!(reason, LossReason::Revoked);
        assert!(!kept[1].is_held());
        for place in [0, 2] {
            let before = kept[place].deadline();
            eventually(SOON, "it is renewed", async || kept[place].deadline() > before).await;
            assert_eq!(kept[place].state(), LeaseState::Healthy);
        }
    })
    .await;
}

#[tokio::test]
async fn renewals_go_on_after_the_only_member_was_restarted() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let lease = client.lease_grant(seconds(10)).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        for _ in 0..2 {
            server.restart().await.unwrap();
            let before = kept.deadline();
            eventually(SOON, "a renewal is answered", async || kept.deadline() > before).await;
        }
        assert_eq!(kept.state(), LeaseState::Healthy);
    })
    .await;
}

#[tokio::test]
async fn a_lease_revoked_while_the_client_was_cut_off_is_told_gone_after_the_reconnect() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let lease = client.lease_grant(seconds(9)).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        client.lease_keep_alive_once(lease.id).await.unwrap();
        proxy.refuse();
        proxy.reset();
        direct.lease_revoke(lease.id).await.unwrap();
        assert!(kept.is_held(), "nobody can have told it yet");
        proxy.pass();
        let reason = timeout(SOON, kept.lost()).await.unwrap();
        assert_eq!(reason, LossReason::Revoked);
    })
    .await;
}

#[tokio::test]
async fn keeping_an_unheard_of_lease_fails_in_time_when_nobody_answers() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 1).await;
        let builder = Client::builder(cluster.endpoints()).request_timeout(seconds(2));
        let client = builder.connect().await.unwrap();
        let id = client.lease_grant(MINUTE).await.unwrap().id;
        for down in [false, true] {
            if down {
                cluster.kill(0).unwrap();
            } else {
                cluster.pause(0).unwrap();
            }
            let keep = timeout(SOON, client.lease_keep_alive(id));
            let once = timeout(SOON, client.lease_keep_alive_once(id));
            let (keep, once) = tokio::join!(keep, once);
            assert_eq!(keep.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
            assert_eq!(once.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        }
    })
    .await;
}

#[tokio::test]
async fn renewing_a_kept_lease_once_fails_in_time_too() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 1).await;
        let builder = Client::builder(cluster.endpoints()).request_timeout(seconds(2));
        let client = builder.connect().await.unwrap();
        let lease = client.lease_grant(MINUTE).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        cluster.pause(0).unwrap();
        let once = timeout(SOON, client.lease_keep_alive_once(lease.id)).await;
        assert_eq!(once.expect("it has a deadline").unwrap_err().kind(), ErrorKind::Timeout);
        assert!(kept.is_held(), "what nobody answered says nothing about the lease");
        cluster.resume(0).unwrap();
        assert_eq!(client.lease_keep_alive_once(lease.id).await.unwrap(), MINUTE);
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_in_jeopardy_first_and_then_lost_before_the_servers_could_give_it_away() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let before_grant = client.clock().now();
        let lease = client.lease_grant(seconds(5)).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        for index in 0..3 {
            cluster.pause(index).unwrap();
        }
        let mut states = kept.states();
        assert_eq!(states.next().await, Some(LeaseState::Healthy));
        let jeopardy = timeout(SOON, states.next()).await.unwrap();
        let Some(LeaseState::Jeopardy { until }) = jeopardy else { panic!("{jeopardy:?}") };
        assert!(kept.is_held());
        assert_eq!(kept.deadline(), until);
        assert!(until < before_grant + lease.ttl);
        let over = timeout(SOON, states.next()).await.unwrap();
        let told = client.clock().now();
        assert_eq!(over, Some(lost(LossReason::Expired)));
        assert!(told >= until, "told {:?} early", until.since(told));
        assert!(told < before_grant + lease.ttl, "told {:?} after the deadline", told.since(until));
        assert!(!kept.is_held());
        assert_eq!(states.next().await, None);
    })
    .await;
}

#[tokio::test]
async fn a_lease_whose_only_member_died_is_lost_within_its_ttl() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 1).await;
        let lease = client.lease_grant(seconds(3)).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        client.lease_keep_alive_once(lease.id).await.unwrap();
        cluster.kill(0).unwrap();
        let latest = client.clock().now() + lease.ttl;
        let reason = timeout(SOON, kept.lost()).await.unwrap();
        assert_eq!(reason, LossReason::Expired);
        assert!(client.clock().now() < latest);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_comes_after_the_loss_revives_nothing() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let (long, short) = (client.lease_grant(MINUTE), client.lease_grant(seconds(2)));
        let (long, short) = (long.await.unwrap(), short.await.unwrap());
        let _long = client.lease_keep_alive(&long).await.unwrap();
        let kept = client.lease_keep_alive(&short).await.unwrap();
        proxy.pause();
        let reason = timeout(SOON, kept.lost()).await.unwrap();
        assert_eq!(reason, LossReason::Expired);
        proxy.pass();
        // Its answer comes after the one that was held back, on the same stream.
        client.lease_keep_alive_once(long.id).await.unwrap();
        assert_eq!(kept.state(), lost(LossReason::Expired));
        assert!(!kept.is_held());
        eventually(SOON, "nobody renews it", async || {
            direct.lease_time_to_live(short.id).await.unwrap().remaining.is_none()
        })
        .await;
    })
    .await;
}

/// The lease is renewed by another member than `hurt`, before the deadline it had when that
/// happened.
async fn is_kept_elsewhere(cluster: &Cluster, client: &Client, hurt: usize, grant: &LeaseGrant) {
    let kept = client.lease_keep_alive(grant).await.unwrap();
    let before = kept.deadline();
    let new = eventually(SOON, "another member renews it", async || {
        let elsewhere = (0..3).filter(|&index| index != hurt);
        let asked = join_all(elsewhere.map(|index| streams(cluster.member(index)))).await;
        let moved = asked.iter().sum::<u64>() > 0;
        (moved && kept.deadline() > before).then(|| client.clock().now())
    })
    .await;
    assert!(new < before, "{:?} after the old deadline", new.since(before));
    assert!(kept.is_held());
    let before = kept.deadline();
    eventually(SOON, "and again", async || kept.deadline() > before).await;
}

#[tokio::test]
async fn renewals_move_to_another_member_when_theirs_is_frozen() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let lease = client.lease_grant(seconds(9)).await.unwrap();
        let _kept = client.lease_keep_alive(&lease).await.unwrap();
        client.lease_keep_alive_once(lease.id).await.unwrap();
        let host = host(&cluster).await;
        cluster.pause(host).unwrap();
        is_kept_elsewhere(&cluster, &client, host, &lease).await;
    })
    .await;
}

#[tokio::test]
async fn renewals_leave_a_member_that_is_cut_off_from_the_leader() {
    on_each_etcd(async |etcd| {
        let builder = Cluster::builder(&etcd).members(3).fast(true).proxied_peers(true);
        let cluster = builder.start().await.unwrap();
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let lease = client.lease_grant(seconds(9)).await.unwrap();
        let _kept = client.lease_keep_alive(&lease).await.unwrap();
        client.lease_keep_alive_once(lease.id).await.unwrap();
        let host = host(&cluster).await;
        cluster.isolate(host).unwrap();
        is_kept_elsewhere(&cluster, &client, host, &lease).await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_survives_the_death_of_the_leader() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let lease = client.lease_grant(seconds(6)).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        client.lease_keep_alive_once(lease.id).await.unwrap();
        for _ in 0..2 {
            let leader = cluster.leader().await.unwrap();
            cluster.kill(leader).unwrap();
            let before = kept.deadline();
            eventually(SOON, "it is renewed", async || kept.deadline() > before).await;
            assert!(kept.is_held());
            cluster.restart(leader).await.unwrap();
        }
        assert_eq!(kept.state(), LeaseState::Healthy);
    })
    .await;
}

#[tokio::test]
async fn a_lease_survives_a_loss_of_quorum_shorter_than_its_ttl() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let lease = client.lease_grant(seconds(9)).await.unwrap();
        client.put("key", "value").lease(lease.id).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        let mut states = kept.states();
        assert_eq!(states.next().await, Some(LeaseState::Healthy));
        cluster.kill(0).unwrap();
        cluster.kill(1).unwrap();
        let jeopardy = timeout(SOON, states.next()).await.unwrap();
        assert!(matches!(jeopardy, Some(LeaseState::Jeopardy { .. })), "{jeopardy:?}");
        assert!(kept.is_held());
        cluster.restart(0).await.unwrap();
        assert_eq!(timeout(SOON, states.next()).await.unwrap(), Some(LeaseState::Healthy));
        assert_eq!(client.count("key").await.unwrap().count, 1);
    })
    .await;
}

/// A whole life of a lease: granted, kept, renewed, revoked.
async fn life(client: &Client) -> tenure::Result<LeaseId> {
    let lease = client.lease_grant(MINUTE).await?;
    let kept = client.lease_keep_alive(&lease).await?;
    client.lease_keep_alive_once(kept.id()).await?;
    client.lease_revoke(lease.id).await?;
    Ok(lease.id)
}

#[tokio::test]
async fn leases_made_and_revoked_around_a_loss_of_quorum_succeed_or_time_out() {
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        let builder = Client::builder(cluster.endpoints()).request_timeout(seconds(3));
        let client = builder.connect().await.unwrap();
        life(&client).await.unwrap();
        let several = || {
            let lives = (0..5).map(|_| client.clone());
            join_all(lives.map(|client| tokio::spawn(async move { life(&client).await })))
        };
        let before = tokio::spawn(several());
        cluster.kill(0).unwrap();
        let during = tokio::spawn(several());
        cluster.kill(1).unwrap();
        let without = timeout(SOON, several()).await.expect("nothing hangs");
        cluster.restart(0).await.unwrap();
        cluster.restart(1).await.unwrap();
        let after = several();
        let overlapping = timeout(SOON, async { tokio::join!(before, during, after) });
        let (before, during, after) = overlapping.await.expect("nothing hangs");

        let lives = before.unwrap().into_iter().chain(during.unwrap()).chain(without).chain(after);
        let mut survivors = Vec::new();
        for life in lives.map(|life| life.unwrap()) {
            match life {
                Ok(id) => survivors.push(id),
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable),
                    "{error:?}"
                ),
            }
        }
        life(&client).await.unwrap();
        let left = client.leases().await.unwrap().leases;
        assert!(survivors.iter().all(|id| !left.contains(id)), "what was revoked is gone");
    })
    .await;
}

#[tokio::test]
async fn a_handle_of_a_life_that_is_over_does_not_end_the_next() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let short = client.lease_grant(seconds(2)).await.unwrap();
        let mut kept = client.lease_keep_alive(&short).await.unwrap();
        // Lost here by the deadline, and there too: one of the same id is made anew.
        proxy.pause();
        assert_eq!(timeout(SOON, kept.lost()).await.unwrap(), LossReason::Expired);
        eventually(SOON, "the server gave it up", async || {
            let found = direct.lease_time_to_live(short.id).await.unwrap();
            found.remaining.is_none()
        })
        .await;
        proxy.pass();
        direct.lease_grant(seconds(2)).id(short.id).await.unwrap();
        // Only now is the old handle dropped.
        kept = timeout(SOON, client.lease_keep_alive(short.id)).await.unwrap().unwrap();
        let mut states = kept.states();
        assert_eq!(states.next().await, Some(LeaseState::Healthy));
        let stays = timeout(seconds(4), states.next()).await;
        assert!(stays.is_err(), "it is renewed: {stays:?}");
        assert!(kept.is_held());
        drop(kept);
        let last = timeout(SOON, states.next()).await.unwrap();
        assert_eq!(last, Some(lost(LossReason::Orphaned)), "whoever listens is told");
    })
    .await;
}

#[tokio::test]
async fn a_keep_alive_that_is_given_up_at_any_moment_keeps_nothing() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        // Dropped after each number of polls, until it is ready by then.
        for polls in 0.. {
            let grant = client.lease_grant(seconds(1)).await.unwrap();
            let mut keeping = Box::pin(client.lease_keep_alive(grant.id));
            let mut ready = false;
            for _ in 0..polls {
                ready = (&mut keeping).now_or_never().is_some();
                if ready {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(keeping);
            eventually(SOON, "the lease ends by itself", async || {
                client.lease_time_to_live(grant.id).await.unwrap().remaining.is_none()
            })
            .await;
            if ready || polls == 5 {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_old_grant_is_asked_for_rather_than_taken_for_lost() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let grant = client.lease_grant(seconds(2)).await.unwrap();
        let first = client.lease_keep_alive(&grant).await.unwrap();
        // Kept beyond the deadline that the grant alone would give it.
        let renewed = first.deadline();
        eventually(SOON, "it outlives its grant", async || {
            first.deadline() > renewed && client.clock().now() > renewed
        })
        .await;
        drop(first);
        let again = client.lease_keep_alive(&grant).await.unwrap();
        assert_eq!(again.state(), LeaseState::Healthy);
        assert!(again.is_held());
    })
    .await;
}
