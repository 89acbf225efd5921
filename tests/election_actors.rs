//! A candidate spoken to in messages, inside an actix System.

use actix::{Actor, Context, Handler};
use tenure::{
    ClaimState, Election, ErrorKind, LossReason, Release, Session,
    actor::{Campaign, ElectionActor, LeadershipChanged, Proclaim, Resign, SubscribeLeadership},
};
use tenure_testkit::{Server, TestServer, on_each_server};
use tokio::{sync::mpsc, time::timeout};

#[path = "support/election.rs"]
mod election;
#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use election::{candidates_are, elected, leader_says, stand, win};
use lock::{ended, open, stranger};
use start::{SOON, start};

/// Runs `test` on each server, in a System, with all actors of the client in it.
fn in_actix(test: impl AsyncFn(&TestServer, Session)) {
    actix::System::new().block_on(on_each_server(async |server: Server| {
        let (server, _) = start(&server).await;
        let client = server.connect().current_arbiter().connect().await.unwrap();
        test(&server, open(&client).await).await;
    }));
}

/// Keeps what it is told.
struct Ear(mpsc::UnboundedSender<ClaimState>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<LeadershipChanged> for Ear {
    type Result = ();

    fn handle(&mut self, told: LeadershipChanged, _: &mut Context<Self>) {
        // The test may have heard enough.
        let _ = self.0.send(told.state);
    }
}

async fn hear(heard: &mut mpsc::UnboundedReceiver<ClaimState>) -> ClaimState {
    timeout(SOON, heard.recv()).await.expect("something is told").expect("it listens")
}

#[test]
fn a_candidate_stands_proclaims_and_resigns_by_messages() {
    in_actix(async |server, session| {
        let here = Election::new(&session, "scheduler");
        let ahead = win(&Election::new(&stranger(server).await, "scheduler"), "ahead").await;
        let actor = ElectionActor::new(&session, "scheduler").start();
        let (sender, mut heard) = mpsc::unbounded_channel();
        let ear = Ear(sender).start();
        actor.send(SubscribeLeadership(ear.clone().recipient())).await.unwrap();
        let refused = actor.send(Proclaim::new("early")).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");

        let campaign = actix::spawn(actor.send(Campaign::new("me")));
        candidates_are(&here, 2).await;
        let busy = actor.send(Campaign::new("again")).await.unwrap().unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::InvalidInput, "{busy}");
        ahead.resign().await.unwrap();
        let fence = ended(campaign).await.unwrap().unwrap();
        while hear(&mut heard).await != (ClaimState::Held { fence: fence.clone() }) {}
        assert_eq!(leader_says(&here).await.as_deref(), Some("me"));
        actor.send(Proclaim::new("still me")).await.unwrap().unwrap();
        assert_eq!(leader_says(&here).await.as_deref(), Some("still me"));
        assert_eq!(actor.send(Resign).await.unwrap().unwrap(), Release::Released);
        while hear(&mut heard).await != ClaimState::Released {}
        let refused = actor.send(Resign).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");

        // What an admin ends is told, and it may stand again.
        let fence = actor.send(Campaign::new("me")).await.unwrap().unwrap();
        session.client().delete(fence.key).await.unwrap();
        let lost = ClaimState::Lost { reason: LossReason::KeyDeleted };
        while hear(&mut heard).await != lost {}
        actor.send(Campaign::new("me")).await.unwrap().unwrap();

        // Its end is the end of the leadership.
        let next = stand(&Election::new(&stranger(server).await, "scheduler"), "next").await;
        drop(actor);
        assert!(elected(next).await.is_leader());
    });
}

#[test]
fn whoever_is_gone_or_resigns_while_it_waits_stands_no_more() {
    in_actix(async |server, session| {
        let here = Election::new(&session, "scheduler");
        let ahead = win(&Election::new(&stranger(server).await, "scheduler"), "ahead").await;
        let actor = ElectionActor::of(here.clone()).start();
        let campaign = actix::spawn(actor.send(Campaign::new("me")));
        candidates_are(&here, 2).await;
        campaign.abort();
        candidates_are(&here, 1).await;
        let campaign = actix::spawn(actor.send(Campaign::new("me")));
        candidates_are(&here, 2).await;
        assert_eq!(actor.send(Resign).await.unwrap().unwrap(), Release::Released);
        let error = ended(campaign).await.unwrap().unwrap_err();
        assert_eq!(error.loss_reason(), Some(LossReason::Closed));
        candidates_are(&here, 1).await;
        assert!(ahead.is_leader());
        let nameless = ElectionActor::new(&session, "").start();
        let error = nameless.send(Campaign::new("me")).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}
