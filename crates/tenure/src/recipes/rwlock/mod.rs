//! Many who read, or one who writes, in the order of asking.

mod actor;
mod guard;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use tenure_core::{Key, wait_queue::Rule};

pub use self::{
    actor::{AcquireRead, AcquireWrite, Downgrade, RwLockActor, TryAcquireRead, TryAcquireWrite},
    guard::{ReadGuard, WriteGuard},
};
use super::{
    Contender,
    claim::{Acquire, Naming, Request, Stand},
    holder::contenders,
    name::Kind,
};
use crate::{
    client::{Client, Queue},
    error::Result,
    session::Session,
};

const KIND: Kind = Kind { path: "rwlock", name: "lock name", prefix: "lock prefix" };

/// A lock that any number of readers share, or one writer has alone, among all processes that use
/// the same etcd.
///
/// First come, first served, and nobody is overtaken: a reader that comes after a writer waits
/// for it, though other readers are still inside. So neither kind can be kept out for ever.
///
/// ```no_run
/// use tenure::{RwLock, Session};
///
/// # async fn example(session: Session) -> tenure::Result<()> {
/// let config = RwLock::new(&session, "config");
/// let reading = config.read().await?; // together with others who read
/// reading.release().await?;
///
/// let writing = config.write().await?; // alone
/// writing.kv().put("config/limit", "7").await?;
/// let reading = writing.downgrade().await?; // no other writer came in between
/// reading.release().await?;
/// # Ok(())
/// # }
/// ```
///
/// A reader cannot become a writer: two that tried would wait for each other for ever. Release
/// the one, ask for the other, and look again at what was read.
///
/// # Guarantees
///
/// Those of [`Mutex`](crate::Mutex), for a writer against all others and for readers against
/// writers. The [fence](crate::Fence) of a writer is higher than all before it, readers' included.
///
/// # Keys
///
/// `tenure/rwlock/<name>/read/<lease>.<nonce>` and, of a writer besides,
/// `../write/<lease>.<nonce>`; or the same behind a raw prefix ([`at`](Self::at)), the layout of
/// `RWMutex` of Go's recipes, so that both exclude one another. A session that was
/// [resumed](Session::resume) does not take such keys over, since Go's side orders them by their
/// last change: they keep their places, for nobody, until it [disowns](Session::disown) them.
#[derive(Clone)]
pub struct RwLock {
    session: Session,
    queue: Result<Arc<Queue>>,
}

impl RwLock {
    /// The lock of this name. Names are independent of one another, whatever is in them.
    ///
    /// A bad name (empty, or with a NUL) is told by [`read`](Self::read) and
    /// [`write`](Self::write).
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::on(session, KIND.prefix_of(name.as_ref()))
    }

    /// The lock on a raw prefix, to share with Go's `RWMutex` of that prefix.
    pub fn at(session: &Session, prefix: impl Into<Key>) -> Self {
        Self::on(session, KIND.raw_prefix(prefix.into()))
    }

    fn on(session: &Session, prefix: Result<Bytes>) -> Self {
        let client = session.client();
        let queue = prefix.map(|prefix| client.queues().of(client, &prefix));
        Self { session: session.clone(), queue }
    }

    /// Waits until no writer is inside or ahead. [`timeout`](Acquire::timeout) limits the waiting;
    /// without it only the session does.
    ///
    /// Cancel safe: whoever drops the future either had the lock, and has it released, or never
    /// gets it.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::acquire`](crate::Mutex::acquire).
    pub fn read(&self) -> Acquire<ReadGuard> {
        Acquire::new(self.reader(), |held| {
            held.map(ReadGuard::new).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Enters as a reader if no writer is inside or waits; `None` otherwise, and nothing is left
    /// behind. Errors and cancel safety are those of [`read`](Self::read).
    pub fn try_read(&self) -> Acquire<Option<ReadGuard>> {
        let request = self.reader().map(Request::only_try);
        Acquire::new(request, |held| Ok(held.map(ReadGuard::new)))
    }

    /// Waits until nobody else is inside or ahead; otherwise as [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::acquire`](crate::Mutex::acquire).
    pub fn write(&self) -> Acquire<WriteGuard> {
        Acquire::new(self.writer(), |held| {
            held.map(WriteGuard::new).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Enters as a writer if nobody is inside or waits; `None` otherwise, and nothing is left
    /// behind. Errors and cancel safety are those of [`write`](Self::write).
    pub fn try_write(&self) -> Acquire<Option<WriteGuard>> {
        let request = self.writer().map(Request::only_try);
        Acquire::new(request, |held| Ok(held.map(WriteGuard::new)))
    }

    fn reader(&self) -> Result<Request> {
        let queue = self.queue.clone()?;
        let writers = below(&queue, "write/");
        let stand = self.stand(queue, "read/", Rule::Under(writers));
        Ok(Request::new("read lock", &self.session, vec![stand]))
    }

    /// A writer holds a reader's key, too: what is left when it is [downgraded] keeps its place.
    ///
    /// [downgraded]: WriteGuard::downgrade
    fn writer(&self) -> Result<Request> {
        let queue = self.queue.clone()?;
        let reads = self.stand(Arc::clone(&queue), "read/", Rule::Everybody);
        let writes = self.stand(queue, "write/", Rule::Nobody);
        Ok(Request::new("write lock", &self.session, vec![reads, writes]))
    }

    fn stand(&self, queue: Arc<Queue>, part: &str, rule: Rule) -> Stand {
        let home = below(&queue, part);
        let queue = Some(queue);
        Stand { queue, home, naming: Naming::PutOnce, rule, one_by_one: false }
    }

    /// Who is inside, and who waits: those who asked first are first. A writer is there twice,
    /// with a key under `read/` and one under `write/`.
    ///
    /// # Errors
    ///
    /// Those of [`Client::get`].
    pub async fn holders(&self) -> Result<Vec<Contender>> {
        let queue = self.queue.clone()?;
        contenders(self.session.client(), queue.prefix()).await
    }

    /// The same for a name, without a session.
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

fn below(queue: &Queue, part: &str) -> Bytes {
    [&queue.prefix()[..], part.as_bytes()].concat().into()
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.queue.as_ref().map(|queue| queue.prefix().clone());
        f.debug_struct("RwLock").field("prefix", &prefix).finish_non_exhaustive()
    }
}
