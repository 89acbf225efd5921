//! Sessions: a place in the cluster that is kept for as long as this process lives.

mod actor;
mod config;
mod life;
mod resume;

use std::{fmt, sync::Arc, time::Duration};

use actix::Addr;
use bytes::Bytes;
use futures::{Stream, stream};
use tenure_core::{LeaseId, Moment};
use tokio::sync::watch as latest;

pub(crate) use self::life::{Holding, Inherited, Life};
pub use self::{
    actor::{
        CloseSession, OpenSession, OrphanSession, SessionActor, SessionEvent, SubscribeSession,
    },
    config::SessionConfig,
};
use crate::{
    client::{Client, LeaseState},
    error::{Error, LossReason, Result},
    ops::{Compare, Delete},
};

/// How long to wait before asking again for what was refused.
const REFUSED: Duration = Duration::from_secs(1);

/// A place in the cluster that ends when this process does: a lease that is kept alive.
///
/// Locks and all else that is held hang on a session, any number of them on one: each is a key of
/// its lease, so all of them end with it. A session tells in time when it may be over:
/// [`states`](Self::states) goes from `Healthy` to `Jeopardy` when a renewal is overdue, and to
/// `Lost` before the lease can have expired on the server.
///
/// ```no_run
/// use tenure::{Client, Session};
///
/// # async fn example() -> tenure::Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let session = Session::open(&client).await?;
/// println!("here, as lease {}", session.lease());
/// session.close().await
/// # }
/// ```
///
/// Cheap to clone; all clones are one session.
///
/// # Dropping
///
/// When the last clone is gone, and all that was held by it, the lease is revoked in the
/// background. Nothing waits for that: where it must have happened before the process ends, call
/// [`close`](Self::close). If nothing gets through, the lease ends with its TTL.
#[derive(Clone)]
pub struct Session {
    client: Client,
    actor: Addr<SessionActor>,
    lives: latest::Receiver<Arc<Life>>,
    name: Arc<str>,
    reenters: bool,
}

impl Session {
    fn new(
        client: Client,
        actor: Addr<SessionActor>,
        lives: latest::Receiver<Arc<Life>>,
        config: &SessionConfig,
    ) -> Self {
        Self { client, actor, lives, name: Arc::clone(&config.name), reenters: config.reenter }
    }

    /// Opens a session with a TTL of 15 s.
    ///
    /// # Errors
    ///
    /// Those of [`Client::lease_grant`].
    pub async fn open(client: &Client) -> Result<Self> {
        Self::builder().open(client).await
    }

    /// Sets a session up: its TTL, its name, and what it does when it is lost.
    pub fn builder() -> SessionConfig {
        SessionConfig::new()
    }

    /// Goes on with the session of an earlier process, by its lease: keep
    /// [`lease`](Self::lease) somewhere to be able to.
    ///
    /// The session counts from a renewal that was answered now. Keys of locks that the earlier
    /// process held or waited with are taken over: its guards, should it still run, fail from now
    /// on, and the next [`Mutex::acquire`](crate::Mutex::acquire) of that name in this process has
    /// the place of that key. Keys nobody asks for stay in the queue as long as the session lives;
    /// see [`inherited`](Self::inherited). So do those of [read-write locks](crate::RwLock), double
    /// barriers and queue deliveries, which are not taken over.
    ///
    /// # Errors
    ///
    /// `Refused` with [`EtcdError::LeaseNotFound`](crate::EtcdError::LeaseNotFound) when the lease
    /// is gone, `Timeout` if no renewal was answered.
    pub async fn resume(client: &Client, lease: LeaseId) -> Result<Self> {
        Self::builder().resume(lease).open(client).await
    }

    async fn start(client: &Client, config: SessionConfig) -> Result<Self> {
        config.check()?;
        let owned = client.clone();
        let actor =
            client.start_actor(move |running| SessionActor::new(owned, config).running(running));
        actor.send(OpenSession).await.map_err(|_| client.gone("session"))?
    }

