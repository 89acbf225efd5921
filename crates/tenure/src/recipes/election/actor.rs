use actix::{Context, Handler, Message, Recipient, ResponseFuture};
use bytes::Bytes;
use futures::future::BoxFuture;
use tenure_core::{Fence, Revision};

use super::{Election, Leadership, WHAT};
use crate::{
    error::Result,
    ops::IntoValue,
    recipes::{
        answering::Answering,
        claim::{ClaimActor, ClaimState, Held, Kept, Release},
    },
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
pub type ElectionActor = ClaimActor<Election>;

impl ElectionActor {
    /// The election of this name; see [`Election::new`].
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::of(Election::new(session, name))
    }
}

impl Kept for Election {
    type Guard = Leadership;
    type Event = LeadershipChanged;

    const NAME: &'static str = WHAT;

    fn held(guard: &Leadership) -> &Held {
        guard
    }

    fn release(guard: Leadership) -> BoxFuture<'static, Result<Release>> {
        Box::pin(guard.resign())
    }

    fn event(state: ClaimState) -> LeadershipChanged {
        LeadershipChanged { state }
    }
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

impl Handler<Campaign> for ElectionActor {
    type Result = Answering<Fence>;

    fn handle(&mut self, asked: Campaign, ctx: &mut Context<Self>) -> Answering<Fence> {
        match asked.value {
            Ok(value) => {
                let campaign = self.recipe().campaign(value);
                self.ask(campaign, ctx).granted()
            }
            Err(error) => Answering::refused(error),
        }
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
        match (asked.value, self.held()) {
            (Ok(value), Some(leadership)) => Box::pin(leadership.proclaiming(value)),
            (Err(error), _) => Box::pin(async { Err(error) }),
            (_, None) => Box::pin(async { Err(Self::has_nothing()) }),
        }
    }
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
        self.give_back()
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
        self.tell(&asked.0);
    }
}
