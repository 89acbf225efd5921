//! Leases: keys that live as long as somebody keeps them alive.

mod actor;
mod cell;
mod keep_alive;

use std::{future::IntoFuture, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use tenure_core::{LeaseId, Moment};
use tokio::sync::oneshot;

pub use self::keep_alive::KeepAlive;
pub(crate) use self::{
    actor::{Keep, LeaseActor, RenewOnce},
    cell::LeaseCell,
};
use crate::{
    error::{Error, ErrorKind, LossReason, Result},
    ops::{CallOptions, Header},
    transport::lease::MAX_TTL,
};

/// What can be done with leases: the seam that layers stack on. For the layers of this crate, as
/// [`Kv`](crate::Kv) is.
pub trait Leases: Send + Sync + 'static {
    /// Makes a lease.
    fn grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
        options: CallOptions,
    ) -> BoxFuture<'static, Result<LeaseGrant>>;

    /// Ends a lease, and deletes its keys.
    fn revoke(&self, id: LeaseId, options: CallOptions)
    -> BoxFuture<'static, Result<LeaseRevoked>>;

    /// Asks how long a lease still has, and for its keys if wanted.
    fn time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
        options: CallOptions,
    ) -> BoxFuture<'static, Result<LeaseTimeToLive>>;

    /// Lists all leases.
    fn list(&self, options: CallOptions) -> BoxFuture<'static, Result<LeaseList>>;

    /// Keeps a lease alive until the answer is dropped.
    fn keep_alive(&self, lease: KeptLease) -> BoxFuture<'static, Result<KeepAlive>>;

    /// Renews a lease once.
    fn keep_alive_once(&self, id: LeaseId) -> BoxFuture<'static, Result<Duration>>;
}

/// How a lease that is kept alive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseState {
    /// No renewal was answered yet.
    Connecting,
    /// The lease is held, and renewed in time.
    Healthy,
    /// The lease is held, but its renewal is overdue: get ready to stop.
    Jeopardy {
        /// When it will be lost, on the client's clock.
        until: Moment,
    },
    /// The lease is no longer held. Final.
    Lost {
        /// Why.
        reason: LossReason,
    },
}

/// A lease that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// Where the answer comes from.
    pub header: Header,
    /// The lease.
    pub id: LeaseId,
    /// How long it lives without a renewal, as granted: the server may give more than was asked.
    pub ttl: Duration,
    pub(crate) sent_at: Moment,
}

/// A lease that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRevoked {
    /// Where the answer comes from.
    pub header: Header,
}

/// What a server knows of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTimeToLive {
    /// Where the answer comes from.
    pub header: Header,
    /// The lease.
    pub id: LeaseId,
    /// How long it still has, in whole seconds; `None` if there is no such lease. Never a proof
    /// that it lives: leases are not linearizable.
    pub remaining: Option<Duration>,
    /// The TTL it was granted; `None` if there is no such lease.
    pub granted_ttl: Option<Duration>,
    /// The keys that die with it, if they were asked for.
    pub keys: Vec<Bytes>,
}

/// The leases of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseList {
    /// Where the answer comes from.
    pub header: Header,
    /// The leases.
    pub leases: Vec<LeaseId>,
}

/// A lease to keep alive: one that was just granted, or just its id.
///
/// From a [`LeaseGrant`] the deadline is known at once; from an id only after the first answer.
#[derive(Clone, Copy, Debug)]
pub struct KeptLease {
    pub(crate) id: LeaseId,
    /// When the grant was sent, and the TTL it gave.
    pub(crate) granted: Option<(Moment, Duration)>,
    pub(crate) cluster_id: Option<u64>,
}

impl From<LeaseId> for KeptLease {
    fn from(id: LeaseId) -> Self {
        Self { id, granted: None, cluster_id: None }
    }
}

impl From<&LeaseGrant> for KeptLease {
    fn from(grant: &LeaseGrant) -> Self {
        Self {
            id: grant.id,
            granted: Some((grant.sent_at, grant.ttl)),
            cluster_id: Some(grant.header.cluster_id),
        }
    }
}

/// Makes a lease; see [`Client::lease_grant`](crate::Client::lease_grant).
#[must_use = "a call runs when it is awaited"]
pub struct Grant {
    leases: Arc<dyn Leases>,
    ttl: Duration,
    id: Option<LeaseId>,
    options: CallOptions,
}

impl Grant {
    pub(crate) fn new(leases: &Arc<dyn Leases>, ttl: Duration) -> Self {
        Self { leases: Arc::clone(leases), ttl, id: None, options: CallOptions::default() }
    }