    /// The client it was opened with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What people read in the records of what it holds.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn life(&self) -> Arc<Life> {
        Arc::clone(&self.lives.borrow())
    }

    /// A life that is not over; waits for the next one if the session re-enters.
    pub(crate) async fn living(&self, what: &'static str) -> Result<Arc<Life>> {
        let mut lives = self.lives.clone();
        loop {
            let life = Arc::clone(&lives.borrow_and_update());
            let Some(reason) = life.loss(self.client.now()) else { return Ok(life) };
            if !self.reenters || matches!(reason, LossReason::Closed | LossReason::Orphaned) {
                return Err(Error::lost(what, reason));
            }
            lives.changed().await.map_err(|_| self.client.gone(what))?;
        }
    }

    /// Whether it lives, or will again.
    pub(crate) fn goes_on(&self) -> bool {
        match self.life().loss(self.client.now()) {
            None => true,
            Some(LossReason::Closed | LossReason::Orphaned) => false,
            Some(_) => self.reenters,
        }
    }

    /// Gives back what nobody holds any more, in the background: again and again until it is
    /// done, or gone with the lease.
    pub(crate) fn give_back(&self, life: &Arc<Life>, holding: Arc<dyn Holding>) {
        let (client, life) = (self.client.clone(), Arc::clone(life));
        self.client.spawn(async move {
            // What fails here was refused; where nothing answers it goes on by itself.
            while Arc::clone(&holding).give_back().await.is_err() && life.is_held(client.now()) {
                client.sleep(REFUSED).await;
            }
        });
    }

    /// The lease that everything of this session hangs on. Another one after the session was lost
    /// and [re-entered](SessionConfig::reenter).
    pub fn lease(&self) -> LeaseId {
        self.life().lease
    }

    /// How often the session was lost and re-entered.
    pub fn generation(&self) -> u64 {
        self.life().generation
    }

    /// The TTL that the server gave last; zero once the session is lost.
    pub fn ttl(&self) -> Duration {
        self.life().ttl()
    }

    /// Whether it is held now. Reads the clock, does no I/O.
    pub fn is_held(&self) -> bool {
        self.life().is_held(self.client.now())
    }

    /// When it will be lost if no further renewal is answered, on [`Client::clock`]; in the past
    /// once it is lost. Counted from when the last answered renewal was *sent*, less 1 % of the
    /// TTL, less a twentieth of it or half a second.
    pub fn deadline(&self) -> Moment {
        self.life().deadline()
    }

    /// How it stands now.
    pub fn state(&self) -> LeaseState {
        self.life().state(self.client.now())
    }

    /// How it stands, from now on: the present state first, then each change. Ends after
    /// [`Lost`](LeaseState::Lost), or, if the session re-enters, when it is closed. A state that
    /// is over before it is looked at may be left out.
    pub fn states(&self) -> impl Stream<Item = LeaseState> + Send + Unpin + 'static {
        let (lives, reenters) = (self.lives.clone(), self.reenters);
        let life = self.life();
        Box::pin(stream::unfold(
            (lives, life, None, false),
            move |(mut lives, mut life, mut seen, over)| async move {
                if over {
                    return None;
                }
                if matches!(seen, Some(LeaseState::Lost { .. })) {
                    lives.wait_for(|next| next.generation > life.generation).await.ok()?;
                    life = Arc::clone(&lives.borrow_and_update());
                    seen = None;
                }
                let state = life.changed_from(seen).await;
                let over = match state {
                    LeaseState::Lost { reason } => {
                        !reenters || matches!(reason, LossReason::Closed | LossReason::Orphaned)
                    }
                    _ => false,
                };
                Some((state, (lives, life, Some(state), over)))
            },
        ))
    }

    /// Waits until the present lease is lost. Cancel safe.
    pub async fn lost(&self) -> LossReason {
        self.life().lost().await
    }

    /// Keys that an earlier process of this session left and that nobody of this one has asked
    /// for yet. They keep their places: a lock among them is held, for nobody.
    pub fn inherited(&self) -> Vec<Bytes> {
        self.life().inherited().into_iter().map(|own| own.key).collect()
    }

    /// Deletes the keys that are [`inherited`](Self::inherited), and so gives their places up.
    ///
    /// # Errors
    ///
    /// Those of [`Client::txn`]. What was not deleted is still [`inherited`](Self::inherited).
    pub async fn disown(&self) -> Result<()> {
        let life = self.life();
        for own in life.inherited() {
            self.delete_inherited(&life, &own).await?;
        }
        Ok(())
    }

    /// Deletes a key that is still as it was inherited.
    pub(crate) async fn delete_inherited(&self, life: &Life, own: &Inherited) -> Result<()> {
        self.client
            .txn()
            .when([Compare::mod_revision(&own.key).equal(own.modified)])
            .and_then([Delete::new(&own.key)])
            .await?;
        life.disown(&own.key);
        Ok(())
    }

    /// Ends the session: gives back what it holds, the newest first, and revokes the lease. What
    /// is held is [lost](LossReason::Closed) at once, what waits fails.
    ///
    /// Cancel safe: once polled it goes on, awaited or not.
    ///
    /// # Errors
    ///
    /// Those of [`Client::lease_revoke`]; the lease ends with its TTL then. A session that is lost
    /// already is closed without an error; one that another process has resumed is not revoked.
    pub async fn close(&self) -> Result<()> {
        self.actor.send(CloseSession).await.map_err(|_| self.client.gone("session"))?
    }

    /// Stops renewing, and leaves the lease with all its keys to live out its TTL: for a process
    /// that is replaced by one that [resumes](Self::resume) the session. What is held is
    /// [lost](LossReason::Orphaned) for this process.
    ///
    /// # Errors
    ///
    /// `Lost` if the session is lost already.
    pub async fn orphan(&self) -> Result<LeaseId> {
        self.actor.send(OrphanSession).await.map_err(|_| self.client.gone("session"))?
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.life();
        f.debug_struct("Session")
            .field("lease", &life.lease)
            .field("generation", &life.generation)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
