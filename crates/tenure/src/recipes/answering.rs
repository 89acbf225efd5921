//! How the actors of recipes answer what takes its time.

use std::pin::pin;

use actix::{
    Actor, Context, Handler, Message, WeakAddr,
    dev::{MessageResponse, OneshotSender},
};
use futures::{
    FutureExt,
    future::{self, Either, LocalBoxFuture},
};
use tokio::task::spawn_local;

use crate::error::{Error, LossReason, Result};

/// An answer on its way to whoever sent the message. Given up when that one is gone.
pub struct Answering<T>(LocalBoxFuture<'static, Result<T>>);

impl<T> Answering<T> {
    pub(super) fn new(work: impl Future<Output = Result<T>> + 'static) -> Self {
        Self(Box::pin(work))
    }
}

impl<T: 'static> Answering<T> {
    pub(super) fn refused(error: Error) -> Self {
        Self::new(async { Err(error) })
    }
}

impl<T: 'static> Answering<Option<T>> {
    /// Where it was not only tried.
    pub(super) fn granted(self) -> Answering<T> {
        Answering::new(self.0.map(|granted| granted?.ok_or_else(crate::ops::other_kind)))
    }
}

/// What an actor was asked for, and keeps from now on.
pub(super) struct Keep<G>(pub(super) G);

impl<G: 'static> Message for Keep<G> {
    type Result = ();
}

/// Has an actor keep what it was asked for. If it has stopped, what it would have kept is dropped.
pub(super) async fn keep<A, G>(actor: WeakAddr<A>, what: &'static str, kept: G) -> Result<()>
where
    A: Actor<Context = Context<A>> + Handler<Keep<G>>,
    G: Send + 'static,
{
    let gone = || Error::lost(what, LossReason::Closed);
    let actor = actor.upgrade().ok_or_else(gone)?;
    actor.send(Keep(kept)).await.map_err(|_| gone())
}

impl<A, M, T> MessageResponse<A, M> for Answering<T>
where
    A: Actor,
    M: Message<Result = Result<T>>,
    T: 'static,
{
    fn handle(self, _: &mut A::Context, tx: Option<OneshotSender<Result<T>>>) {
        spawn_local(async move {
            let Some(mut tx) = tx else {
                // Nobody wants the answer, but the deed all the same.
                let _ = self.0.await;
                return;
            };
            let answer = {
                let gone = pin!(tx.closed());
                match future::select(self.0, gone).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(_) => return,
                }
            };
            // Gone in this very moment: the actor keeps what it has.
            let _ = tx.send(answer);
        });
    }
}
