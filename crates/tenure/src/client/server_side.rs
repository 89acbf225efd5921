//! The locks and elections that etcd's members run themselves, as plain calls.

use std::{fmt, future::IntoFuture, time::Duration};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture};
use tenure_core::{Key, KeyValue, LeaseId, Revision};

use super::Client;
use crate::{
    error::{Error, Result},
    ops::{CallOptions, Header, IntoValue},
    transport::Transport,
};

/// A lock that a member of the cluster took for the caller; see [`Client::server_lock`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLocked {
    /// Where the answer comes from.
    pub header: Header,
    /// The key that holds the lock, for [`Client::server_unlock`].
    pub key: Bytes,
}

/// A leadership that a member of the cluster won for the caller; see [`ServerElection::campaign`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLeader {
    /// Where the answer comes from.
    pub header: Header,
    /// The name of the election.
    pub name: Bytes,
    /// The leader's key.
    pub key: Bytes,
    /// When that key was created.
    pub create_revision: Revision,
    /// The lease that the leadership ends with.
    pub lease: Option<LeaseId>,
}

impl Client {
    /// Has a member of the cluster take a lock, by etcd's Lock service.
    ///
    /// It is here because other clients use it: they, Go's mutexes, `etcdctl lock` and
    /// [`Mutex::at`](crate::Mutex::at) exclude one another on one name. Prefer a
    /// [`Mutex`](crate::Mutex), since this service
    ///
    /// - makes a lease of 60 s if none is [given](ServerLock::lease), that nobody renews: the lock
    ///   is gone then, whoever still believes to have it;
    /// - takes up to 100 ms to hand a lock over;
    /// - answers nothing about the lease: whether the lock is still held, nobody tells;
    /// - knows two calls with one lease for one holder.
    ///
    /// Layers over the key space, such as a guard's [`kv`](crate::Held::kv), do not apply to it.
    pub fn server_lock(&self, name: impl Into<Key>) -> ServerLock {
        let (transport, name) = (self.core.transport.clone(), name.into().into_bytes());
        ServerLock { transport, name, lease: None, options: CallOptions::new() }
    }

    /// Deletes a key that holds a lock, whoever holds it by now.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty key, else those of [`delete`](Self::delete).
    pub async fn server_unlock(&self, key: impl Into<Key>) -> Result<Header> {
        let key = key.into().into_bytes();
        if key.is_empty() {
            return Err(Error::invalid("server unlock", "the key is empty"));
        }
        self.core.transport.clone().server_unlock(key).await
    }

    /// An election that the members of the cluster run, by etcd's Election service. What is said of
    /// [`server_lock`](Self::server_lock) holds for it, too.
    ///
    /// The name is a prefix of keys: it shares elections with Go's recipe and `etcdctl elect`.
    pub fn server_election(&self, name: impl Into<Key>) -> ServerElection {
        ServerElection { transport: self.core.transport.clone(), name: name.into().into_bytes() }
    }
}

/// Takes a lock; see [`Client::server_lock`]. Begins when it is awaited.
///
/// Dropped while it waits, the server hears that nobody waits any more, and takes its key back; if
/// it does not hear of it, or it was its turn in this moment, the lock is held until the lease ends.
///
/// # Errors
///
/// `InvalidInput` for an empty name; `Timeout` if it was not its turn in time, of which
/// [`may_have_been_applied`](Error::may_have_been_applied) holds; `Indeterminate` if the connection
/// broke; `Refused` with what etcd says (no such lease, or it ended while it waited).
#[must_use = "nothing is asked for until it is awaited"]
pub struct ServerLock {
    transport: Transport,
    name: Bytes,
    lease: Option<LeaseId>,
    options: CallOptions,
}

impl ServerLock {
    /// The lease that the lock ends with, to be kept alive by the caller.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long to wait for the lock at most, 60 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }
}

impl IntoFuture for ServerLock {
    type Output = Result<ServerLocked>;
    type IntoFuture = BoxFuture<'static, Result<ServerLocked>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { transport, name, lease, options } = self;
        Box::pin(async move {
            named("server lock", &name)?;
            transport.server_lock(name, lease, options).await
        })
    }
}

impl fmt::Debug for ServerLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLock").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An election that the members of the cluster run; see [`Client::server_election`].
#[derive(Clone)]
pub struct ServerElection {
    transport: Transport,
    name: Bytes,
}

impl ServerElection {
    /// Waits until it leads, with this value for others to read.
    pub fn campaign(&self, value: impl IntoValue) -> ServerCampaign {
        let (election, value) = (self.clone(), value.into_value());
        ServerCampaign { election, value, lease: None, options: CallOptions::new() }
    }

    /// Changes the value of a leader.
    ///
    /// # Errors
    ///
    /// `Refused` with [`ElectionNotLeader`](crate::EtcdError::ElectionNotLeader) if it leads no
    /// more, `Indeterminate` if nobody can say whether the value was changed.
    pub async fn proclaim(&self, leader: &ServerLeader, value: impl IntoValue) -> Result<Header> {
        let value = value.into_value()?;
        self.transport.clone().server_proclaim(leader.into(), value).await
    }

    /// Gives a leadership up. One that is over already is no error.
    ///
    /// # Errors
    ///
    /// `Timeout` if no member answered.
    pub async fn resign(&self, leader: &ServerLeader) -> Result<Header> {
        self.transport.clone().server_resign(leader.into()).await
    }

    /// The leader's key with its value; `None` if nobody leads.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty name, `Timeout` if no member answered.
    pub async fn leader(&self) -> Result<Option<KeyValue>> {
        named("server leader", &self.name)?;
        self.transport.clone().server_leader(self.name.clone()).await
    }

    /// Who leads, and each change of that or of its value, as the server tells it: some may be left
    /// out, and that nobody leads is not told. Ends with an error when the connection breaks or the
    /// member loses its leader.
    pub fn observe(&self) -> impl Stream<Item = Result<KeyValue>> + Send + Unpin + 'static {
        self.transport.clone().server_observe(self.name.clone())
    }
}

impl fmt::Debug for ServerElection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerElection").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Campaigns; see [`ServerElection::campaign`]. Begins when it is awaited.
///
/// What [`ServerLock`] says about dropping, and of errors, holds for it. The server does not look
/// whether the lease lived until its turn: the leadership may be over when it is told.
#[must_use = "nothing is asked for until it is awaited"]
pub struct ServerCampaign {
    election: ServerElection,
    value: Result<Bytes>,
    lease: Option<LeaseId>,
    options: CallOptions,
}

impl ServerCampaign {
    /// The lease that the leadership ends with, to be kept alive by the caller. Without one, the
    /// server makes one of 60 s that nobody renews.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long to wait for the leadership at most, 60 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }
}

impl IntoFuture for ServerCampaign {
    type Output = Result<ServerLeader>;
    type IntoFuture = BoxFuture<'static, Result<ServerLeader>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { election: ServerElection { transport, name }, value, lease, options } = self;
        Box::pin(async move {
            named("server campaign", &name)?;
            transport.server_campaign(name, value?, lease, options).await
        })
    }
}

impl fmt::Debug for ServerCampaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCampaign").field("name", &self.election.name).finish_non_exhaustive()
    }
}

fn named(what: &'static str, name: &Bytes) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(what, "the name is empty"));
    }
    Ok(())
}
