//! Mutual exclusion, in the order of asking.

mod actor;
mod guard;
mod multi;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use tenure_core::Key;

pub use self::{
    actor::{AcquireLock, LockEvent, MutexActor, ReleaseLock, SubscribeLock, TryAcquireLock},
    guard::MutexGuard,
    multi::{MultiGuard, MultiMutex},
};
use super::{
    Contender,
    claim::{Acquire, Request, Stand},
    holder::contenders,
    name::Kind,
};
use crate::{
    client::{Client, Queue},
    error::Result,
    session::Session,
};

const KIND: Kind = Kind { path: "mutex", name: "lock name", prefix: "lock prefix" };

/// A lock that one holder at a time has, among all processes that use the same etcd.
///
/// Whoever asked first is first. Several acquisitions of one session exclude one another like any
/// others; to enter a section one is already in, pass the guard.
///
/// ```no_run
/// use tenure::{Client, Mutex, Session};
///
/// # async fn example() -> tenure::Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let session = Session::open(&client).await?;
/// let jobs = Mutex::new(&session, "jobs");
///
/// let guard = jobs.acquire().await?;
/// // Refused by etcd if the lock was lost, whatever this process believes.
/// guard.kv().put("jobs/last-run", "now").await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// A guard ends, by this process's own clock, before its lease can expire in etcd. What no clock
/// covers (a process that is stopped between looking and writing, an administrator who deletes the
/// key) is for the [fence](MutexGuard::fence): writes through [`Held::kv`](crate::Held::kv) carry it, and
/// other resources can ask a [`FenceGate`](crate::FenceGate).
///
/// # Keys
///
/// `tenure/mutex/<name>/<lease>-<nonce>`, or a raw prefix ([`at`](Self::at)); the layout is that of
/// Go's `concurrency` package and `etcdctl lock`, so all of them exclude one another on one prefix.
/// Besides, `tenure/session/<lease>` is read, and written when an answer was lost or a session is
/// resumed. Where etcd has users, theirs must be allowed both.
#[derive(Clone)]
pub struct Mutex {
    session: Session,
    queue: Result<Arc<Queue>>,
}

impl Mutex {
    /// The lock of this name. Names are independent of one another, whatever is in them.
    ///
    /// A bad name (empty, or with a NUL) is told by [`acquire`](Self::acquire).
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::on(session, KIND.prefix_of(name.as_ref()))
    }

    /// The lock on a raw prefix, to share with programs in other languages: all keys under
    /// `<prefix>/` count as contenders, as they do for Go's client and `etcdctl lock <prefix>`.
    pub fn at(session: &Session, prefix: impl Into<Key>) -> Self {
        Self::on(session, KIND.raw_prefix(prefix.into()))
    }

    fn on(session: &Session, prefix: Result<Bytes>) -> Self {
        let client = session.client();
        let queue = prefix.map(|prefix| client.queues().of(client, &prefix));
        Self { session: session.clone(), queue }
    }

    fn request(&self) -> Result<Request> {
        let stand = Stand::in_line(self.queue.clone()?);
        Ok(Request::new("lock", &self.session, vec![stand]))
    }

    /// Waits until the lock is ours. [`timeout`](Acquire::timeout) limits the waiting; without it
    /// only the session does.
    ///
    /// Cancel safe: whoever drops the future either had the lock, and has it released, or never
    /// gets it; its key is withdrawn in the background.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Timeout` after the timeout, `Lost` if the session is lost or
    /// somebody deletes the key that waits, `PermissionDenied`, and what etcd refuses (a full
    /// database).
    pub fn acquire(&self) -> Acquire<MutexGuard> {
        Acquire::new(self.request(), |held| {
            held.map(MutexGuard::new).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Takes the lock if nobody has it or waits for it; `None` otherwise. Leaves nothing behind
    /// then. Errors and cancel safety are those of [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Acquire<Option<MutexGuard>> {
        let request = self.request().map(Request::only_try);
        Acquire::new(request, |held| Ok(held.map(MutexGuard::new)))
    }

    /// Who has the lock, and who waits for it: the first of the list holds.
    ///
    /// # Errors
    ///
    /// Those of [`Client::get`].
    pub async fn holders(&self) -> Result<Vec<Contender>> {
        let queue = self.queue.clone()?;
        contenders(self.session.client(), queue.prefix()).await
    }

    /// Who has the lock of this name, and who waits for it, without a session. The first of the
    /// list holds.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::get`].
    pub async fn inspect(client: &Client, name: impl AsRef<str>) -> Result<Vec<Contender>> {
        contenders(client, &KIND.prefix_of(name.as_ref())?).await
    }

    /// The same for a raw prefix; see [`at`](Self::at).
    ///
    /// # Errors
    ///
    /// Those of [`inspect`](Self::inspect).
    pub async fn inspect_at(client: &Client, prefix: impl Into<Key>) -> Result<Vec<Contender>> {
        contenders(client, &KIND.raw_prefix(prefix.into())?).await
    }

    /// The session it is used with.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.queue.as_ref().map(|queue| queue.prefix().clone());
        f.debug_struct("Mutex").field("prefix", &prefix).finish_non_exhaustive()
    }
}
