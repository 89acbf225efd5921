use std::{
    future::IntoFuture,
    sync::{Arc, Weak},
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, Message};
use tenure_core::Fence;

use super::{DoubleBarrier, Membership, WHAT};
use crate::{
    error::{Error, Result},
    recipes::{
        answering::{Answering, Keep, keep},
        claim::Release,
    },
};

/// A member of a double barrier for programs that speak in actix messages: it keeps the membership.
///
/// It stops with its last address, and leaves then without waiting for the others.
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{DoubleBarrier, Session, actor::{DoubleBarrierActor, EnterBarrier, LeaveBarrier}};
///
/// # async fn example(session: Session) -> anyhow::Result<()> {
/// let round = DoubleBarrierActor::new(DoubleBarrier::new(&session, "round", 3)).start();
/// round.send(EnterBarrier::new()).await??;
/// round.send(LeaveBarrier::new()).await??;
/// # Ok(())
/// # }
/// ```
pub struct DoubleBarrierActor {
    barrier: DoubleBarrier,
    member: Option<Membership>,
    /// There while a message that asks to enter is being answered.
    entering: Weak<()>,
}

impl DoubleBarrierActor {
    /// A member to be of this double barrier.
    pub fn new(barrier: DoubleBarrier) -> Self {
        Self { barrier, member: None, entering: Weak::new() }
    }
}

impl Actor for DoubleBarrierActor {
    type Context = Context<Self>;
}

/// Enters, once all are there; see [`DoubleBarrier::enter`]. If whoever sent it is gone before, it
/// is given up.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnterBarrier {
    timeout: Option<Duration>,
}

impl EnterBarrier {
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

impl Message for EnterBarrier {
    type Result = Result<Fence>;
}

impl Handler<EnterBarrier> for DoubleBarrierActor {
    type Result = Answering<Fence>;

    fn handle(&mut self, asked: EnterBarrier, ctx: &mut Context<Self>) -> Self::Result {
        let is_in = self.member.as_ref().is_some_and(|member| member.is_held());
        if is_in || self.entering.strong_count() > 0 {
            let error = Error::invalid(WHAT, "this actor is in, or asks to be, already");
            return Answering::new(async { Err(error) });
        }
        let entering = Arc::new(());
        self.entering = Arc::downgrade(&entering);
        let enter = self.barrier.enter();
        let enter = asked.timeout.into_iter().fold(enter, |enter, timeout| enter.timeout(timeout));
        // Weakly: the actor stops with its last address, whatever is under way.
        let actor = ctx.address().downgrade();
        Answering::new(async move {
            let member = enter.await?;
            let fence = member.fence();
            keep(actor, WHAT, member).await?;
            drop(entering);
            Ok(fence)
        })
    }
}

impl Handler<Keep<Membership>> for DoubleBarrierActor {
    type Result = ();

    fn handle(&mut self, Keep(member): Keep<Membership>, _: &mut Context<Self>) {
        self.member = Some(member);
    }
}

/// Leaves, once all want to; see [`Membership::leave`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaveBarrier {
    timeout: Option<Duration>,
}

impl LeaveBarrier {
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

impl Message for LeaveBarrier {
    type Result = Result<Release>;
}

impl Handler<LeaveBarrier> for DoubleBarrierActor {
    type Result = Answering<Release>;

    fn handle(&mut self, asked: LeaveBarrier, _: &mut Context<Self>) -> Self::Result {
        let Some(member) = self.member.take() else {
            let error = Error::invalid(WHAT, "this actor is not in");
            return Answering::new(async { Err(error) });
        };
        let leave = member.leave();
        let leave = asked.timeout.into_iter().fold(leave, |leave, timeout| leave.timeout(timeout));
        Answering::new(leave.into_future())
    }
}
