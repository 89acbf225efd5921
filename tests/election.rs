//! Elections: who leads, in what order and term, what a leader says of itself, and how it leaves.

use std::collections::HashSet;

use futures::future::join_all;
use tenure::{
    ClaimState, Election, ErrorKind, FenceGate, Json, KeyRange, Leadership, LossReason, Mutex,
    Observer, Release, Session,
};
use tenure_testkit::{Call, on_each_server};
use tokio::time::timeout;

#[path = "support/election.rs"]
mod election;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;
#[path = "support/users.rs"]
mod users;

use election::{candidates_are, elected, leader_says, stand, win};
use lock::{ended, open, seconds, stranger, told, why};
use start::{SOON, start, start_with};
use users::{Admin, connect, enable_auth};

fn election(session: &Session) -> Election {
    Election::new(session, "scheduler")
}

fn prefix() -> KeyRange {
    KeyRange::prefix("tenure/election/")
}

fn is_lost<T: std::fmt::Debug>(result: Result<T, tenure::Error>, reason: LossReason) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.loss_reason()), (ErrorKind::Lost, Some(reason)), "{error}");
}

#[tokio::test]
async fn each_candidate_leads_in_its_turn_and_in_a_higher_term() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let first = election(&open(&client).await);
        let mut leadership = win(&first, "0").await;
        let mut terms = vec![leadership.term()];
        let names = ["1", "2", "3", "4"];
        let mut standing = Vec::new();
        for name in names {
            standing.push(stand(&election(&stranger(&server).await), name).await);
        }
        let candidates = first.candidates().await.unwrap();
        assert_eq!(candidates[0].key, leadership.key());
        for (name, next) in names.into_iter().zip(standing) {
            assert!(leadership.is_leader() && !next.is_finished());
            assert_eq!(leadership.resign().await.unwrap(), Release::Released);
            leadership = elected(next).await;
            assert_eq!(leader_says(&first).await.as_deref(), Some(name));
            let leader = first.leader().await.unwrap().unwrap();
            assert_eq!((&leader.key, leader.term), (&leadership.key(), leadership.term()));
            terms.push(leadership.term());
        }
        assert!(terms.is_sorted_by(|one, next| one < next), "{terms:?}");
        leadership.resign().await.unwrap();
        assert_eq!(leader_says(&first).await, None);
    })
    .await;
}

#[tokio::test]
async fn an_uncontended_campaign_is_one_request_and_a_resignation_another() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let election = election(&open(&client).await);
        win(&election, "warm").await.resign().await.unwrap();
        let before = server.kv_calls().await;
        for _ in 0..10 {
            let leadership = win(&election, "me").await;
            assert_eq!(leadership.resign().await.unwrap(), Release::Released);
        }
        assert_eq!(server.kv_calls().await - before, 20);
        let leadership = win(&election, "me").await;
        let before = server.kv_calls().await;
        leadership.proclaim("still me").await.unwrap();
        assert_eq!(server.kv_calls().await - before, 1);
        assert!(election.try_campaign("other").await.unwrap().is_none());
        assert_eq!(server.kv_calls().await - before, 2);
        candidates_are(&election, 1).await;
    })
    .await;
}

#[tokio::test]
async fn when_a_leaders_session_ends_the_next_candidate_leads() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let admin = server.client().await.unwrap();
        let watcher = election(&open(&client).await);
        for revoked in [false, true] {
            let session = stranger(&server).await;
            let leadership = win(&election(&session), "first").await;
            let next = stand(&election(&stranger(&server).await), "second").await;
            let reason = if revoked {
                admin.lease_revoke(session.lease()).await.unwrap();
                LossReason::Revoked
            } else {
                session.close().await.unwrap();
                LossReason::Closed
            };
            let next = elected(next).await;
            assert_eq!(why(leadership.lost()).await, reason);
            assert!(!leadership.is_leader());
            is_lost(leadership.proclaim("late").await, reason);
            is_lost(leadership.kv().put("k", "late").await, reason);
            assert_eq!(leader_says(&watcher).await.as_deref(), Some("second"));
            assert!(next.term() > leadership.term());
            let resigned = leadership.resign().await.unwrap();
            assert_eq!(resigned, Release::AlreadyLost(reason));
            assert!(next.is_leader());
            next.resign().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_proclamation_changes_the_value_and_nothing_else() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let election = election(&open(&client).await);
        let leadership = win(&election, "one").await;
        let (term, before) = (leadership.term(), leadership.fence());
        let next = stand(&Election::new(&stranger(&server).await, "scheduler"), "next").await;
        let own = leadership.kv();
        let gate = FenceGate::new();
        gate.admit("scheduler", &before).unwrap();
        for value in ["two", "", "three"] {
            let revision = leadership.proclaim(value).await.unwrap();
            let leader = election.leader().await.unwrap().unwrap();
            assert_eq!((&leader.value[..], leader.term), (value.as_bytes(), term));
            assert_eq!(leadership.fence().mod_revision, revision);
            assert_eq!(leadership.fence().create_revision, term);
            own.put("k", value).await.unwrap();
            gate.admit("scheduler", &leadership.fence()).unwrap();
        }
        assert!(before < leadership.fence());
        let states = leadership.states();
        leadership.proclaim(Json(vec![1, 2])).await.unwrap();
        let leader = election.leader().await.unwrap().unwrap();
        assert_eq!(Json::<Vec<u32>>::read(&leader.value).unwrap().0, [1, 2]);
        assert!(leadership.is_leader() && !next.is_finished());
        assert_eq!(leadership.resign().await.unwrap(), Release::Released);
        let mut states = states;
        assert_eq!(told(&mut states).await, ClaimState::Released);
        assert!(elected(next).await.term() > term);
    })
    .await;
}

