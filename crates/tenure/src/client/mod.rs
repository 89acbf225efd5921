//! The client: handles that any task may hold, over the actors of one connection.

mod conversation;
pub(crate) mod kv;
mod lanes;
mod lease;
mod server_side;
mod wait_queue;
mod watch;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use actix::{Actor, Addr};
use futures::future::BoxFuture;
use tenure_core::{Key, KeyRange, LeaseId, Moment, Revision};
use tokio::sync::{mpsc, oneshot, watch as latest};

use self::{
    kv::KvActor,
    lease::{LeaseActor, LeaseCalls},
    watch::{WatchActor, WatchCalls},
};
pub(crate) use self::{
    lanes::{Lane, Lanes, Turn},
    lease::LeaseCell,
    wait_queue::{Ahead, Before, Own, Queue, Queues, Waiter, listing, room_key, room_of},
};
pub use self::{
    lease::{
        Grant, KeepAlive, KeptLease, LeaseGrant, LeaseList, LeaseRevoked, LeaseState,
        LeaseTimeToLive, Leases, TimeToLive,
    },
    server_side::{ServerCampaign, ServerElection, ServerLeader, ServerLock, ServerLocked},
    watch::{Watch, WatchRequest, WatchResponse, WatchState, WatchStream},
};
use crate::{
    clock::Clock,
    config::{ClientBuilder, Config, Endpoint},
    error::{Error, Result},
    ops::{
        CallOptions, Compact, CompactResponse, Count, Delete, Get, Op, OpResponse, Put, PutValue,
        Txn, Via,
    },
    runtime::{self, Closing, Ground, Running, Start, Starter},
    transport::{
        Shared, Transport,
        connection::{Connection, SetEndpoints, first_route},
    },
};

/// What can be done with the key space: the seam that layers stack on. For the layers of this
/// crate; a [`Client`] cannot be made of another one yet.
pub trait Kv: Send + Sync + 'static {
    /// Does one operation. The future does nothing until it is polled; dropping it gives up.
    fn execute(&self, op: Op, options: CallOptions) -> BoxFuture<'static, Result<OpResponse>>;

    /// Throws away the history before `revision`.
    fn compact(
        &self,
        revision: Revision,
        physical: bool,
        options: CallOptions,
    ) -> BoxFuture<'static, Result<CompactResponse>>;
}

impl Kv for Transport {
    fn execute(&self, op: Op, options: CallOptions) -> BoxFuture<'static, Result<OpResponse>> {
        Box::pin(self.clone().execute(op, options))
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
        options: CallOptions,
    ) -> BoxFuture<'static, Result<CompactResponse>> {
        Box::pin(self.clone().compact(revision, physical, options))
    }
}

/// A connection to an etcd cluster.
///
/// Cheap to clone; all clones share one connection per member, one stream for watches and one for
/// leases. May be used from any thread and any tokio runtime. No call waits for ever: each has a
/// deadline, with defaults that [`ClientBuilder`] tells.
///
/// # Dropping
///
/// The client ends when its last clone, stream, guard and call in flight is gone: watches are
/// cancelled, leases are no longer kept alive. [`close`](Self::close) does it at once.
#[derive(Clone)]
pub struct Client {
    kv: Arc<dyn Kv>,
    watch: Arc<dyn Watch>,
    leases: Arc<dyn Leases>,
    core: Arc<Core>,
}

