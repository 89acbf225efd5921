use std::{future::IntoFuture, pin::pin};

use actix::{
    Actor, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, WeakAddr,
    WeakRecipient,
    dev::{MessageResponse, OneshotSender},
};
use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    future::{self, Either, LocalBoxFuture},
};
use tenure_core::{Fence, Revision};
use tokio::{sync::oneshot, task::spawn_local};

use super::{Election, Leadership, WHAT};
use crate::{
    error::{Error, LossReason, Result},
    ops::IntoValue,
    recipes::claim::{ClaimState, Release},
    session::Session,
};

/// A candidate for programs that speak in actix messages: it keeps the leadership, and tells how it
/// stands.
///
/// One actor stands once at most. It stops with its last address, and resigns then. For an actor
/// that runs only while its process leads there is [`LeaderBound`](super::LeaderBound).
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{Session, actor::{Campaign, ElectionActor, Proclaim, Resign}};
///
/// # async fn example(session: Session) -> anyhow::Result<()> {
/// let scheduler = ElectionActor::new(&session, "scheduler").start();
/// let fence = scheduler.send(Campaign::new("10.0.0.7:8080")).await??;
/// println!("leading in term {}", fence.create_revision);
/// scheduler.send(Proclaim::new("10.0.0.7:8080, ready")).await??;
/// scheduler.send(Resign).await??;
/// # Ok(())
/// # }
/// ```
pub struct ElectionActor {
    election: Election,
    leads: Option<Leadership>,
    /// Gives up the waiting, while there is one.
    waiting: Option<oneshot::Sender<()>>,
    subscribers: Vec<WeakRecipient<LeadershipChanged>>,
}

impl ElectionActor {
    /// The election of this name; see [`Election::new`].
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::of(Election::new(session, name))
    }

    /// Any election.
    pub fn of(election: Election) -> Self {
        Self { election, leads: None, waiting: None, subscribers: Vec::new() }
    }

    /// Why it cannot stand.
    fn busy(&self) -> Option<Error> {
        let leads = self.leads.as_ref().is_some_and(Leadership::is_leader);
        let stands = self.waiting.as_ref().is_some_and(|give_up| !give_up.is_closed());
        let rule = match (leads, stands) {
            (true, _) => "this actor leads already",
            (_, true) => "this actor stands already",
            (false, false) => return None,
        };
        Some(Error::invalid(WHAT, rule))
    }
}

impl Actor for ElectionActor {
    type Context = Context<Self>;
}

/// Stands in the election; answers with what proves the leadership, once it is won. If whoever
/// sent it is gone before, the actor stands no more.
#[derive(Clone, Debug)]
pub struct Campaign {
    value: Result<Bytes>,
}

impl Campaign {
    /// With what the candidate says of itself.
    pub fn new(value: impl IntoValue) -> Self {
        Self { value: value.into_value() }
    }
}

impl Message for Campaign {
    type Result = Result<Fence>;
}

