use std::time::Duration;

use actix::{Context, Handler, Message, Recipient, ResponseFuture};
use futures::future::BoxFuture;
use tenure_core::Fence;

use super::{Mutex, MutexGuard};
use crate::{
    error::Result,
    recipes::{
        answering::Answering,
        claim::{ClaimActor, ClaimState, Held, Kept, Release},
    },
    session::Session,
};

/// A lock for programs that speak in actix messages: it keeps the guard, and tells how it stands.
///
/// One actor has the lock once at most. It stops with its last address, and releases the lock
/// then.
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
pub type MutexActor = ClaimActor<Mutex>;

impl MutexActor {
    /// The lock of this name; see [`Mutex::new`].
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::of(Mutex::new(session, name))
    }
}

impl Kept for Mutex {
    type Guard = MutexGuard;
    type Event = LockEvent;

    const NAME: &'static str = "lock";

    fn held(guard: &MutexGuard) -> &Held {
        guard
    }

    fn release(guard: MutexGuard) -> BoxFuture<'static, Result<Release>> {
        Box::pin(guard.release())
    }

    fn event(state: ClaimState) -> LockEvent {
        LockEvent::new(state)
    }
}

/// A lock changed its state. Sent to those who [subscribe](SubscribeLock).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockEvent {
    /// The new state.
    pub state: ClaimState,
}

impl LockEvent {
    pub(in crate::recipes) fn new(state: ClaimState) -> Self {
        Self { state }
    }
}

impl Message for LockEvent {
    type Result = ();
}

/// Waits for the lock; answers with what proves the hold. If whoever sent it is gone before, the
/// waiting ends.
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
    type Result = Answering<Fence>;

    fn handle(&mut self, asked: AcquireLock, ctx: &mut Context<Self>) -> Answering<Fence> {
        let acquire = self.recipe().acquire().timeout_if(asked.timeout);
        self.ask(acquire, ctx).granted()
    }
}

/// Takes the lock if nobody has it or waits for it.
#[derive(Clone, Copy, Debug)]
pub struct TryAcquireLock;

impl Message for TryAcquireLock {
    type Result = Result<Option<Fence>>;
}

impl Handler<TryAcquireLock> for MutexActor {
    type Result = Answering<Option<Fence>>;

    fn handle(&mut self, _: TryAcquireLock, ctx: &mut Context<Self>) -> Self::Result {
        let acquire = self.recipe().try_acquire();
        self.ask(acquire, ctx)
    }
}

/// Releases the lock, and answers when etcd has said so. If the actor waits for it, the waiting
/// ends, and whoever waits gets [`Lost`](crate::ErrorKind::Lost).
#[derive(Clone, Copy, Debug)]
pub struct ReleaseLock;

impl Message for ReleaseLock {
    type Result = Result<Release>;
}

impl Handler<ReleaseLock> for MutexActor {
    type Result = ResponseFuture<Result<Release>>;

    fn handle(&mut self, _: ReleaseLock, _: &mut Context<Self>) -> Self::Result {
        self.give_back()
    }
}

/// Sends every change of state to a recipient from now on. A subscription does not keep the
/// recipient alive.
#[derive(Debug)]
pub struct SubscribeLock(pub Recipient<LockEvent>);

impl Message for SubscribeLock {
    type Result = ();
}

impl Handler<SubscribeLock> for MutexActor {
    type Result = ();

    fn handle(&mut self, SubscribeLock(recipient): SubscribeLock, _: &mut Context<Self>) {
        self.tell(&recipient);
    }
}
