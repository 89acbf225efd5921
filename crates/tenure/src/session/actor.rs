use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt as _, AsyncContext, Context, Handler, Message, Recipient,
    ResponseFuture, WeakRecipient, fut::wrap_future,
};
use futures::FutureExt;
use tenure_core::{EtcdError, LeaseId, backoff::Outage};
use tokio::sync::{oneshot, watch as latest};

use super::{Session, SessionConfig, life::Life, resume};
use crate::{
    client::{Client, LeaseState},
    error::{Error, ErrorKind, LossReason, Result},
    runtime::Running,
};

/// How long a session that nobody holds any more may take to say so to etcd.
const FAREWELL: Duration = Duration::from_secs(1);

/// Keeps one place in the cluster: a lease, and what hangs on it.
///
/// Start it where it shall run, or let [`Session::open`] do so on the client's thread. It lives as
/// long as somebody has its address, a [`Session`] or something held by one; then it revokes its
/// lease.
pub struct SessionActor {
    client: Client,
    config: SessionConfig,
    /// The present life, once there was one.
    lives: Option<latest::Sender<Arc<Life>>>,
    generation: u64,
    waiting: Vec<oneshot::Sender<Result<Session>>>,
    subscribers: Vec<WeakRecipient<SessionEvent>>,
    /// Why it cannot be opened.
    failed: Option<Error>,
    /// Closed or orphaned on purpose: there is nothing left to do.
    over: bool,
    outage: Option<Outage>,
    _running: Option<Running>,
}

impl SessionActor {
    /// A session of `client`, opened when the actor is started.
    pub fn new(client: Client, config: SessionConfig) -> Self {
        Self {
            client,
            config,
            lives: None,
            generation: 0,
            waiting: Vec::new(),
            subscribers: Vec::new(),
            failed: None,
            over: false,
            outage: None,
            _running: None,
        }
    }

    pub(super) fn running(mut self, running: Running) -> Self {
        self._running = Some(running);
        self
    }

    fn life(&self) -> Option<Arc<Life>> {
        self.lives.as_ref().map(|lives| Arc::clone(&lives.borrow()))
    }

    fn session(&self, ctx: &Context<Self>) -> Option<Session> {
        let lives = self.lives.as_ref()?.subscribe();
        Some(Session::new(self.client.clone(), ctx.address(), lives, &self.config))
    }

    fn enter(&mut self, ctx: &mut Context<Self>) {
        let (client, config) = (self.client.clone(), self.config.clone());
        let generation = self.generation;
        let entering = async move { enter(&client, &config, generation).await };
        ctx.spawn(wrap_future(entering).map(|entered, actor: &mut Self, ctx| match entered {
            Ok(life) => actor.entered(life, ctx),
            Err(error) if actor.generation == 0 => actor.refuse(&error),
            // Nobody wants it any more, or it can never be.
            Err(_) if actor.over || !ctx.connected() => ctx.stop(),
            Err(error) if error.kind() == ErrorKind::Closed => ctx.stop(),
            Err(error) => {
                tracing::warn!(%error, "a lost session cannot begin anew yet");
                let now = actor.client.now();
                let pause = actor.outage.get_or_insert_with(|| Outage::new(now)).pause(now);
                ctx.run_later(pause, |actor, ctx| actor.enter(ctx));
            }
        }));
    }

    fn refuse(&mut self, error: &Error) {
        self.failed = Some(error.clone());
        self.over = true;
        for waiting in self.waiting.drain(..) {
            // Whoever is gone need not know.
            let _ = waiting.send(Err(error.clone()));
        }
    }

