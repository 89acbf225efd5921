//! Elections while leaders and candidates come and go at the worst moment: transfers, resumed
//! sessions, leases that end, members that die.

use std::{future::IntoFuture, time::Duration};

use tenure::{Election, ErrorKind, LossReason, Release, Revision, Session};
use tenure_testkit::{on_each_etcd, on_each_listener, on_each_server};

#[path = "support/election.rs"]
mod election;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use election::{candidates_are, elected, leader_says, stand, win};
use lock::{ended, open, seconds, stranger, why};
use start::{behind_a_proxy, cluster, start};

fn election(session: &Session) -> Election {
    Election::new(session, "scheduler")
}

fn is_lost<T: std::fmt::Debug>(result: Result<T, tenure::Error>, reason: LossReason) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.loss_reason()), (ErrorKind::Lost, Some(reason)), "{error}");
}

#[tokio::test]
async fn whoever_resumes_a_session_leads_on_in_the_same_term_with_its_own_value() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let old = win(&election(&session), "old").await;
        old.proclaim("old, later").await.unwrap();
        let rival = win(&Election::new(&stranger(&server).await, "other"), "rival").await;
        let waiting = stand(&Election::new(&session, "other"), "old").await;
        let next = stand(&election(&stranger(&server).await), "next").await;

        let again = server.client().await.unwrap();
        let resumed = Session::resume(&again, session.lease()).await.unwrap();
        is_lost(old.proclaim("stale").await, LossReason::TakenOver);
        is_lost(old.kv().put("k", "stale").await, LossReason::TakenOver);
        is_lost(ended(waiting).await, LossReason::TakenOver);
        let new = win(&election(&resumed), "new").await;
        assert_eq!((new.term(), new.key()), (old.term(), old.key()));
        assert!(new.fence() > old.fence());
        assert_eq!(leader_says(&election(&resumed)).await.as_deref(), Some("new"));
        new.proclaim("newer").await.unwrap();
        new.kv().put("k", "new").await.unwrap();
        assert_eq!(old.resign().await.unwrap(), Release::AlreadyLost(LossReason::TakenOver));
        assert!(new.is_leader() && !next.is_finished());

        // A place in a queue is continued, too.
        let other = Election::new(&resumed, "other");
        let standing = tokio::spawn(other.campaign("continued").into_future());
        rival.resign().await.unwrap();
        let other_leads = elected(standing).await;
        assert_eq!(leader_says(&other).await.as_deref(), Some("continued"));
        assert!(resumed.inherited().is_empty());
        other_leads.resign().await.unwrap();
        new.resign().await.unwrap();
        assert!(elected(next).await.is_leader());
    })
    .await;
}

#[tokio::test]
async fn a_leadership_passes_to_the_next_in_line_and_to_nobody_else() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let watcher = election(&open(&client).await);
        let mut leadership = win(&watcher, "a").await;
        for round in 0..5 {
            let second = stand(&election(&stranger(&server).await), "second").await;
            let third = stand(&election(&stranger(&server).await), "third").await;
            let candidates = watcher.candidates().await.unwrap();
            // Not to one further back, nor to itself.
            for wrong in [&candidates[2], &candidates[0]] {
                let refused = leadership.transfer(wrong).await.unwrap_err();
                assert_eq!(refused.error.kind(), ErrorKind::InvalidInput, "{refused}");
                leadership = *refused.leadership.expect("it is still ours");
                assert!(leadership.is_leader());
            }
            if round % 2 == 0 {
                leadership.proclaim("about to go").await.unwrap();
            }
            let (term, own) = (leadership.term(), leadership.kv());
            leadership.transfer(&candidates[1]).await.unwrap();
            is_lost(own.put("k", "late").await, LossReason::Closed);
            let next = elected(second).await;
            assert!(next.term() > term && !third.is_finished());
            next.resign().await.unwrap();
            leadership = elected(third).await;
        }
        // Who is gone gets nothing.
        let gone = stand(&election(&stranger(&server).await), "gone").await;
        let candidates = watcher.candidates().await.unwrap();
        gone.abort();
        candidates_are(&watcher, 1).await;
        let refused = leadership.transfer(&candidates[1]).await.unwrap_err();
        let leadership = refused.leadership.expect("it is still ours");
        leadership.kv().put("k", "v").await.unwrap();
        client.delete(leadership.key()).await.unwrap();
        assert_eq!(why(leadership.lost()).await, LossReason::KeyDeleted);
        let lost = leadership.transfer(&candidates[1]).await.unwrap_err();
        assert!(lost.leadership.is_none());
    })
    .await;
}