    /// Gives the lease this id rather than a random one. If it is taken the call is refused with
    /// [`EtcdError::LeaseExist`](crate::EtcdError::LeaseExist), which after a lost answer may
    /// mean that this very call took it.
    pub fn id(mut self, id: LeaseId) -> Self {
        self.id = Some(id);
        self
    }

    /// How long the call may take in all, in place of the client's setting.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for Grant {
    type Output = Result<LeaseGrant>;
    type IntoFuture = BoxFuture<'static, Result<LeaseGrant>>;

    fn into_future(self) -> Self::IntoFuture {
        match check_ttl(self.ttl) {
            Ok(()) => self.leases.grant(self.id, self.ttl, self.options),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Timeout, "lease keep alive", "no renewal was answered in time")
}

fn check_ttl(ttl: Duration) -> Result<()> {
    if ttl.is_zero() {
        return Err(Error::invalid("lease grant", "the TTL must be longer than nothing"));
    }
    if ttl > MAX_TTL {
        let rule = format!("the TTL is above etcd's limit of {} s", MAX_TTL.as_secs());
        return Err(Error::invalid("lease grant", rule));
    }
    Ok(())
}

/// Asks for the state of a lease; see
/// [`Client::lease_time_to_live`](crate::Client::lease_time_to_live).
#[must_use = "a call runs when it is awaited"]
pub struct TimeToLive {
    leases: Arc<dyn Leases>,
    id: LeaseId,
    keys: bool,
}

impl TimeToLive {
    pub(crate) fn new(leases: &Arc<dyn Leases>, id: LeaseId) -> Self {
        Self { leases: Arc::clone(leases), id, keys: false }
    }

    /// Asks for the keys that die with it, too.
    pub fn keys(mut self) -> Self {
        self.keys = true;
        self
    }
}

impl IntoFuture for TimeToLive {
    type Output = Result<LeaseTimeToLive>;
    type IntoFuture = BoxFuture<'static, Result<LeaseTimeToLive>>;

    fn into_future(self) -> Self::IntoFuture {
        self.leases.time_to_live(self.id, self.keys, CallOptions::default())
    }
}

macro_rules! opaque_debug {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

opaque_debug!(Grant, TimeToLive);

/// The leases of a client, as far as the wire goes.
pub(crate) struct LeaseCalls {
    pub(crate) transport: crate::transport::Transport,
    pub(crate) actor: actix::Addr<LeaseActor>,
}

impl Leases for Arc<LeaseCalls> {
    fn grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
        options: CallOptions,
    ) -> BoxFuture<'static, Result<LeaseGrant>> {
        Box::pin(self.transport.clone().lease_grant(id, ttl, options))
    }

    fn revoke(
        &self,
        id: LeaseId,
        options: CallOptions,
    ) -> BoxFuture<'static, Result<LeaseRevoked>> {
        Box::pin(self.transport.clone().lease_revoke(id, options))
    }

    fn time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
        options: CallOptions,
    ) -> BoxFuture<'static, Result<LeaseTimeToLive>> {
        Box::pin(self.transport.clone().lease_time_to_live(id, keys, options))
    }

    fn list(&self, options: CallOptions) -> BoxFuture<'static, Result<LeaseList>> {
        Box::pin(self.transport.clone().leases(options))
    }

    fn keep_alive(&self, lease: KeptLease) -> BoxFuture<'static, Result<KeepAlive>> {
        Box::pin(KeepAlive::start(Self::clone(self), lease))
    }

    fn keep_alive_once(&self, id: LeaseId) -> BoxFuture<'static, Result<Duration>> {
        Box::pin(Self::clone(self).renew_once(id))
    }
}

impl LeaseCalls {
    /// When to give up on a renewal that nobody answers.
    fn give_up_at(&self) -> Moment {
        self.transport.now() + self.transport.shared.config.read_timeout
    }

    /// A lease that is kept lives on when nobody answers, so the waiting has a deadline of its
    /// own.
    async fn renew_once(self: Arc<Self>, id: LeaseId) -> Result<Duration> {
        let (reply, answer) = oneshot::channel();
        self.actor.do_send(RenewOnce { id, give_up_at: self.give_up_at(), reply });
        let patience = self.transport.shared.config.read_timeout;
        match self.transport.within(patience, answer).await {
            Some(answer) => answer.map_err(|_| self.transport.gone("lease keep alive"))?,
            None => Err(unanswered()),
        }
    }
}
