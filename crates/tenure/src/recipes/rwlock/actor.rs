use std::time::Duration;

use actix::{Context, Handler, Message, ResponseFuture};
use futures::future::BoxFuture;
use tenure_core::Fence;

use super::{ReadGuard, RwLock, WriteGuard};
use crate::{
    error::{Error, Result},
    recipes::{
        LockEvent, ReleaseLock, SubscribeLock,
        answering::Answering,
        claim::{ClaimActor, ClaimState, Held, Kept, Release},
    },
    session::Session,
};

/// A read-write lock for programs that speak in actix messages: it keeps the guard, and tells how
/// it stands.
///
/// One actor is inside once at most, as a reader or as a writer. It stops with its last address,
/// and releases the lock then. It is released by [`ReleaseLock`], and told of to those who sent
/// [`SubscribeLock`].
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{Session, actor::{AcquireWrite, Downgrade, ReleaseLock, RwLockActor}};
///
/// # async fn example(session: Session) -> anyhow::Result<()> {
/// let config = RwLockActor::new(&session, "config").start();
/// let fence = config.send(AcquireWrite::new()).await??;
/// println!("alone inside, as {fence}");
/// config.send(Downgrade).await??;
/// config.send(ReleaseLock).await??;
/// # Ok(())
/// # }
/// ```
pub type RwLockActor = ClaimActor<RwLock>;

impl RwLockActor {
    /// The lock of this name; see [`RwLock::new`].
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::of(RwLock::new(session, name))
    }
}

/// What the actor keeps.
#[derive(Debug)]
pub enum Inside {
    /// As a reader.
    Reads(ReadGuard),
    /// As a writer.
    Writes(WriteGuard),
}

impl Kept for RwLock {
    type Guard = Inside;
    type Event = LockEvent;

    const NAME: &'static str = "lock";

    fn held(guard: &Inside) -> &Held {
        match guard {
            Inside::Reads(guard) => guard,
            Inside::Writes(guard) => guard,
        }
    }

    fn release(guard: Inside) -> BoxFuture<'static, Result<Release>> {
        match guard {
            Inside::Reads(guard) => Box::pin(guard.release()),
            Inside::Writes(guard) => Box::pin(guard.release()),
        }
    }

    fn event(state: ClaimState) -> LockEvent {
        LockEvent::new(state)
    }
}

/// Waits until no writer is inside or ahead; answers with what proves the hold. If whoever sent it
/// is gone before, the waiting ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcquireRead {
    timeout: Option<Duration>,
}

impl AcquireRead {
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

impl Message for AcquireRead {
    type Result = Result<Fence>;
}

impl Handler<AcquireRead> for RwLockActor {
    type Result = Answering<Fence>;

    fn handle(&mut self, asked: AcquireRead, ctx: &mut Context<Self>) -> Answering<Fence> {
        let acquire = self.recipe().read().timeout_if(asked.timeout);
        self.ask_as(acquire, |guard| Some(Inside::Reads(guard)), ctx).granted()
    }
}

/// Waits until nobody else is inside or ahead; otherwise as [`AcquireRead`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AcquireWrite {
    timeout: Option<Duration>,
}

impl AcquireWrite {
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

impl Message for AcquireWrite {
    type Result = Result<Fence>;
}

impl Handler<AcquireWrite> for RwLockActor {
    type Result = Answering<Fence>;

    fn handle(&mut self, asked: AcquireWrite, ctx: &mut Context<Self>) -> Answering<Fence> {
        let acquire = self.recipe().write().timeout_if(asked.timeout);
        self.ask_as(acquire, |guard| Some(Inside::Writes(guard)), ctx).granted()
    }
}

/// Enters as a reader if no writer is inside or waits.
#[derive(Clone, Copy, Debug)]
pub struct TryAcquireRead;

impl Message for TryAcquireRead {
    type Result = Result<Option<Fence>>;
}

impl Handler<TryAcquireRead> for RwLockActor {
    type Result = Answering<Option<Fence>>;

    fn handle(&mut self, _: TryAcquireRead, ctx: &mut Context<Self>) -> Self::Result {
        let acquire = self.recipe().try_read();
        self.ask_as(acquire, |guard| guard.map(Inside::Reads), ctx)
    }
}

/// Enters as a writer if nobody is inside or waits.
#[derive(Clone, Copy, Debug)]
pub struct TryAcquireWrite;

impl Message for TryAcquireWrite {
    type Result = Result<Option<Fence>>;
}

impl Handler<TryAcquireWrite> for RwLockActor {
    type Result = Answering<Option<Fence>>;

    fn handle(&mut self, _: TryAcquireWrite, ctx: &mut Context<Self>) -> Self::Result {
        let acquire = self.recipe().try_write();
        self.ask_as(acquire, |guard| guard.map(Inside::Writes), ctx)
    }
}

/// What was a writer becomes a reader; see [`WriteGuard::downgrade`]. Of a reader it is refused.
/// If whoever sent it is gone before it is answered, the lock is released.
#[derive(Clone, Copy, Debug)]
pub struct Downgrade;

impl Message for Downgrade {
    type Result = Result<Fence>;
}

impl Handler<Downgrade> for RwLockActor {
    type Result = Answering<Fence>;

    fn handle(&mut self, _: Downgrade, ctx: &mut Context<Self>) -> Answering<Fence> {
        if matches!(self.held(), Some(Inside::Reads(_))) {
            return Answering::refused(Error::invalid(
                RwLock::NAME,
                "this actor is a reader already",
            ));
        }
        let downgrade = |inside| async {
            match inside {
                Inside::Writes(guard) => guard.downgrade().await.map(Inside::Reads),
                reads => Ok(reads),
            }
        };
        self.change(downgrade, ctx).granted()
    }
}

impl Handler<ReleaseLock> for RwLockActor {
    type Result = ResponseFuture<Result<Release>>;

    fn handle(&mut self, _: ReleaseLock, _: &mut Context<Self>) -> Self::Result {
        self.give_back()
    }
}

impl Handler<SubscribeLock> for RwLockActor {
    type Result = ();

    fn handle(&mut self, SubscribeLock(recipient): SubscribeLock, _: &mut Context<Self>) {
        self.tell(&recipient);
    }
}
