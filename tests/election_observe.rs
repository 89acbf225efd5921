//! Observers of an election: who leads, from the first look on, whatever becomes of connections,
//! members and history.

use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use tenure::{Client, Election, ErrorKind, Leader, Observer, Result};
use tenure_testkit::{Proxy, eventually, on_each_etcd, on_each_listener, on_each_server};
use tokio::time::timeout;

#[path = "support/election.rs"]
mod election;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;
#[path = "support/users.rs"]
mod users;

use election::{elected, says, sees, stand, win};
use lock::{open, stranger};
use start::{SOON, behind_a_proxy, cluster, start, start_with};
use users::{Admin, connect, enable_auth};

const NAME: &str = "scheduler";

fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// Reads on until this is told; fails if a term falls, or a leader is told twice as it is.
async fn sees_in_the_end(
    leaders: &mut (impl Stream<Item = Result<Option<Leader>>> + Unpin),
    value: &str,
) -> Leader {
    let mut last: Option<Leader> = None;
    let seen = timeout(SOON, async {
        loop {
            let leader = leaders.try_next().await.unwrap().expect("it goes on");
            if let (Some(last), Some(leader)) = (&last, &leader) {
                assert!(leader.term >= last.term && leader != last, "{leader:?} after {last:?}");
            }
            last = leader.or(last);
            if let Some(leader) = last.clone().filter(|leader| says(leader) == value) {
                return leader;
            }
        }
    });
    seen.await.unwrap_or_else(|_| panic!("{value} is never told"))
}

#[tokio::test]
async fn an_observer_is_told_how_it_is_and_then_of_each_change() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let election = Election::new(&open(&client).await, NAME);
        let mut from_the_start = Observer::new(&server.client().await.unwrap(), NAME).observe();
        assert_eq!(sees(&mut from_the_start).await, None);
        let leadership = win(&election, "a").await;
        let mut late = election.observer().observe();
        for leaders in [&mut from_the_start, &mut late] {
            assert_eq!(sees(leaders).await, some("a"));
        }
        for value in ["a1", "a2", "a3"] {
            leadership.proclaim(value).await.unwrap();
            for leaders in [&mut from_the_start, &mut late] {
                assert_eq!(sees(leaders).await, some(value));
            }
        }
        leadership.resign().await.unwrap();
        for leaders in [&mut from_the_start, &mut late] {
            assert_eq!(sees(leaders).await, None);
        }
        let second = win(&election, "b").await;
        let third = stand(&Election::new(&stranger(&server).await, NAME), "c").await;
        for leaders in [&mut from_the_start, &mut late] {
            assert_eq!(sees(leaders).await, some("b"));
            // Who stands behind is nobody's concern, nor are other elections.
            assert!(leaders.next().now_or_never().is_none());
        }
        let _other = win(&Election::new(election.session(), "scheduler2"), "x").await;
        second.resign().await.unwrap();
        let third = elected(third).await;
        for leaders in [&mut from_the_start, &mut late] {
            assert_eq!(sees(leaders).await, some("c"), "with nobody in between");
        }
        third.resign().await.unwrap();
        for leaders in [&mut from_the_start, &mut late] {
            assert_eq!(sees(leaders).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn a_leader_is_told_with_its_term_and_since_when_it_is_known() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let election = Election::new(&open(&client).await, NAME);
        let before = client.clock().now();
        let leadership = win(&election, "a").await;
        let mut leaders = election.observe();
        let first = sees_in_the_end(&mut leaders, "a").await;
        assert_eq!((&first.key, first.term), (&leadership.key(), leadership.term()));
        assert!(before <= first.since && first.since <= client.clock().now());
        leadership.proclaim("b").await.unwrap();
        let second = sees_in_the_end(&mut leaders, "b").await;
        assert_eq!((second.term, second.since), (first.term, first.since), "it is the same one");
        leadership.resign().await.unwrap();
        let leadership = win(&election, "b").await;
        let third = sees_in_the_end(&mut leaders, "b").await;
        assert_eq!(third.term, leadership.term());
        assert!(third.since >= second.since && !format!("{third:?}").contains("value"));
    })
    .await;
}

#[tokio::test]
async fn many_changes_that_nobody_read_are_told_one_by_one_or_up_to_the_last() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let election = Election::new(&open(&client).await, NAME);
        let mut leaders = election.observe();
        assert_eq!(sees(&mut leaders).await, None);
        for round in 0..20 {
            let leadership = win(&election, "new").await;
            for number in 0..20 {
                leadership.proclaim(format!("{round}.{number}")).await.unwrap();
            }
            leadership.resign().await.unwrap();
        }
        for round in 0..20 {
            assert_eq!(sees(&mut leaders).await, some("new"));
            for number in 0..20 {
                assert_eq!(sees(&mut leaders).await, Some(format!("{round}.{number}")));
            }
            assert_eq!(sees(&mut leaders).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_compaction_an_observer_goes_on_with_how_it_is() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let election = Election::new(&open(&direct).await, NAME);
        let leadership = win(&election, "a").await;
        // Before the first look, too.
        let revision = leadership.proclaim("b").await.unwrap();
        direct.put("k", "v").await.unwrap();
        direct.compact(revision).await.unwrap();
        let mut leaders = Observer::new(&client, NAME).observe();
        assert_eq!(sees(&mut leaders).await, some("b"));
        proxy.refuse();
        proxy.reset();
        for number in 0..10 {
            leadership.proclaim(number.to_string()).await.unwrap();
        }
        let last = direct.put("k", "v").await.unwrap().header.revision;
        direct.compact(last).await.unwrap();
        assert!(leaders.next().now_or_never().is_none());
        proxy.pass();
        sees_in_the_end(&mut leaders, "9").await;
        leadership.proclaim("after").await.unwrap();
        assert_eq!(sees(&mut leaders).await, some("after"));
    })
    .await;
}

