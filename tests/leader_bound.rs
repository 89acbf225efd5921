//! Actors that run while their process leads.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::{Actor, ActorContext, Addr, Context, Handler, Message};
use tenure::{
    Election, Reign, Session,
    actor::{LeaderBound, RunningActor, StepDown},
};
use tenure_testkit::{Server, TestServer, eventually, on_each_server};
use tokio::{sync::mpsc, time::timeout};

#[path = "support/election.rs"]
mod election;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use election::{candidates_are, elected, leader_says, stand, win};
use lock::{open, stranger};
use start::{MINUTE, SOON, start};

/// Runs `test` on each server, in a System.
fn in_actix(test: impl AsyncFn(&TestServer, Session)) {
    actix::System::new().block_on(on_each_server(async |server: Server| {
        let (server, client) = start(&server).await;
        test(&server, open(&client).await).await;
    }));
}

fn scheduler(session: &Session) -> Election {
    Election::new(session, "scheduler")
}

/// What happens to workers.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Started,
    /// Whether it leads at that time.
    ToldToStepDown(bool),
    Gone,
}

/// How a worker takes it that it is to step down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Obeys,
    /// When it has received [`Finish`].
    TakesItsTime,
    Ignores,
}

struct Worker {
    manner: Manner,
    reign: Arc<Reign>,
    said: mpsc::UnboundedSender<Said>,
    working: Arc<AtomicUsize>,
}

impl Worker {
    fn say(&self, said: Said) {
        // The test may have heard enough.
        let _ = self.said.send(said);
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        assert_eq!(self.working.fetch_add(1, Ordering::SeqCst), 0, "two work at once");
        self.say(Said::Started);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.working.fetch_sub(1, Ordering::SeqCst);
        self.say(Said::Gone);
    }
}

impl Handler<StepDown> for Worker {
    type Result = ();

    fn handle(&mut self, _: StepDown, ctx: &mut Context<Self>) {
        self.say(Said::ToldToStepDown(self.reign.is_leader()));
        if self.manner == Manner::Obeys {
            ctx.stop();
        }
    }
}

struct Finish;

impl Message for Finish {
    type Result = ();
}

impl Handler<Finish> for Worker {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

struct Panic;

impl Message for Panic {
    type Result = ();
}

impl Handler<Panic> for Worker {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("on purpose");
    }
}

/// Workers of this manner, and what happens to them.
fn bound(
    election: &Election,
    manner: Manner,
) -> (LeaderBound<Worker>, mpsc::UnboundedReceiver<Said>) {
    let (said, heard) = mpsc::unbounded_channel();
    let working = Arc::<AtomicUsize>::default();
    let bound = LeaderBound::new(election, move |reign| {
        let (said, working) = (said.clone(), Arc::clone(&working));
        Worker { manner, reign, said, working }
    });
    (bound.value("worker"), heard)
}

async fn hear(heard: &mut mpsc::UnboundedReceiver<Said>) -> Said {
    timeout(SOON, heard.recv()).await.expect("something happens").expect("it goes on")
}

async fn running(bound: &Addr<LeaderBound<Worker>>) -> Option<Addr<Worker>> {
    bound.send(RunningActor::new()).await.unwrap()
}

#[test]
fn an_actor_runs_while_its_process_leads_and_another_one_in_the_next_term() {
    in_actix(async |server, session| {
        let election = scheduler(&session);
        let ahead = win(&election, "ahead").await;
        let (actor, mut heard) = bound(&election, Manner::Obeys);
        let bound = actor.start();
        candidates_are(&election, 2).await;
        assert!(running(&bound).await.is_none() && heard.try_recv().is_err());
        ahead.resign().await.unwrap();
        assert_eq!(hear(&mut heard).await, Said::Started);
        assert_eq!(leader_says(&election).await.as_deref(), Some("worker"));
        let first = running(&bound).await.expect("it leads");
        let term = election.leader().await.unwrap().unwrap().term;

        // An admin ends the term. The actor is told, and is dropped soon, come what may.
        let admin = server.client().await.unwrap();
        admin.delete(election.leader().await.unwrap().unwrap().key).await.unwrap();
        while hear(&mut heard).await != Said::Gone {}
        eventually(SOON, "it has stopped", async || !first.connected()).await;
        assert_eq!(hear(&mut heard).await, Said::Started);
        let second = running(&bound).await.expect("it leads again");
        assert!(second != first && election.leader().await.unwrap().unwrap().term > term);

        // Its last address ends the work in order, and lets the next one lead.
        let next = stand(&scheduler(&stranger(server).await), "next").await;
        drop((bound, first, second));
        assert_eq!(hear(&mut heard).await, Said::ToldToStepDown(true));
        assert_eq!(hear(&mut heard).await, Said::Gone);
        assert!(elected(next).await.is_leader());
        candidates_are(&election, 0).await;
    });
}

