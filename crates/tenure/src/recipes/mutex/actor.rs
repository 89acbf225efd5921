use std::{future::IntoFuture, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseActFuture,
    ResponseFuture, StreamHandler, WrapFuture,
};
use tenure_core::Fence;

use super::{Mutex, MutexGuard};
use crate::{
    error::{Error, ErrorKind, Result},
    recipes::claim::{Acquire, ClaimState, Release},
    session::Session,
};

/// A lock for programs that speak in actix messages: it keeps the guard, and tells how it stands.
///
/// One actor has the lock once at most. It releases the lock when it stops.
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{Session, actor::{AcquireLock, MutexActor, ReleaseLock}};
///
/// # async fn example(session: Session) -> anyhow::Result<()> {
/// let jobs = MutexActor::new(&session, "jobs").start();
/// let fence = jobs.send(AcquireLock::new()).await??;
/// println!("ours, as {fence}");
/// jobs.send(ReleaseLock).await??;
/// # Ok(())
/// # }
/// ```
pub struct MutexActor {
    mutex: Mutex,
    held: Option<MutexGuard>,
    /// Somebody is waiting for the lock already.
    acquiring: bool,
    subscribers: Vec<Recipient<LockEvent>>,
}

impl MutexActor {
    /// The lock of this name; see [`Mutex::new`].
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::of(Mutex::new(session, name))
    }

    /// Any lock.
    pub fn of(mutex: Mutex) -> Self {
        Self { mutex, held: None, acquiring: false, subscribers: Vec::new() }
    }

    /// Why it cannot be asked for.
    fn busy(&self) -> Option<Error> {
        let held = self.held.as_ref().is_some_and(MutexGuard::is_held);
        let rule = match (held, self.acquiring) {
            (true, _) => "this actor has it already",
            (_, true) => "this actor is waiting for it already",
            (false, false) => return None,
        };
        Some(Error::invalid("lock", rule))
    }

    fn acquire<G: 'static>(
        &mut self,
        acquire: Acquire<G>,
        keep: fn(&mut Self, G) -> Result<Option<Fence>>,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<Option<Fence>>> {
        if let Some(error) = self.busy() {
            return Box::pin(async { Err(error) }.into_actor(self));
        }
        self.acquiring = true;
        let acquiring = acquire.into_future();
        ctx.add_stream(acquiring.states());
        Box::pin(acquiring.into_actor(self).map(move |acquired, actor, _| {
            actor.acquiring = false;
            keep(actor, acquired?)
        }))
    }
}

impl Actor for MutexActor {
    type Context = Context<Self>;
}

/// A lock changed its state. Sent to those who [subscribe](SubscribeLock).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockEvent(pub ClaimState);

impl Message for LockEvent {
    type Result = ();
}

impl StreamHandler<ClaimState> for MutexActor {
    fn handle(&mut self, state: ClaimState, _: &mut Context<Self>) {
        self.subscribers.retain(Recipient::connected);
        for subscriber in &self.subscribers {
            subscriber.do_send(LockEvent(state.clone()));
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // The lock may be asked for again.
    }
}

/// Waits for the lock; answers with what proves the hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcquireLock {
    timeout: Option<Duration>,
}

impl AcquireLock {
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

impl Message for AcquireLock {
    type Result = Result<Fence>;
}

impl Handler<AcquireLock> for MutexActor {
    type Result = ResponseActFuture<Self, Result<Fence>>;

    fn handle(&mut self, asked: AcquireLock, ctx: &mut Context<Self>) -> Self::Result {
        let acquire = self.mutex.acquire();
        let acquire = match asked.timeout {
            Some(timeout) => acquire.timeout(timeout),
            None => acquire,
        };
        let keep = |actor: &mut Self, guard: MutexGuard| {
            let fence = guard.fence();
            actor.held = Some(guard);
            Ok(Some(fence))
        };
        let fence = self.acquire(acquire, keep, ctx);
        Box::pin(fence.map(|fence, _, _| fence?.ok_or_else(crate::ops::other_kind)))
    }
}

/// Takes the lock if nobody has it or waits for it.
#[derive(Clone, Copy, Debug)]
pub struct TryAcquireLock;

impl Message for TryAcquireLock {
    type Result = Result<Option<Fence>>;
}

impl Handler<TryAcquireLock> for MutexActor {
    type Result = ResponseActFuture<Self, Result<Option<Fence>>>;

    fn handle(&mut self, _: TryAcquireLock, ctx: &mut Context<Self>) -> Self::Result {
        let keep = |actor: &mut Self, guard: Option<MutexGuard>| {
            let fence = guard.as_ref().map(MutexGuard::fence);
            actor.held = guard;
            Ok(fence)
        };
        self.acquire(self.mutex.try_acquire(), keep, ctx)
    }
}

/// Releases the lock, and answers when etcd has said so.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseLock;

impl Message for ReleaseLock {
    type Result = Result<Release>;
}

impl Handler<ReleaseLock> for MutexActor {
    type Result = ResponseFuture<Result<Release>>;

    fn handle(&mut self, _: ReleaseLock, _: &mut Context<Self>) -> Self::Result {
        match self.held.take() {
            Some(guard) => Box::pin(guard.release()),
            None => Box::pin(async {
                Err(Error::new(ErrorKind::InvalidInput, "lock", "this actor does not have it"))
            }),
        }
    }
}

/// Sends every change of state to a recipient from now on.
#[derive(Debug)]
pub struct SubscribeLock(pub Recipient<LockEvent>);

impl Message for SubscribeLock {
    type Result = ();
}

impl Handler<SubscribeLock> for MutexActor {
    type Result = ();

    fn handle(&mut self, SubscribeLock(recipient): SubscribeLock, _: &mut Context<Self>) {
        if let Some(guard) = &self.held {
            recipient.do_send(LockEvent(guard.state()));
        }
        self.subscribers.push(recipient);
    }
}