#[tokio::test]
async fn writes_that_race_with_proclamations_are_not_taken_for_anothers() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let leadership = win(&election(&open(&client).await), "0").await;
        let own = leadership.kv();
        let proclaims = async {
            for number in 1..=100 {
                leadership.proclaim(number.to_string()).await.unwrap();
            }
        };
        let puts = (0..4).map(async |writer| {
            for number in 0..50 {
                own.put(format!("k{writer}"), number.to_string()).await.unwrap();
            }
        });
        futures::join!(proclaims, join_all(puts));
        assert!(leadership.is_leader());
        for writer in 0..4 {
            let kv = client.get(format!("k{writer}")).await.unwrap().into_kv().unwrap();
            assert_eq!((kv.value, kv.version), ("49".into(), 50), "each once");
        }
        assert_eq!(leadership.resign().await.unwrap(), Release::Released);
    })
    .await;
}

#[tokio::test]
async fn who_does_not_lead_any_more_proclaims_nothing() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let admin = server.client().await.unwrap();
        let election = election(&open(&client).await);
        for round in 0..10 {
            let leadership = win(&election, "first").await;
            let next = stand(&election, "second").await;
            let reason = if round % 2 == 0 {
                admin.delete(leadership.key()).await.unwrap();
                LossReason::KeyDeleted
            } else {
                admin.put(leadership.key(), "an admin's").keep_lease().await.unwrap();
                LossReason::TakenOver
            };
            is_lost(leadership.proclaim("late").await, reason);
            assert_eq!(why(leadership.lost()).await, reason);
            assert!(!leadership.is_leader());
            drop(leadership);
            admin.delete(election.leader().await.unwrap().unwrap().key).await.unwrap();
            let last = ended(next).await;
            drop(last);
            admin.delete(prefix()).await.unwrap();
            candidates_are(&election, 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn candidates_of_one_session_are_candidates_each_for_itself() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let election = election(&session);
        let first = win(&election, "first").await;
        let second = stand(&election, "second").await;
        let third = stand(&election.clone(), "third").await;
        let candidates = election.candidates().await.unwrap();
        let keys: HashSet<_> = candidates.iter().map(|candidate| &candidate.key).collect();
        assert_eq!(keys.len(), 3);
        assert!(candidates.iter().all(|candidate| candidate.lease == Some(session.lease())));
        drop(first);
        let second = elected(second).await;
        assert!(!third.is_finished());
        second.resign().await.unwrap();
        drop(elected(third).await);
        candidates_are(&election, 0).await;
    })
    .await;
}

#[tokio::test]
async fn names_are_independent_of_one_another_and_of_other_keys() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        client.put("app/elections", "").await.unwrap();
        client.put("tenure/election/ab", "").await.unwrap();
        let _lock = Mutex::new(&session, "a").acquire().timeout(SOON).await.unwrap();
        let elections = [
            Election::new(&session, "a"),
            Election::new(&session, "a/b"),
            Election::new(&session, "ab"),
            Election::new(&session, "/"),
            Election::at(&session, "app/elect"),
            Election::at(&session, "app/election"),
        ];
        let mut held = Vec::new();
        for election in &elections {
            assert!(election.leader().await.unwrap().is_none());
            held.push(win(election, "me").await);
            candidates_are(election, 1).await;
        }
        assert!(held.iter().all(Leadership::is_leader));
    })
    .await;
}