/// What all clones of a client share, whatever layers they have.
struct Core {
    transport: Transport,
    kv: Addr<KvActor>,
    starter: Addr<Starter>,
    queues: Queues,
    lanes: Lanes,
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

/// What the actors' thread hands over once they run.
struct Parts {
    shared: Arc<Shared>,
    kv: Addr<KvActor>,
    lease: Addr<LeaseActor>,
    watch: Addr<WatchActor>,
    starter: Addr<Starter>,
}

fn start_actors(config: Config, ground: Ground) -> Result<Parts> {
    let Ground { handle, executor, closing, close, running } = ground;
    let config = Arc::new(config);
    let (publish, route) =
        latest::channel(Arc::new(first_route(&config.endpoints, &config, &executor)?));
    let (tx, rx) = actix::dev::channel::channel(16);
    let shared = Arc::new(Shared {
        config,
        handle,
        closing: closing.clone(),
        route,
        connection: Addr::new(tx),
        turn: AtomicUsize::new(0),
    });
    // An actor must not keep the thread that it runs on.
    let transport = Transport::new(Arc::clone(&shared), None);
    let connection = Connection::new(
        transport.clone(),
        executor,
        closing.clone(),
        close,
        running.clone(),
        publish,
    );
    actix::Context::with_receiver(rx).run(connection);
    let kv = KvActor::new(transport.clone(), closing.clone(), running.clone()).start();
    let lease = LeaseActor::new(transport.clone(), closing.clone(), running.clone()).start();
    let watch = WatchActor::new(transport, closing.clone(), running.clone()).start();
    let starter = Starter::new(closing, running).start();
    Ok(Parts { shared, kv, lease, watch, starter })
}

impl Client {
    /// Connects to a cluster with the default settings. More than one endpoint lets the client
    /// survive the loss of a member.
    ///
    /// Nothing is sent before the first call.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`].
    pub async fn connect(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        Self::builder(endpoints).connect().await
    }

    /// Sets up a client: users, timeouts, TLS, and where its actors run.
    pub fn builder(endpoints: impl IntoIterator<Item = impl Into<String>>) -> ClientBuilder {
        ClientBuilder::new(endpoints)
    }

    pub(crate) async fn start(config: Config) -> Result<Self> {
        let place = config.place;
        let signs_in = config.credentials.is_some();
        let started = runtime::start(place, move |ground| start_actors(config, ground)).await?;
        let Parts { shared, kv, lease, watch, starter } = started.parts;
        let transport = Transport::new(shared, Some(started.alive));
        if signs_in {
            transport.refresh_token("sign in", 0).await?;
        }
        let leases = Arc::new(LeaseCalls { transport: transport.clone(), actor: lease });
        let watches = Arc::new(WatchCalls {
            transport: transport.clone(),
            actor: watch,
            last_id: AtomicU64::new(0),
        });
        Ok(Self {
            kv: Arc::new(transport.clone()),
            watch: Arc::new(watches),
            leases: Arc::new(leases),
            core: Arc::new(Core {
                transport,
                kv,
                starter,
                queues: Queues::default(),
                lanes: Lanes::default(),
                ended: Mutex::new(Some(started.ended)),
            }),
        })
    }

    fn via(&self) -> Via {
        Via::new(&self.kv)
    }

    /// Reads a key, or any [`KeyRange`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty key or an empty range, `Compacted` for a revision that is gone,
    /// `Refused` for one still to come, `Timeout` if no member answered.
    pub fn get(&self, range: impl Into<KeyRange>) -> Get<Via> {
        Get::via(range.into(), self.via())
    }

    /// Counts the keys of a range, without reading them.
    pub fn count(&self, range: impl Into<KeyRange>) -> Count<Via> {
        Count::with(range.into(), self.via())
    }

    /// Writes one key. In place of a value, [`KeepValue`](crate::KeepValue) keeps the one it has.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty key or a value above the send limit, `Refused` with what etcd
    /// says (a lease that is gone, a full database), `Unavailable` if surely nothing was written,
    /// `Indeterminate` if nobody can say.
    pub fn put(&self, key: impl Into<Key>, value: impl Into<PutValue>) -> Put<Via> {
        Put::with(key.into().into_bytes(), value.into(), self.via())
    }

    /// Deletes a key, or any [`KeyRange`]. Errors are those of [`put`](Self::put).
    pub fn delete(&self, range: impl Into<KeyRange>) -> Delete<Via> {
        Delete::with(range.into(), self.via())
    }