#[tokio::test]
async fn of_a_transfer_to_a_candidate_that_dies_at_that_instant_comes_one_leader() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let admin = server.client().await.unwrap();
        let watcher = election(&open(&client).await);
        let (mut term, mut kept) = (Revision::NONE, 0);
        for _ in 0..20 {
            let leadership = win(&watcher, "first").await;
            assert!(leadership.term() > term);
            term = leadership.term();
            let dying = stand(&election(&stranger(&server).await), "dying").await;
            let last = stand(&election(&stranger(&server).await), "last").await;
            let candidates = watcher.candidates().await.unwrap();
            let kills = admin.delete(candidates[1].key.clone()).into_future();
            let (transferred, killed) = tokio::join!(leadership.transfer(&candidates[1]), kills);
            assert_eq!(killed.unwrap().deleted, 1);
            match transferred {
                // It led for an instant, at most.
                Ok(()) => drop(ended(dying).await),
                Err(refused) => {
                    kept += 1;
                    let ours = refused.leadership.expect("it is still ours");
                    assert!(ours.is_leader() && !last.is_finished());
                    ours.kv().put("k", "v").await.unwrap();
                    is_lost(ended(dying).await, LossReason::KeyDeleted);
                    ours.resign().await.unwrap();
                }
            }
            let last = elected(last).await;
            assert!(last.term() > term);
            term = last.term();
            last.resign().await.unwrap();
            candidates_are(&watcher, 0).await;
        }
        println!("kept {kept} of 20");
    })
    .await;
}

#[tokio::test]
async fn whoever_gives_up_at_the_instant_of_the_election_led_or_leaves_no_key() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let watcher = election(&open(&client).await);
        let other = election(&stranger(&server).await);
        for round in 0..40 {
            let leadership = win(&watcher, "first").await;
            let patience = Duration::from_micros(200 * round);
            let standing = tokio::spawn(other.campaign("second").timeout(patience).into_future());
            let (resigned, standing) = tokio::join!(leadership.resign(), standing);
            assert_eq!(resigned.unwrap(), Release::Released);
            match standing.unwrap() {
                Ok(leadership) => assert!(leadership.is_leader()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
            }
            candidates_are(&watcher, 0).await;
            let leadership = win(&watcher, "first").await;
            let standing = stand(&other, "second").await;
            let aborted = async { standing.abort() };
            let (resigned, ()) = tokio::join!(leadership.resign(), aborted);
            assert_eq!(resigned.unwrap(), Release::Released);
            drop(standing.await);
            candidates_are(&watcher, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_candidate_whose_lease_expired_in_the_queue_never_leads_and_may_stand_anew() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let here = election(&open(&direct).await);
        let first = win(&here, "first").await;
        let doomed = Session::builder().ttl(seconds(3)).reenter().open(&client).await.unwrap();
        let theirs = election(&doomed);
        let dead = stand(&theirs, "dead").await;
        let last = stand(&here, "last").await;
        proxy.pause();
        is_lost(ended(dead).await, LossReason::Expired);
        candidates_are(&here, 2).await;
        first.resign().await.unwrap();
        let last = elected(last).await;
        proxy.pass();
        let again = tokio::spawn(theirs.campaign("again").into_future());
        candidates_are(&here, 2).await;
        assert!(last.is_leader() && !again.is_finished());
        let term = last.term();
        last.resign().await.unwrap();
        let again = elected(again).await;
        assert!(again.term() > term && doomed.generation() > 0);
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_knows_it_before_the_next_one_leads() {
    on_each_listener(async |server| {
        let (_server, proxy, client, direct) = behind_a_proxy(&server).await;
        let session = Session::builder().ttl(seconds(3)).open(&client).await.unwrap();
        let leadership = win(&election(&session), "first").await;
        let next = stand(&election(&open(&direct).await), "next").await;
        proxy.pause();
        assert_eq!(why(leadership.lost()).await, LossReason::Expired);
        assert!(!next.is_finished(), "the server still has the lease");
        let next = elected(next).await;
        assert!(!leadership.is_leader() && leadership.term() < next.term());
        proxy.pass();
        is_lost(leadership.proclaim("stale").await, LossReason::Expired);
        assert_eq!(leader_says(&election(&session)).await.as_deref(), Some("next"));
        assert!(next.is_leader());
    })
    .await;
}

#[tokio::test]
async fn leaders_and_candidates_outlive_every_member() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = cluster(&etcd, 3).await;
        let leadership = win(&election(&open(&client).await), "0").await;
        let strangers = tenure::Client::connect(cluster.endpoints()).await.unwrap();
        let other = election(&open(&strangers).await);
        let next = stand(&other, "next").await;
        for index in 0..3 {
            cluster.kill(index).unwrap();
            leadership.proclaim(index.to_string()).await.unwrap();
            assert_eq!(leader_says(&other).await, Some(index.to_string()));
            cluster.restart(index).await.unwrap();
        }
        assert!(leadership.is_leader() && !next.is_finished());
        leadership.kv().put("k", "v").await.unwrap();
        assert_eq!(leadership.resign().await.unwrap(), Release::Released);
        assert!(elected(next).await.is_leader());
    })
    .await;
}
