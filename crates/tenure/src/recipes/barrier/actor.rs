use std::{future::IntoFuture, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture};
use tenure_core::Fence;

use super::{Barrier, BarrierGuard, WHAT};
use crate::{
    error::{Error, Result},
    recipes::{
        answering::{Answering, Keep, keep},
        claim::Release,
    },
    session::Session,
};

/// A barrier for programs that speak in actix messages: it keeps the guard, and waits for others.
///
/// It stops with its last address, and opens the barrier then if it holds it.
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{Barrier, Session, actor::{BarrierActor, HoldBarrier, ReleaseBarrier}};
///
/// # async fn example(session: Session) -> anyhow::Result<()> {
/// let migration = Barrier::new(session.client(), "migration");
/// let migration = BarrierActor::new(&session, migration).start();
/// let fence = migration.send(HoldBarrier).await??;
/// println!("held, as {fence:?}");
/// migration.send(ReleaseBarrier).await??;
/// # Ok(())
/// # }
/// ```
pub struct BarrierActor {
    session: Session,
    barrier: Barrier,
    held: Option<BarrierGuard>,
}

impl BarrierActor {
    /// A barrier, held with this session.
    pub fn new(session: &Session, barrier: Barrier) -> Self {
        Self { session: session.clone(), barrier, held: None }
    }
}

impl Actor for BarrierActor {
    type Context = Context<Self>;
}

/// Holds the barrier; `None` if somebody does already. See [`Barrier::hold`].
#[derive(Clone, Copy, Debug)]
pub struct HoldBarrier;

impl Message for HoldBarrier {
    type Result = Result<Option<Fence>>;
}

impl Handler<HoldBarrier> for BarrierActor {
    type Result = Answering<Option<Fence>>;

    fn handle(&mut self, _: HoldBarrier, ctx: &mut Context<Self>) -> Self::Result {
        let (barrier, session) = (self.barrier.clone(), self.session.clone());
        // Weakly: the actor stops with its last address, whatever is under way.
        let actor = ctx.address().downgrade();
        Answering::new(async move {
            let Some(guard) = barrier.hold(&session).await? else { return Ok(None) };
            let fence = guard.fence();
            keep(actor, WHAT, guard).await?;
            Ok(Some(fence))
        })
    }
}

impl Handler<Keep<BarrierGuard>> for BarrierActor {
    type Result = ();

    fn handle(&mut self, Keep(guard): Keep<BarrierGuard>, _: &mut Context<Self>) {
        self.held = Some(guard);
    }
}

/// Opens the barrier that this actor holds, and answers when etcd has said so.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseBarrier;

impl Message for ReleaseBarrier {
    type Result = Result<Release>;
}

impl Handler<ReleaseBarrier> for BarrierActor {
    type Result = ResponseFuture<Result<Release>>;

    fn handle(&mut self, _: ReleaseBarrier, _: &mut Context<Self>) -> Self::Result {
        match self.held.take() {
            Some(guard) => Box::pin(guard.release()),
            None => Box::pin(async { Err(Error::invalid(WHAT, "this actor does not hold it")) }),
        }
    }
}

/// Waits until nobody holds the barrier, or the session is lost. Ends when whoever sent it is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitBarrier {
    timeout: Option<Duration>,
}

impl WaitBarrier {
    /// Waits for as long as the session lives.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for so long at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Message for WaitBarrier {
    type Result = Result<()>;
}

impl Handler<WaitBarrier> for BarrierActor {
    type Result = Answering<()>;

    fn handle(&mut self, asked: WaitBarrier, _: &mut Context<Self>) -> Self::Result {
        let wait = self.barrier.wait().session(&self.session);
        let wait = asked.timeout.into_iter().fold(wait, |wait, timeout| wait.timeout(timeout));
        Answering::new(wait.into_future())
    }
}
