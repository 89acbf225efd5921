//! The actor that keeps what a recipe gives: the same for all of them.

use std::future::{Future, IntoFuture};

use actix::{
    Actor, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, WeakAddr,
    WeakRecipient,
};
use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture, Either},
};
use tenure_core::Fence;
use tokio::{sync::oneshot, task::spawn_local};

use super::{Acquire, ClaimState, Held, Release};
use crate::{
    error::{Error, LossReason, Result},
    recipes::answering::Answering,
};

/// A recipe of which an actor keeps what it gives.
pub trait Kept: Unpin + 'static {
    /// What is kept.
    type Guard: Send + Unpin + 'static;
    /// What is told of it.
    type Event: Message<Result = ()> + Clone + Send + 'static;

    /// What it is called in errors.
    const NAME: &'static str;

    /// What all guards have in common.
    fn held(guard: &Self::Guard) -> &Held;
    /// Gives it back.
    fn release(guard: Self::Guard) -> BoxFuture<'static, Result<Release>>;
    /// It is like this now.
    fn event(state: ClaimState) -> Self::Event;
}

/// Something that is asked for in messages: the actor keeps it, and tells how it stands.
///
/// One actor has it once at most. It stops with its last address, and gives it back then.
pub struct ClaimActor<R: Kept> {
    recipe: R,
    held: Option<R::Guard>,
    /// Gives up the waiting, while there is one.
    waiting: Option<oneshot::Sender<()>>,
    subscribers: Vec<WeakRecipient<R::Event>>,
}

impl<R: Kept> ClaimActor<R> {
    /// For any handle.
    pub fn of(recipe: R) -> Self {
        Self { recipe, held: None, waiting: None, subscribers: Vec::new() }
    }

    pub(crate) fn recipe(&self) -> &R {
        &self.recipe
    }

    /// Why it cannot be asked for.
    fn busy(&self) -> Option<Error> {
        let held = self.held.as_ref().is_some_and(|guard| R::held(guard).is_held());
        let waits = self.waiting.as_ref().is_some_and(|give_up| !give_up.is_closed());
        let rule = match (held, waits) {
            (true, _) => "this actor has it already",
            (_, true) => "this actor is waiting for it already",
            (false, false) => return None,
        };
        Some(Error::invalid(R::NAME, rule))
    }

    pub(crate) fn has_nothing() -> Error {
        Error::invalid(R::NAME, "this actor does not have it")
    }

    /// Asks for it, and has the actor [keep](Granted) it. None if it was only tried.
    pub(crate) fn ask<G: Into<Option<R::Guard>> + Send + 'static>(
        &mut self,
        acquire: Acquire<G>,
        ctx: &mut Context<Self>,
    ) -> Answering<Option<Fence>> {
        self.ask_as(acquire, Into::into, ctx)
    }

    /// The same for a guard of several kinds.
    pub(crate) fn ask_as<G: Send + 'static>(
        &mut self,
        acquire: Acquire<G>,
        kind: fn(G) -> Option<R::Guard>,
        ctx: &mut Context<Self>,
    ) -> Answering<Option<Fence>> {
        if let Some(error) = self.busy() {
            return Answering::refused(error);
        }
        let acquiring = acquire.into_future();
        // Weakly, all of it: the actor stops with its last address, whatever is under way.
        spawn_local(tell_states(acquiring.states(), ctx.address().downgrade()));
        self.keep(acquiring.map(move |granted| granted.map(kind)), ctx)
    }

    /// What was kept becomes something else, or is given back.
    pub(crate) fn change<F>(
        &mut self,
        change: impl FnOnce(R::Guard) -> F,
        ctx: &mut Context<Self>,
    ) -> Answering<Option<Fence>>
    where
        F: Future<Output = Result<R::Guard>> + 'static,
    {
        match self.held.take() {
            Some(guard) => {
                let changed = change(guard);
                self.keep(async move { changed.await.map(Some) }, ctx)
            }
            None => Answering::refused(Self::has_nothing()),
        }
    }

    fn keep(
        &mut self,
        granted: impl Future<Output = Result<Option<R::Guard>>> + 'static,
        ctx: &mut Context<Self>,
    ) -> Answering<Option<Fence>> {
        let actor = ctx.address().downgrade();
        let (give_up, given_up) = oneshot::channel();
        self.waiting = Some(give_up);
        Answering::new(async move {
            let granted = match future::select(Box::pin(granted), given_up).await {
                Either::Left((granted, _)) => granted,
                Either::Right(_) => Err(Error::lost(R::NAME, LossReason::Closed)),
            };
            match actor.upgrade() {
                Some(actor) => {
                    let kept = actor.send(Granted::<R>(granted)).await;
                    kept.unwrap_or_else(|_| Err(Error::actor_gone(R::NAME)))
                }
                None => Err(Error::lost(R::NAME, LossReason::Closed)),
            }
        })
    }

    /// Gives it back, and ends the waiting for it.
    pub(crate) fn give_back(&mut self) -> ResponseFuture<Result<Release>> {
        let waited = self.waiting.take().is_some_and(|give_up| give_up.send(()).is_ok());
        match self.held.take() {
            Some(guard) => R::release(guard),
            None if waited => Box::pin(async { Ok(Release::Released) }),
            None => Box::pin(async { Err(Self::has_nothing()) }),
        }
    }

    pub(crate) fn held(&self) -> Option<&R::Guard> {
        self.held.as_ref()
    }

    /// Sends every change of state to a recipient from now on.
    pub(crate) fn tell(&mut self, recipient: &Recipient<R::Event>) {
        if let Some(guard) = &self.held {
            recipient.do_send(R::event(R::held(guard).state()));
        }
        self.subscribers.push(recipient.downgrade());
    }
}

impl<R: Kept> Actor for ClaimActor<R> {
    type Context = Context<Self>;
}

async fn tell_states<R: Kept>(
    mut states: impl futures::Stream<Item = ClaimState> + Unpin,
    actor: WeakAddr<ClaimActor<R>>,
) {
    while let Some(state) = states.next().await {
        match actor.upgrade() {
            Some(actor) => actor.do_send(Told(state)),
            None => return,
        }
    }
}

/// What became of the asking; answered once it is kept.
struct Granted<R: Kept>(Result<Option<R::Guard>>);

impl<R: Kept> Message for Granted<R> {
    type Result = Result<Option<Fence>>;
}

impl<R: Kept> Handler<Granted<R>> for ClaimActor<R> {
    type Result = Result<Option<Fence>>;

    fn handle(&mut self, Granted(granted): Granted<R>, _: &mut Context<Self>) -> Self::Result {
        self.waiting = None;
        self.held = granted?;
        Ok(self.held.as_ref().map(|guard| R::held(guard).claim().fence()))
    }
}

struct Told(ClaimState);

impl Message for Told {
    type Result = ();
}

impl<R: Kept> Handler<Told> for ClaimActor<R> {
    type Result = ();

    fn handle(&mut self, Told(state): Told, _: &mut Context<Self>) {
        self.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(subscriber) => {
                subscriber.do_send(R::event(state.clone()));
                subscriber.connected()
            }
            None => false,
        });
    }
}
