//! How the actors of recipes answer what takes its time.

use std::pin::pin;

use actix::{
    Actor, Message,
    dev::{MessageResponse, OneshotSender},
};
use futures::future::{self, Either, LocalBoxFuture};
use tokio::task::spawn_local;

use crate::error::Result;

/// An answer on its way to whoever sent the message. Given up when that one is gone.
pub struct Answering<T>(LocalBoxFuture<'static, Result<T>>);

impl<T> Answering<T> {
    pub(super) fn new(work: impl Future<Output = Result<T>> + 'static) -> Self {
        Self(Box::pin(work))
    }
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