#[tokio::test]
async fn an_observer_survives_connections_that_break_all_the_time() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let election = Election::new(&open(&direct).await, NAME);
        let mut leaders = Observer::new(&client, NAME).observe();
        assert_eq!(sees(&mut leaders).await, None);
        for round in 0..10 {
            proxy.reset();
            let value: &'static str = ["a", "b", "c"][round % 3];
            let leadership = win(&election, value).await;
            let leader = sees_in_the_end(&mut leaders, value).await;
            assert_eq!(leader.term, leadership.term());
            proxy.refuse();
            proxy.reset();
            leadership.proclaim("later").await.unwrap();
            proxy.pass();
            sees_in_the_end(&mut leaders, "later").await;
            leadership.resign().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn an_observer_survives_the_death_of_each_member_and_of_the_only_one() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let election = Election::new(&open(&client).await, NAME);
        let watcher = Client::connect(cluster.endpoints()).await.unwrap();
        let mut leaders = Observer::new(&watcher, NAME).observe();
        let leadership = win(&election, "start").await;
        sees_in_the_end(&mut leaders, "start").await;
        for index in 0..3 {
            cluster.kill(index).unwrap();
            leadership.proclaim(index.to_string()).await.unwrap();
            sees_in_the_end(&mut leaders, &index.to_string()).await;
            cluster.restart(index).await.unwrap();
        }
    })
    .await;
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let election = Election::new(&open(&client).await, NAME);
        let leadership = win(&election, "before").await;
        let mut leaders = election.observe();
        assert_eq!(sees(&mut leaders).await, some("before"));
        server.restart().await.unwrap();
        leadership.proclaim("after").await.unwrap();
        sees_in_the_end(&mut leaders, "after").await;
        assert!(leadership.is_leader());
    })
    .await;
}

#[tokio::test]
async fn a_silent_connection_is_noticed_and_left() {
    on_each_etcd(async |etcd| {
        let (cluster, direct) = cluster(&etcd, 3).await;
        let silent = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        let endpoints = [silent.endpoint(), cluster.endpoints()[1].clone()];
        let client = Client::connect(endpoints).await.unwrap();
        let leadership = win(&Election::new(&open(&direct).await, NAME), "a").await;
        let mut leaders = Observer::new(&client, NAME).observe();
        assert_eq!(sees(&mut leaders).await, some("a"));
        silent.pause();
        leadership.proclaim("b").await.unwrap();
        sees_in_the_end(&mut leaders, "b").await;
    })
    .await;
}

#[tokio::test]
async fn an_observer_that_may_not_look_is_told_so_and_ends() {
    on_each_server(async |server| {
        let (server, _) = start_with(&server, &["--bcrypt-cost=4"]).await;
        enable_auth(&server).await;
        let alice = connect(&server, "alice").await;
        let mut leaders = Observer::new(&alice, NAME).observe();
        let denied = timeout(SOON, leaders.next()).await.expect("it is told").expect("an error");
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(timeout(SOON, leaders.next()).await.expect("it has ended").is_none());
        let mut bad = Observer::new(&alice, "").observe();
        assert_eq!(bad.next().await.unwrap().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(bad.next().await.is_none());

        let admin = Admin::root(&server).await;
        admin.permit_all("a", "tenure/", "tenure0").await;
        let mut leaders = Observer::new(&alice, NAME).observe();
        assert_eq!(sees(&mut leaders).await, None);
        alice.close().await;
        let closed = timeout(SOON, leaders.next()).await.expect("it is told").expect("an error");
        assert_eq!(closed.unwrap_err().kind(), ErrorKind::Closed);
        assert!(timeout(SOON, leaders.next()).await.expect("it has ended").is_none());
    })
    .await;
}

#[tokio::test]
async fn a_dropped_observer_leaves_no_watch() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let before = server.watches().await;
        let mut leaders: Vec<_> = (0..10).map(|_| Observer::new(&client, NAME).observe()).collect();
        assert_eq!(server.watches().await, before, "nothing is read before it is polled");
        for leaders in &mut leaders {
            assert_eq!(sees(leaders).await, None);
        }
        assert!(server.watches().await > before);
        drop(leaders);
        eventually(SOON, "they end", async || server.watches().await == before).await;
    })
    .await;
}
