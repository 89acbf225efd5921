use std::{future::Future, marker::PhantomData};

use actix::{Actor, Context, Handler, Message, ResponseFuture};

use super::{Stm, View};
use crate::error::Error;

/// Transactions for programs that speak in actix messages.
///
/// Several run at once; the mailbox does not wait for them.
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{Client, Error, Stm, actor::{StmActor, Transact}};
///
/// # async fn example(client: Client) -> anyhow::Result<()> {
/// let stm = StmActor::of(Stm::new(&client)).start();
/// let first = stm
///     .send(Transact::new(async |view| {
///         let first = view.get("seen").await?.is_none();
///         view.put("seen", "yes")?;
///         Ok::<_, Error>(first)
///     }))
///     .await??;
/// # let _ = first;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StmActor(Stm);

impl StmActor {
    /// Runs what it is sent as `stm` would.
    pub fn of(stm: Stm) -> Self {
        Self(stm)
    }
}

impl Actor for StmActor {
    type Context = Context<Self>;
}

/// Runs a transaction; see [`Stm::run`]. It goes on if whoever sent it is gone.
pub struct Transact<F, Fut> {
    work: F,
    runs: PhantomData<fn() -> Fut>,
}

impl<F, Fut> Transact<F, Fut>
where
    F: FnMut(View) -> Fut,
{
    /// Runs this.
    pub fn new(work: F) -> Self {
        Self { work, runs: PhantomData }
    }
}

impl<F, Fut> std::fmt::Debug for Transact<F, Fut> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transact").finish_non_exhaustive()
    }
}

impl<F, Fut, T, E> Message for Transact<F, Fut>
where
    Fut: Future<Output = Result<T, E>>,
    T: 'static,
    E: 'static,
{
    type Result = Result<T, E>;
}

impl<F, Fut, T, E> Handler<Transact<F, Fut>> for StmActor
where
    F: FnMut(View) -> Fut + 'static,
    Fut: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: From<Error> + 'static,
{
    type Result = ResponseFuture<Result<T, E>>;

    fn handle(&mut self, asked: Transact<F, Fut>, _: &mut Context<Self>) -> Self::Result {
        let stm = self.0.clone();
        Box::pin(async move { stm.run(asked.work).await })
    }
}
