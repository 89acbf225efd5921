use std::time::Duration;

use actix::{Context, Handler, Message, Recipient, ResponseFuture};
use futures::future::BoxFuture;
use tenure_core::Fence;

use super::{Permits, Semaphore};
use crate::{
    error::Result,
    recipes::{
        answering::Answering,
        claim::{ClaimActor, ClaimState, Held, Kept, Release},
    },
    session::Session,
};

/// A semaphore for programs that speak in actix messages: it keeps the permits, and tells how they
/// stand.
///
/// One actor has some once at most. It stops with its last address, and releases them then.
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{Session, actor::{AcquirePermits, ReleasePermits, SemaphoreActor}};
///
/// # async fn example(session: Session) -> anyhow::Result<()> {
/// let uploads = SemaphoreActor::new(&session, "uploads", 3).start();
/// let fence = uploads.send(AcquirePermits::new(2)).await??;
/// println!("two are ours, as {fence}");
/// uploads.send(ReleasePermits).await??;
/// # Ok(())
/// # }
/// ```
pub type SemaphoreActor = ClaimActor<Semaphore>;

impl SemaphoreActor {
    /// The semaphore of this name, with so many permits; see [`Semaphore::new`].
    pub fn new(session: &Session, name: impl AsRef<str>, permits: u32) -> Self {
        Self::of(Semaphore::new(session, name, permits))
    }
}

impl Kept for Semaphore {
    type Guard = Permits;
    type Event = PermitEvent;

    const NAME: &'static str = "semaphore";

    fn held(guard: &Permits) -> &Held {
        guard
    }

    fn release(guard: Permits) -> BoxFuture<'static, Result<Release>> {
        Box::pin(guard.release())
    }

    fn event(state: ClaimState) -> PermitEvent {
        PermitEvent { state }
    }
}

/// Permits changed their state. Sent to those who [subscribe](SubscribePermits).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermitEvent {
    /// The new state.
    pub state: ClaimState,
}

impl Message for PermitEvent {
    type Result = ();
}

/// Waits for so many permits; answers with what proves the hold. If whoever sent it is gone before,
/// the waiting ends.
#[derive(Clone, Copy, Debug)]
pub struct AcquirePermits {
    permits: u32,
    timeout: Option<Duration>,
}

impl AcquirePermits {
    /// Waits for as long as the session lives.
    pub fn new(permits: u32) -> Self {
        Self { permits, timeout: None }
    }

    /// Waits for so long at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Message for AcquirePermits {
    type Result = Result<Fence>;
}

impl Handler<AcquirePermits> for SemaphoreActor {
    type Result = Answering<Fence>;

    fn handle(&mut self, asked: AcquirePermits, ctx: &mut Context<Self>) -> Answering<Fence> {
        let acquire = self.recipe().acquire(asked.permits).timeout_if(asked.timeout);
        self.ask(acquire, ctx).granted()
    }
}

/// Takes so many permits if they are free and nobody waits.
#[derive(Clone, Copy, Debug)]
pub struct TryAcquirePermits(pub u32);

impl Message for TryAcquirePermits {
    type Result = Result<Option<Fence>>;
}

impl Handler<TryAcquirePermits> for SemaphoreActor {
    type Result = Answering<Option<Fence>>;

    fn handle(&mut self, asked: TryAcquirePermits, ctx: &mut Context<Self>) -> Self::Result {
        let acquire = self.recipe().try_acquire(asked.0);
        self.ask(acquire, ctx)
    }
}

/// Releases the permits, and answers when etcd has said so. If the actor waits for some, the
/// waiting ends, and whoever waits gets [`Lost`](crate::ErrorKind::Lost).
#[derive(Clone, Copy, Debug)]
pub struct ReleasePermits;

impl Message for ReleasePermits {
    type Result = Result<Release>;
}

impl Handler<ReleasePermits> for SemaphoreActor {
    type Result = ResponseFuture<Result<Release>>;

    fn handle(&mut self, _: ReleasePermits, _: &mut Context<Self>) -> Self::Result {
        self.give_back()
    }
}

/// Changes the number of permits, for all; answers with the number there was. See
/// [`Semaphore::resize`].
#[derive(Clone, Copy, Debug)]
pub struct ResizeSemaphore(pub u32);

impl Message for ResizeSemaphore {
    type Result = Result<u32>;
}

impl Handler<ResizeSemaphore> for SemaphoreActor {
    type Result = ResponseFuture<Result<u32>>;

    fn handle(&mut self, asked: ResizeSemaphore, _: &mut Context<Self>) -> Self::Result {
        let semaphore = self.recipe().clone();
        Box::pin(async move { semaphore.resize(asked.0).await })
    }
}

/// Sends every change of state to a recipient from now on. A subscription does not keep the
/// recipient alive.
#[derive(Debug)]
pub struct SubscribePermits(pub Recipient<PermitEvent>);

impl Message for SubscribePermits {
    type Result = ();
}

impl Handler<SubscribePermits> for SemaphoreActor {
    type Result = ();

    fn handle(&mut self, SubscribePermits(recipient): SubscribePermits, _: &mut Context<Self>) {
        self.tell(&recipient);
    }
}