    fn entered(&mut self, life: Life, ctx: &mut Context<Self>) {
        let life = Arc::new(life);
        if self.over {
            // Closed while it began anew.
            self.client.spawn(end_lease(self.client.clone(), life).map(drop));
            return ctx.stop();
        }
        self.outage = None;
        tracing::info!(
            lease = %life.lease, generation = life.generation, ttl = ?life.ttl(), "session open"
        );
        match &self.lives {
            Some(lives) => {
                lives.send_replace(Arc::clone(&life));
            }
            None => self.lives = Some(latest::channel(Arc::clone(&life)).0),
        }
        if let Some(session) = self.session(ctx) {
            for waiting in self.waiting.drain(..) {
                // Whoever is gone has its handle dropped here.
                let _ = waiting.send(Ok(session.clone()));
            }
        }
        // Weakly, so that the last handle ends the actor.
        let actor = ctx.address().downgrade();
        tokio::task::spawn_local(async move {
            let mut seen = None;
            loop {
                let state = life.changed_from(seen).await;
                let Some(actor) = actor.upgrade() else { return };
                actor.do_send(Turned { life: Arc::clone(&life), state });
                if matches!(state, LeaseState::Lost { .. }) {
                    return;
                }
                seen = Some(state);
            }
        });
    }

    fn lost(&mut self, life: &Arc<Life>, reason: LossReason, ctx: &mut Context<Self>) {
        let generation = life.generation;
        if matches!(reason, LossReason::Closed | LossReason::Orphaned) {
            tracing::info!(lease = %life.lease, generation, %reason, "session ended");
            self.over = true;
            self._running = None;
            return;
        }
        tracing::warn!(lease = %life.lease, generation, %reason, "session lost");
        for holding in life.holdings() {
            tracing::warn!(held = holding.name(), lease = %life.lease, %reason, "lost");
        }
        life.forget();
        if reason == LossReason::Expired {
            // The server may keep it for a good while longer, after a change of its leader for
            // another TTL: others need not wait for that.
            self.client.spawn(end_lease(self.client.clone(), Arc::clone(life)).map(drop));
        }
        if !self.over && self.config.reenter {
            self.generation += 1;
            self.config.resume = None;
            self.enter(ctx);
        }
    }

    /// The present life, ended on purpose; `None` if there is none.
    fn finish(&self, reason: LossReason) -> Option<Arc<Life>> {
        let life = self.life()?;
        let alive = life.loss(self.client.now()).is_none();
        life.end(reason);
        alive.then_some(life)
    }
}

async fn enter(client: &Client, config: &SessionConfig, generation: u64) -> Result<Life> {
    match config.resume {
        Some(lease) => resume::resume(client, lease, generation).await,
        None => {
            let grant = client.lease_grant(config.ttl).await?;
            let keep = client.lease_keep_alive(&grant).await?;
            Ok(Life::new(generation, grant.header.cluster_id, keep))
        }
    }
}

/// Ends a lease, unless another process has resumed the session meanwhile: its lease it is then.
async fn end_lease(client: Client, life: Arc<Life>) -> Result<()> {
    let ended = async {
        let resumed = match client.get(life.guard_key()).await {
            Ok(guard) => guard.kv().is_some_and(|kv| kv.value != life.token()),
            // Who may not read it has no locks, and nobody writes it then.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
            Err(error) => return Err(error),
        };
        if resumed {
            tracing::info!(lease = %life.lease, "session resumed elsewhere, not revoked");
            return Ok(());
        }
        match client.lease_revoke(life.lease).await {
            Err(error) if error.etcd_error() != Some(EtcdError::LeaseNotFound) => Err(error),
            _ => Ok(()),
        }
    };
    let ended: Result<()> = ended.await;
    life.forget();
    if let Err(error) = &ended {
        tracing::warn!(lease = %life.lease, %error, "lease not revoked, left to expire");
    }
    ended
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        match self.config.check() {
            Ok(()) => self.enter(ctx),
            Err(error) => self.refuse(&error),
        }
    }
}

impl Drop for SessionActor {
    fn drop(&mut self) {
        let Some(life) = self.life().filter(|_| !self.over) else { return };
        if life.loss(self.client.now()).is_some() {
            return;
        }
        // Nobody holds anything of it any more.
        life.end(LossReason::Closed);
        let client = self.client.clone();
        self.client.spawn(async move {
            // What is owed is said for so long at most, and then left to the TTL.
            let _ = tokio::time::timeout(FAREWELL, end_lease(client, life)).await;
        });
    }
}

