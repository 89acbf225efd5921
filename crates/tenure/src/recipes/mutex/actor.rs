use std::{future::IntoFuture, pin::pin, time::Duration};

use actix::{
    Actor, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, WeakAddr,
    WeakRecipient,
    dev::{MessageResponse, OneshotSender},
};
use futures::{
    StreamExt,
    future::{self, Either},
};
use tenure_core::Fence;
use tokio::{sync::oneshot, task::spawn_local};

use super::{Mutex, MutexGuard};
use crate::{
    error::{Error, LossReason, Result},
    recipes::claim::{Acquire, ClaimState, Release},
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
pub struct MutexActor {
    mutex: Mutex,
    held: Option<MutexGuard>,
    /// Gives up the waiting, while there is one.
    waiting: Option<oneshot::Sender<()>>,
    subscribers: Vec<WeakRecipient<LockEvent>>,
}

impl MutexActor {
    /// The lock of this name; see [`Mutex::new`].
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::of(Mutex::new(session, name))
    }

    /// Any lock.
    pub fn of(mutex: Mutex) -> Self {
        Self { mutex, held: None, waiting: None, subscribers: Vec::new() }
    }

    /// Why it cannot be asked for.
    fn busy(&self) -> Option<Error> {
        let held = self.held.as_ref().is_some_and(|guard| guard.is_held());
        let waits = self.waiting.as_ref().is_some_and(|give_up| !give_up.is_closed());
        let rule = match (held, waits) {
            (true, _) => "this actor has it already",
            (_, true) => "this actor is waiting for it already",
            (false, false) => return None,
        };
        Some(Error::invalid("lock", rule))
    }

    /// Asks for the lock, and has the actor [keep](Granted) it.
    fn ask<G: Into<Option<MutexGuard>> + 'static>(
        &mut self,
        acquire: Acquire<G>,
        ctx: &mut Context<Self>,
    ) -> Asking {
        if let Some(error) = self.busy() {
            return Asking(Box::pin(async { Err(error) }));
        }
        let acquiring = acquire.into_future();
        // Weakly, all of it: the actor stops with its last address, whatever is under way.
        let actor = ctx.address().downgrade();
        spawn_local(tell_states(acquiring.states(), actor.clone()));
        let (give_up, given_up) = oneshot::channel();
        self.waiting = Some(give_up);
        Asking(Box::pin(async move {
            let granted = match future::select(acquiring, given_up).await {
                Either::Left((granted, _)) => granted.map(Into::into),
                Either::Right(_) => Err(Error::lost("lock", LossReason::Closed)),
            };
            match actor.upgrade() {
                Some(actor) => {
                    let kept = actor.send(Granted(granted)).await;
                    kept.unwrap_or_else(|_| Err(Error::actor_gone("lock")))
                }
                None => Err(Error::lost("lock", LossReason::Closed)),
            }
        }))
    }
}

impl Actor for MutexActor {
    type Context = Context<Self>;
}

async fn tell_states(
    mut states: impl futures::Stream<Item = ClaimState> + Unpin,
    actor: WeakAddr<MutexActor>,
) {
    while let Some(state) = states.next().await {
        match actor.upgrade() {
            Some(actor) => actor.do_send(Told(state)),
            None => return,
        }
    }
}

/// The lock's answer on its way to whoever sent the message. Ends when that one is gone.
pub struct Asking(future::LocalBoxFuture<'static, Result<Option<Fence>>>);

impl Asking {
    fn answer<T: 'static>(
        self,
        tx: Option<OneshotSender<Result<T>>>,
        take: fn(Option<Fence>) -> Result<T>,
    ) {
        spawn_local(async move {
            let Some(mut tx) = tx else {
                // Nobody wants the answer, but the lock all the same.
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
            // Gone in this very moment: the actor keeps the lock until it is released.
            let _ = tx.send(answer.and_then(take));
        });
    }
}

/// What became of the asking; answered once it is kept.
struct Granted(Result<Option<MutexGuard>>);

impl Message for Granted {
    type Result = Result<Option<Fence>>;
}

impl Handler<Granted> for MutexActor {
    type Result = Result<Option<Fence>>;

    fn handle(&mut self, Granted(granted): Granted, _: &mut Context<Self>) -> Self::Result {
        self.waiting = None;
        self.held = granted?;
        Ok(self.held.as_ref().map(MutexGuard::fence))
    }
}

/// A lock changed its state. Sent to those who [subscribe](SubscribeLock).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockEvent {
    /// The new state.
    pub state: ClaimState,
}

impl Message for LockEvent {
    type Result = ();
}

struct Told(ClaimState);

impl Message for Told {
    type Result = ();
}

impl Handler<Told> for MutexActor {
    type Result = ();

    fn handle(&mut self, Told(state): Told, _: &mut Context<Self>) {
        self.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(subscriber) => {
                subscriber.do_send(LockEvent { state: state.clone() });
                subscriber.connected()
            }
            None => false,
        });
    }
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
    type Result = Asking;

    fn handle(&mut self, asked: AcquireLock, ctx: &mut Context<Self>) -> Asking {
        let acquire = self.mutex.acquire();
        let acquire = match asked.timeout {
            Some(timeout) => acquire.timeout(timeout),
            None => acquire,
        };
        self.ask(acquire, ctx)
    }
}

impl MessageResponse<MutexActor, AcquireLock> for Asking {
    fn handle(self, _: &mut Context<MutexActor>, tx: Option<OneshotSender<Result<Fence>>>) {
        self.answer(tx, |fence| fence.ok_or_else(crate::ops::other_kind));
    }
}

/// Takes the lock if nobody has it or waits for it.
#[derive(Clone, Copy, Debug)]
pub struct TryAcquireLock;

impl Message for TryAcquireLock {
    type Result = Result<Option<Fence>>;
}

impl Handler<TryAcquireLock> for MutexActor {
    type Result = Asking;

    fn handle(&mut self, _: TryAcquireLock, ctx: &mut Context<Self>) -> Asking {
        self.ask(self.mutex.try_acquire(), ctx)
    }
}

impl MessageResponse<MutexActor, TryAcquireLock> for Asking {
    fn handle(self, _: &mut Context<MutexActor>, tx: Option<OneshotSender<Result<Option<Fence>>>>) {
        self.answer(tx, Ok);
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
        let waited = self.waiting.take().is_some_and(|give_up| give_up.send(()).is_ok());
        match self.held.take() {
            Some(guard) => Box::pin(guard.release()),
            None if waited => Box::pin(async { Ok(Release::Released) }),
            None => {
                let error = Error::invalid("lock", "this actor does not have it");
                Box::pin(async { Err(error) })
            }
        }
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
        if let Some(guard) = &self.held {
            recipient.do_send(LockEvent { state: guard.state() });
        }
        self.subscribers.push(recipient.downgrade());
    }
}