/// The outcome on its way to whoever sent the message. Ends when that one is gone.
pub struct Standing(LocalBoxFuture<'static, Result<Fence>>);

impl MessageResponse<ElectionActor, Campaign> for Standing {
    fn handle(self, _: &mut Context<ElectionActor>, tx: Option<OneshotSender<Result<Fence>>>) {
        spawn_local(async move {
            let Some(mut tx) = tx else {
                // Nobody wants the answer, but the leadership all the same.
                let _ = self.0.await;
                return;
            };
            let won = {
                let gone = pin!(tx.closed());
                match future::select(self.0, gone).await {
                    Either::Left((won, _)) => won,
                    Either::Right(_) => return,
                }
            };
            // Gone in this very moment: the actor leads until it resigns.
            let _ = tx.send(won);
        });
    }
}

impl Handler<Campaign> for ElectionActor {
    type Result = Standing;

    fn handle(&mut self, asked: Campaign, ctx: &mut Context<Self>) -> Standing {
        let value = match (asked.value, self.busy()) {
            (Ok(value), None) => value,
            (Err(error), _) | (_, Some(error)) => return Standing(Box::pin(async { Err(error) })),
        };
        let campaigning = self.election.campaign(value).into_future();
        // Weakly, all of it: the actor stops with its last address, whatever is under way.
        let actor = ctx.address().downgrade();
        spawn_local(tell_states(campaigning.states(), actor.clone()));
        let (give_up, given_up) = oneshot::channel();
        self.waiting = Some(give_up);
        Standing(Box::pin(async move {
            let won = match future::select(campaigning, given_up).await {
                Either::Left((won, _)) => won,
                Either::Right(_) => Err(Error::lost(WHAT, LossReason::Closed)),
            };
            match actor.upgrade() {
                Some(actor) => {
                    let kept = actor.send(Won(won)).await;
                    kept.unwrap_or_else(|_| Err(Error::actor_gone(WHAT)))
                }
                None => Err(Error::lost(WHAT, LossReason::Closed)),
            }
        }))
    }
}

/// What became of the campaign; answered once it is kept.
struct Won(Result<Leadership>);

impl Message for Won {
    type Result = Result<Fence>;
}

impl Handler<Won> for ElectionActor {
    type Result = Result<Fence>;

    fn handle(&mut self, Won(won): Won, _: &mut Context<Self>) -> Self::Result {
        self.waiting = None;
        Ok(self.leads.insert(won?).fence())
    }
}

/// Changes the value that all can read; answers with the revision at which it did.
#[derive(Clone, Debug)]
pub struct Proclaim {
    value: Result<Bytes>,
}

impl Proclaim {
    /// This value.
    pub fn new(value: impl IntoValue) -> Self {
        Self { value: value.into_value() }
    }
}

impl Message for Proclaim {
    type Result = Result<Revision>;
}

impl Handler<Proclaim> for ElectionActor {
    type Result = ResponseFuture<Result<Revision>>;

    fn handle(&mut self, asked: Proclaim, _: &mut Context<Self>) -> Self::Result {
        match (asked.value, &self.leads) {
            (Ok(value), Some(leadership)) => Box::pin(leadership.proclaiming(value)),
            (Err(error), _) => Box::pin(async { Err(error) }),
            (_, None) => Box::pin(async { Err(does_not_lead()) }),
        }
    }
}

fn does_not_lead() -> Error {
    Error::invalid(WHAT, "this actor does not lead")
}

/// Gives the leadership up, and answers when etcd has said so. If the actor waits to be elected,
/// the waiting ends, and whoever waits gets [`Lost`](crate::ErrorKind::Lost).
#[derive(Clone, Copy, Debug)]
pub struct Resign;

impl Message for Resign {
    type Result = Result<Release>;
}

impl Handler<Resign> for ElectionActor {
    type Result = ResponseFuture<Result<Release>>;

    fn handle(&mut self, _: Resign, _: &mut Context<Self>) -> Self::Result {
        let waited = self.waiting.take().is_some_and(|give_up| give_up.send(()).is_ok());
        match self.leads.take() {
            Some(leadership) => Box::pin(leadership.resign()),
            None if waited => Box::pin(async { Ok(Release::Released) }),
            None => Box::pin(async { Err(does_not_lead()) }),
        }
    }
}

/// How it stands with the leadership changed. Sent to those who [subscribe](SubscribeLeadership).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeadershipChanged {
    /// The new state.
    pub state: ClaimState,
}

impl Message for LeadershipChanged {
    type Result = ();
}

/// Sends every change of state to a recipient from now on, the present one first. A subscription
/// does not keep the recipient alive.
#[derive(Debug)]
pub struct SubscribeLeadership(pub Recipient<LeadershipChanged>);

impl Message for SubscribeLeadership {
    type Result = ();
}

impl Handler<SubscribeLeadership> for ElectionActor {
    type Result = ();

    fn handle(&mut self, asked: SubscribeLeadership, _: &mut Context<Self>) {
        let SubscribeLeadership(recipient) = asked;
        if let Some(leadership) = &self.leads {
            recipient.do_send(LeadershipChanged { state: leadership.state() });
        }
        self.subscribers.push(recipient.downgrade());
    }
}

async fn tell_states(
    states: impl Stream<Item = ClaimState> + Unpin,
    actor: WeakAddr<ElectionActor>,
) {
    let mut states = pin!(states);
    while let Some(state) = states.next().await {
        match actor.upgrade() {
            Some(actor) => actor.do_send(Told(state)),
            None => return,
        }
    }
}

struct Told(ClaimState);

impl Message for Told {
    type Result = ();
}

impl Handler<Told> for ElectionActor {
    type Result = ();

    fn handle(&mut self, Told(state): Told, _: &mut Context<Self>) {
        self.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(subscriber) => {
                subscriber.do_send(LeadershipChanged { state: state.clone() });
                subscriber.connected()
            }
            None => false,
        });
    }
}