/// A session changed its state. Sent to those who [subscribe](SubscribeSession).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionEvent {
    /// How often the session was lost and begun anew before.
    pub generation: u64,
    /// The lease that it is about.
    pub lease: LeaseId,
    /// The new state.
    pub state: LeaseState,
}

impl Message for SessionEvent {
    type Result = ();
}

/// Asks for a handle; answered once the session is open.
#[derive(Clone, Copy, Debug)]
pub struct OpenSession;

impl Message for OpenSession {
    type Result = Result<Session>;
}

impl Handler<OpenSession> for SessionActor {
    type Result = ResponseFuture<Result<Session>>;

    fn handle(&mut self, _: OpenSession, ctx: &mut Context<Self>) -> Self::Result {
        if let Some(error) = &self.failed {
            let error = error.clone();
            return Box::pin(async { Err(error) });
        }
        if let Some(session) = self.session(ctx) {
            return Box::pin(async { Ok(session) });
        }
        let (reply, answer) = oneshot::channel();
        self.waiting.push(reply);
        let client = self.client.clone();
        Box::pin(async move { answer.await.map_err(|_| client.gone("session"))? })
    }
}

/// Sends every change of state to a recipient from now on, the present one first. A subscription
/// does not keep the recipient alive.
#[derive(Debug)]
pub struct SubscribeSession(pub Recipient<SessionEvent>);

impl Message for SubscribeSession {
    type Result = ();
}

impl Handler<SubscribeSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, SubscribeSession(recipient): SubscribeSession, _: &mut Context<Self>) {
        if let Some(life) = self.life() {
            let state = life.state(self.client.now());
            let event = SessionEvent { generation: life.generation, lease: life.lease, state };
            recipient.do_send(event);
        }
        self.subscribers.push(recipient.downgrade());
    }
}

/// Gives back all that is held, then ends the lease.
#[derive(Clone, Copy, Debug)]
pub struct CloseSession;

impl Message for CloseSession {
    type Result = Result<()>;
}

impl Handler<CloseSession> for SessionActor {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, _: CloseSession, _: &mut Context<Self>) -> Self::Result {
        let life = self.finish(LossReason::Closed);
        self.over = true;
        let client = self.client.clone();
        Box::pin(async move {
            let Some(life) = life else { return Ok(()) };
            for holding in life.holdings() {
                // What one cannot give back, nor the next, goes with the lease.
                if holding.give_back().await.is_err() {
                    break;
                }
            }
            end_lease(client, life).await
        })
    }
}

/// Stops renewing, and leaves the lease as it is.
#[derive(Clone, Copy, Debug)]
pub struct OrphanSession;

impl Message for OrphanSession {
    type Result = Result<LeaseId>;
}

impl Handler<OrphanSession> for SessionActor {
    type Result = Result<LeaseId>;

    fn handle(&mut self, _: OrphanSession, _: &mut Context<Self>) -> Self::Result {
        let loss = self.life().and_then(|life| life.loss(self.client.now()));
        let Some(life) = self.finish(LossReason::Orphaned) else {
            return Err(Error::lost("session", loss.unwrap_or(LossReason::Closed)));
        };
        self.over = true;
        life.forget();
        Ok(life.lease)
    }
}

/// A life changed its state.
struct Turned {
    life: Arc<Life>,
    state: LeaseState,
}

impl Message for Turned {
    type Result = ();
}

impl Handler<Turned> for SessionActor {
    type Result = ();

    fn handle(&mut self, Turned { life, state }: Turned, ctx: &mut Context<Self>) {
        let event = SessionEvent { generation: life.generation, lease: life.lease, state };
        self.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(subscriber) => {
                subscriber.do_send(event);
                subscriber.connected()
            }
            None => false,
        });
        match state {
            LeaseState::Lost { reason } => self.lost(&life, reason, ctx),
            LeaseState::Jeopardy { until } => {
                let left = until.since(self.client.now());
                tracing::warn!(lease = %life.lease, ?left, "session in jeopardy");
            }
            _ => {}
        }
    }
}