    /// Does several operations at once, depending on conditions. Errors are those of
    /// [`put`](Self::put).
    pub fn txn(&self) -> Txn<Via> {
        Txn::with(self.via())
    }

    /// Throws away the history before `revision`.
    ///
    /// # Errors
    ///
    /// `Compacted` if that was done already, `Refused` for a revision still to come.
    pub fn compact(&self, revision: Revision) -> Compact {
        Compact { revision, physical: false, via: self.via() }
    }

    /// Does one operation, made by its `new`.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    pub async fn execute(&self, op: impl Into<Op>) -> Result<OpResponse> {
        self.kv.execute(op.into(), CallOptions::default()).await
    }

    /// Watches a key, or any [`KeyRange`]. Await it to have the server's acceptance, or
    /// [`open`](WatchRequest::open) it to have the stream at once.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty key or range, `PermissionDenied`, `Timeout` if no member
    /// accepts it in time. A start that is compacted away is told by the stream: etcd accepts the
    /// watch first.
    pub fn watch(&self, range: impl Into<KeyRange>) -> WatchRequest {
        WatchRequest::new(&self.watch, range.into())
    }

    /// Asks the server how far it is: all watches that are live get a
    /// [`WatchResponse::Progress`], once all of them are up to date. The server may leave the
    /// question unanswered while they are not; ask again then.
    pub fn request_progress(&self) {
        self.watch.request_progress();
    }

    /// Makes a lease that lives for `ttl` without a renewal; a part of a second counts as a whole
    /// one, and the server may give more. Keys [put with it](crate::Put::lease) die with it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a TTL of nothing, or above 9,000,000,000 s; `Refused` with what etcd says
    /// (a chosen id that is taken, a full database); `Timeout` or `Unavailable` if no member
    /// answered. A grant whose answer was lost is made once all the same: the client chooses the
    /// id.
    pub fn lease_grant(&self, ttl: Duration) -> Grant {
        Grant::new(&self.leases, ttl)
    }