#[tokio::test]
async fn bad_names_are_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let session = open(&client).await;
        let before = server.kv_calls().await;
        let bad = [
            (Election::new(&session, ""), "election name"),
            (Election::new(&session, "a\0b"), "election name"),
            (Election::at(&session, ""), "election prefix"),
        ];
        for (election, field) in bad {
            let refused = [
                election.campaign("v").await.unwrap_err(),
                election.try_campaign("v").await.unwrap_err(),
                election.leader().await.unwrap_err(),
                election.candidates().await.unwrap_err(),
                election.lead(async |_| {}).start().unwrap_err(),
                election.lead(async |_| {}).await.unwrap_err(),
            ];
            for error in refused {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(field), "{error}");
            }
        }
        let error = Observer::new(&client, "").leader().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(server.kv_calls().await, before);
    })
    .await;
}

#[tokio::test]
async fn a_raw_prefix_is_shared_with_candidates_in_gos_layout() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let session = open(&client).await;
        let shared = Election::at(&session, "app/leader");
        // One of Go's: `<prefix>/<lease>`, and the proposal.
        let lease = client.lease_grant(seconds(60)).await.unwrap().id;
        let foreign = format!("app/leader/{:x}", lease.get());
        client.put(foreign.clone(), "go").lease(lease).await.unwrap();
        assert_eq!(leader_says(&shared).await.as_deref(), Some("go"));
        assert!(shared.try_campaign("rust").await.unwrap().is_none());
        let standing = stand(&shared, "rust").await;
        let candidates = shared.candidates().await.unwrap();
        assert_eq!((candidates[0].lease, &candidates[0].holder), (Some(lease), &None));
        // It proclaims as Go does, and keeps its place.
        client.put(foreign.clone(), "go again").lease(lease).await.unwrap();
        assert_eq!(leader_says(&shared).await.as_deref(), Some("go again"));
        assert!(!standing.is_finished());
        client.delete(foreign.clone()).await.unwrap();
        let ours = elected(standing).await;

        // Ours is what Go looks for: the oldest key of the prefix, its value what was proposed.
        client.put(foreign, "go").lease(lease).await.unwrap();
        client.put("app/leaders/0", "no candidate").await.unwrap();
        let all = client.get(KeyRange::prefix("app/leader/"));
        let first = all.first(tenure::SortBy::CreateRevision).limit(1).await.unwrap();
        let first = first.into_kv().unwrap();
        assert_eq!((&first.key, &first.value[..]), (&ours.key(), &b"rust"[..]));
        assert_eq!((first.lease, first.create_revision), (Some(session.lease()), ours.term()));
        let own = format!("app/leader/{:x}-", session.lease().get());
        assert!(first.key.starts_with(own.as_bytes()), "{first:?}");
        ours.proclaim("rust again").await.unwrap();
        assert_eq!(leader_says(&shared).await.as_deref(), Some("rust again"));
        ours.resign().await.unwrap();
        assert_eq!(leader_says(&shared).await.as_deref(), Some("go"));
    })
    .await;
}

#[tokio::test]
async fn with_users_whoever_may_write_the_keys_may_lead_and_others_are_told_so() {
    on_each_server(async |server| {
        let (server, _) = start_with(&server, &["--bcrypt-cost=4"]).await;
        enable_auth(&server).await;
        let admin = Admin::root(&server).await;
        admin.permit_all("a", "tenure/", "tenure0").await;
        admin.add_user("bob").await;
        let alice = connect(&server, "alice").await;
        let election = election(&open(&alice).await);
        let leadership = win(&election, "alice").await;
        leadership.proclaim("still alice").await.unwrap();
        leadership.kv().put("a/k", "v").await.unwrap();
        assert_eq!(leader_says(&election).await.as_deref(), Some("still alice"));
        let next = stand(&election, "next").await;
        leadership.resign().await.unwrap();
        assert!(elected(next).await.is_leader());

        let bob = connect(&server, "bob").await;
        let session = open(&bob).await;
        let theirs = Election::new(&session, "scheduler");
        let refused = timeout(SOON, theirs.campaign("bob")).await.expect("it is told");
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(theirs.leader().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let worked = timeout(SOON, theirs.lead(async |_| {})).await.expect("it is told");
        assert_eq!(worked.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(server.calls(Call::Authenticate).await >= 3);
    })
    .await;
}