#[test]
fn an_actor_has_its_time_to_stop_and_is_dropped_after_it() {
    in_actix(async |server, session| {
        let election = scheduler(&session);
        for manner in [Manner::TakesItsTime, Manner::Ignores] {
            let budget = match manner {
                Manner::Ignores => Duration::from_millis(100),
                _ => MINUTE,
            };
            let (actor, mut heard) = bound(&election, manner);
            let bound = actor.stop_within(budget).start();
            assert_eq!(hear(&mut heard).await, Said::Started);
            let worker = running(&bound).await.expect("it leads");
            let next = stand(&scheduler(&stranger(server).await), "next").await;
            drop(bound);
            assert_eq!(hear(&mut heard).await, Said::ToldToStepDown(true));
            if manner == Manner::TakesItsTime {
                assert_eq!(leader_says(&election).await.as_deref(), Some("worker"));
                assert!(worker.connected() && !next.is_finished());
                worker.do_send(Finish);
            }
            assert_eq!(hear(&mut heard).await, Said::Gone);
            elected(next).await.resign().await.unwrap();
        }
    });
}

#[test]
fn an_actor_that_panics_steps_down_and_another_one_takes_its_place() {
    in_actix(async |server, session| {
        let election = scheduler(&session);
        let (actor, mut heard) = bound(&election, Manner::Obeys);
        let bound = actor.start();
        let mut last = None;
        for _ in 0..2 {
            assert_eq!(hear(&mut heard).await, Said::Started);
            let next = stand(&scheduler(&stranger(server).await), "next").await;
            running(&bound).await.expect("it leads").do_send(Panic);
            assert_eq!(hear(&mut heard).await, Said::Gone);
            let next = elected(next).await;
            assert!(last < Some(next.term()));
            last = Some(next.term());
            next.resign().await.unwrap();
        }
        assert_eq!(hear(&mut heard).await, Said::Started);
    });
}

#[test]
fn whoever_makes_the_actor_may_panic_and_is_asked_again() {
    in_actix(async |_, session| {
        let asked = Rc::new(Cell::new(0));
        let (said, mut heard) = mpsc::unbounded_channel();
        let bound = {
            let asked = Rc::clone(&asked);
            LeaderBound::new(&scheduler(&session), move |reign| {
                asked.set(asked.get() + 1);
                assert!(asked.get() > 1, "on purpose");
                Worker { manner: Manner::Obeys, reign, said: said.clone(), working: Arc::default() }
            })
        };
        let bound = bound.start();
        assert_eq!(hear(&mut heard).await, Said::Started);
        assert!(bound.connected() && asked.get() == 2);
    });
}

#[test]
fn it_stops_when_it_cannot_stand_any_more() {
    in_actix(async |_, session| {
        let (actor, _) = bound(&Election::new(&session, ""), Manner::Obeys);
        let nameless = actor.start();
        eventually(SOON, "it stops", async || !nameless.connected()).await;
        let (actor, mut heard) = bound(&scheduler(&session), Manner::Obeys);
        let bound = actor.start();
        assert_eq!(hear(&mut heard).await, Said::Started);
        session.close().await.unwrap();
        while hear(&mut heard).await != Said::Gone {}
        eventually(SOON, "it stops", async || !bound.connected()).await;
    });
}

#[test]
fn an_actor_that_ends_by_itself_ends_the_term() {
    in_actix(async |_, session| {
        let election = scheduler(&session);
        let (actor, mut heard) = bound(&election, Manner::Obeys);
        let bound = actor.start();
        assert_eq!(hear(&mut heard).await, Said::Started);
        let term = election.leader().await.unwrap().unwrap().term;
        let worker = running(&bound).await.expect("it leads");
        worker.do_send(Finish);
        assert_eq!(hear(&mut heard).await, Said::Gone);
        assert_eq!(hear(&mut heard).await, Said::Started);
        assert!(election.leader().await.unwrap().unwrap().term > term);
    });
}