    /// Ends a lease, and deletes its keys at one revision.
    ///
    /// # Errors
    ///
    /// `Refused` with [`EtcdError::LeaseNotFound`](crate::EtcdError::LeaseNotFound) if there is no
    /// such lease.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<LeaseRevoked> {
        self.leases.revoke(id, CallOptions::default()).await
    }

    /// Asks how long a lease still has. No such lease is no error.
    pub fn lease_time_to_live(&self, id: LeaseId) -> TimeToLive {
        TimeToLive::new(&self.leases, id)
    }

    /// Lists all leases.
    ///
    /// # Errors
    ///
    /// `Timeout` if no member answered.
    pub async fn leases(&self) -> Result<LeaseList> {
        self.leases.list(CallOptions::default()).await
    }

    /// Keeps a lease alive until the answer is dropped. Given a [`LeaseGrant`] it answers at once;
    /// given an id, after the first renewal.
    ///
    /// Cancel safe: dropping the future ends what it began.
    ///
    /// # Errors
    ///
    /// `Refused` with [`EtcdError::LeaseNotFound`](crate::EtcdError::LeaseNotFound), `Timeout` if
    /// no renewal was answered.
    pub async fn lease_keep_alive(&self, lease: impl Into<KeptLease>) -> Result<KeepAlive> {
        self.leases.keep_alive(lease.into()).await
    }

    /// Renews a lease once, and answers with its TTL. Uses the stream that all renewals share.
    ///
    /// # Errors
    ///
    /// As [`lease_keep_alive`](Self::lease_keep_alive).
    pub async fn lease_keep_alive_once(&self, id: LeaseId) -> Result<Duration> {
        self.leases.keep_alive_once(id).await
    }

    /// The endpoints in use, as URLs.
    pub fn endpoints(&self) -> Vec<String> {
        let route = self.core.transport.route();
        route.links.iter().map(|link| link.name().to_string()).collect()
    }

    /// Uses these endpoints from now on. Calls in flight, and the streams of watches and leases,
    /// stay where they are until they end or fail; connections to endpoints that stay are kept,
    /// and what is known of their health. Cancel safe: once polled it is done, answered or not.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty list or a malformed endpoint; the old ones stay in use then.
    pub async fn set_endpoints(
        &self,
        endpoints: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<()> {
        let what = "set endpoints";
        let transport = &self.core.transport;
        let tls = transport.shared.config.uses_tls();
        let endpoints = endpoints
            .into_iter()
            .map(|text| Endpoint::parse(&text.into(), tls))
            .collect::<Result<Vec<_>>>()?;
        if endpoints.is_empty() {
            return Err(Error::invalid("endpoints", "at least one is needed"));
        }
        let (reply, done) = oneshot::channel();
        transport.shared.connection.do_send(SetEndpoints { endpoints, reply });
        done.await.map_err(|_| transport.gone(what))?
    }

    /// Uses the client URLs of the members the cluster has now: those that are started, and no
    /// learners.
    ///
    /// # Errors
    ///
    /// `Timeout` if no member answered. If the cluster names none, nothing changes.
    pub async fn sync(&self) -> Result<()> {
        let urls = self.core.transport.serving_urls().await?;
        if urls.is_empty() {
            return Ok(());
        }
        self.set_endpoints(urls).await
    }

    /// The clock that deadlines are counted on.
    pub fn clock(&self) -> &Clock {
        &self.core.transport.shared.config.clock
    }

    /// Ends the client for all its clones: watches end with [`Closed`](crate::ErrorKind::Closed),
    /// calls in flight too, and a write that may have arrived as
    /// [`Indeterminate`](crate::ErrorKind::Indeterminate). Waits, for a second at most, until its
    /// actors have ended; a second `close` does not. The thread ends with the last handle.
    ///
    /// Cancel safe: once polled the client is closed, waited for or not.
    pub async fn close(&self) {
        let transport = &self.core.transport;
        if let Some(alive) = transport.alive() {
            alive.close();
        }
        let ended = {
            // Nothing in here can panic while it is held.
            self.core.ended.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        if let Some(ended) = ended {
            runtime::ended(ended, &transport.shared.handle).await;
        }
    }

    pub(crate) fn kv_actor(&self) -> Addr<KvActor> {
        self.core.kv.clone()
    }

    /// The same client with another way to the key space.
    pub(crate) fn over(&self, kv: Arc<dyn Kv>) -> Self {
        Self { kv, ..self.clone() }
    }

    /// The way to the key space, for what is laid over it.
    pub(crate) fn seam(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    pub(crate) fn now(&self) -> Moment {
        self.core.transport.now()
    }

    pub(crate) fn sleep(&self, span: Duration) -> tokio::time::Sleep {
        self.core.transport.sleep(span)
    }

    pub(crate) fn closing(&self) -> Closing {
        self.core.transport.shared.closing.clone()
    }

    /// The error of a call whose actor is gone: closed on purpose, or dead.
    pub(crate) fn gone(&self, what: &'static str) -> Error {
        self.core.transport.gone(what)
    }

    /// The queues that contenders of this client wait in, whatever layers it has.
    pub(crate) fn queues(&self) -> &Queues {
        &self.core.queues
    }

    /// The turns that transactions of this client take, whatever layers it has.
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.core.lanes
    }

    /// Runs work where the client runs, whatever becomes of the caller. It ends with the client.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.core.transport.shared.handle.spawn(work);
    }

    /// Starts an actor where the client runs.
    pub(crate) fn start_actor<A, F>(&self, make: F) -> Addr<A>
    where
        A: Actor<Context = actix::Context<A>>,
        F: FnOnce(Running) -> A + Send + 'static,
    {
        let (tx, rx) = actix::dev::channel::channel(16);
        let start = move |running| {
            actix::Context::with_receiver(rx).run(make(running));
        };
        self.core.starter.do_send(Start(Box::new(start)));
        Addr::new(tx)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}
