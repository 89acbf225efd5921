//! Work that runs while its process leads: when it begins, how it ends, and that it never runs
//! twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::pending};
use tenure::{ErrorKind, Reign, Revision};
use tenure_testkit::{TestServer, eventually, on_each_server};
use tokio::{sync::Notify, time::timeout};

#[path = "support/desk.rs"]
mod desk;
#[path = "support/election.rs"]
mod election;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use desk::{Desk, begins, ends, names, obedient, scheduler, stubborn};
use election::{candidates_are, elected, leader_says, stand, win};
use lock::{ended, open, stranger};
use start::{MINUTE, SOON, start};

#[tokio::test]
async fn the_work_runs_while_its_process_leads_and_ends_before_the_next_one_does() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let election = scheduler(&open(&client).await);
        let ahead = win(&election, "ahead").await;
        let (desk, mut begun) = Desk::new();
        let done = Arc::new(Notify::new());
        let leading = {
            let (desk, done) = (desk.clone(), Arc::clone(&done));
            let work = move |reign: Arc<Reign>| {
                let (desk, done) = (desk.clone(), Arc::clone(&done));
                async move {
                    let _seat = desk.sit(&reign);
                    reign.stopping().await;
                    done.notified().await;
                    // The last that is done is still the leader's.
                    assert!(reign.is_leader());
                    reign.kv().put("state", "saved").await.unwrap();
                }
            };
            election.lead(work).value("me").stop_within(SOON).start().unwrap()
        };
        let mut states = leading.states();
        candidates_are(&election, 2).await;
        assert!(!leading.is_leader() && desk.is_free() && leading.reign().is_none());
        assert_eq!(names(&states.next().await.unwrap()), "waiting");
        leading.health().check().unwrap();
        ahead.resign().await.unwrap();
        let reign = begins(&mut begun).await;
        assert_eq!(leader_says(&election).await.as_deref(), Some("me"));
        assert!(leading.is_leader() && reign.is_leader() && !reign.is_stopping());
        assert_eq!(leading.reign().unwrap().term(), reign.term());
        assert_eq!(names(&states.next().await.unwrap()), "leading");
        reign.proclaim("me, at work").await.unwrap();

        let next = stand(&scheduler(&stranger(&server).await), "next").await;
        let health = leading.health();
        let stopping = tokio::spawn(leading.stop());
        timeout(SOON, reign.stopping()).await.expect("it is told");
        assert_eq!(names(&states.next().await.unwrap()), "stopping");
        assert!(reign.is_leader() && !desk.is_free() && !next.is_finished());
        done.notify_one();
        ended(stopping).await.unwrap();
        assert!(!reign.is_leader() && desk.is_free());
        health.check().unwrap();
        assert!(elected(next).await.term() > reign.term());
        assert_eq!(client.get("state").await.unwrap().kv().unwrap().value, "saved");
        assert_eq!(reign.proclaim("late").await.unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(reign.kv().put("state", "late").await.unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(names(&states.next().await.unwrap()), "ended");
        assert!(states.next().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn work_to_be_done_once_is_done_once_by_one_of_them() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let election = scheduler(&open(&client).await);
        let done = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&done);
        let once = election.lead(move |reign: Arc<Reign>| {
            let done = Arc::clone(&counted);
            async move {
                reign.kv().put("done", "once").await.unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        timeout(SOON, once.once()).await.expect("it ends").unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert_eq!(client.get("done").await.unwrap().kv().unwrap().version, 1);
        candidates_are(&scheduler(&stranger(&server).await), 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_blocks_its_thread_loses_the_leadership_and_no_second_one_begins_meanwhile() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let election = scheduler(&open(&client).await);
        let (desk, mut begun) = Desk::new();
        let (unblock, blocked) = std::sync::mpsc::channel::<()>();
        let blocked = Arc::new(std::sync::Mutex::new(blocked));
        let leading = {
            let desk = desk.clone();
            let work = move |reign: Arc<Reign>| {
                let seat = desk.sit(&reign);
                let blocked = Arc::clone(&blocked);
                async move {
                    let _seat = seat;
                    // Until the test says so, or is over.
                    let _ = blocked.lock().unwrap().recv();
                }
            };
            election.lead(work).stop_within(Duration::from_millis(50)).start().unwrap()
        };
        let reign = begins(&mut begun).await;
        let other = scheduler(&stranger(&server).await);
        let next = stand(&other, "next").await;
        let health = leading.health();
        // An admin ends it, since whoever stops it does not want a second one.
        client.delete(reign.fence().key).await.unwrap();
        let next = elected(next).await;
        eventually(SOON, "it is told", async || !reign.is_leader()).await;
        assert!(!desk.is_free());
        let unwell = health.check().unwrap_err();
        assert_eq!(unwell.kind(), ErrorKind::Unavailable, "{unwell}");
        next.resign().await.unwrap();
        assert!(begun.try_recv().is_err() && other.candidates().await.unwrap().is_empty());
        unblock.send(()).unwrap();
        let again = begins(&mut begun).await;
        assert!(again.term() > reign.term());
        health.check().unwrap();
        // Nor does anybody wait for it for ever who stops it.
        timeout(SOON, leading.stop()).await.expect("it gives up").unwrap();
        assert!(!again.is_leader() && !desk.is_free());
        candidates_are(&other, 0).await;
        health.check().unwrap_err();
        drop(unblock);
        eventually(SOON, "it ends", async || desk.is_free()).await;
    })
    .await;
}

#[tokio::test]
async fn whoever_stops_or_drops_it_while_it_waits_leaves_no_candidate() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let election = scheduler(&open(&client).await);
        let ahead = win(&election, "ahead").await;
        let theirs = scheduler(&stranger(&server).await);
        let (desk, mut begun) = Desk::new();
        for dropped in [true, false] {
            let leading = obedient(&theirs, &desk);
            candidates_are(&election, 2).await;
            if dropped {
                drop(leading);
            } else {
                timeout(SOON, leading.stop()).await.expect("at once").unwrap();
            }
            candidates_are(&election, 1).await;
        }
        assert!(ahead.is_leader() && begun.try_recv().is_err());
        ahead.resign().await.unwrap();
        // Dropped while it leads, it ends its work and resigns.
        let leading = obedient(&theirs, &desk);
        let reign = begins(&mut begun).await;
        drop(leading);
        timeout(SOON, reign.stopping()).await.expect("it is told");
        candidates_are(&election, 0).await;
        assert!(desk.is_free());
        // Nor does a future that is dropped leave anything.
        let awaited = theirs.lead(async |_| pending().await);
        let awaited = tokio::spawn(awaited.stop_within(Duration::ZERO).into_future());
        candidates_are(&election, 1).await;
        awaited.abort();
        candidates_are(&election, 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_key_that_an_admin_deletes_ends_the_work_at_once() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let admin = server.client().await.unwrap();
        let (desk, mut begun) = Desk::new();
        let election = scheduler(&open(&client).await);
        let leading = stubborn(&election, &desk, MINUTE);
        let mut last = Revision::NONE;
        for _ in 0..2 {
            let reign = begins(&mut begun).await;
            assert!(reign.term() > last);
            last = reign.term();
            let leader = election.leader().await.unwrap().unwrap();
            admin.delete(leader.key).await.unwrap();
            eventually(SOON, "it is over", async || desk.is_free()).await;
            assert!(!reign.is_leader() && reign.is_stopping());
        }
        timeout(SOON, leading.stop()).await.expect("it ends").unwrap();
    })
    .await;
}

#[tokio::test]
async fn with_its_runtime_gone_nobody_leads_without_work() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let election = scheduler(&open(&client).await);
        let (desk, mut begun) = Desk::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let runtime = runtime.unwrap();
        let leading = {
            let _on_it = runtime.enter();
            stubborn(&election, &desk, MINUTE)
        };
        begins(&mut begun).await;
        runtime.shutdown_background();
        let error = ends(&leading).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(desk.is_free());
        candidates_are(&election, 0).await;
    })
    .await;
}

#[test]
fn outside_a_runtime_no_work_is_started() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, election) = runtime.block_on(async {
        let server = TestServer::start().await.unwrap();
        let election = scheduler(&stranger(&server).await);
        (server, election)
    });
    let error = election.lead(async |_| {}).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error = election.lead(async |_| {}).into_future().now_or_never().expect("at once");
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    drop(server);
}
