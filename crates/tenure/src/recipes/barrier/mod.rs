//! A gate that somebody shuts, and others wait before.

mod actor;
mod guard;

use std::fmt;

use bytes::Bytes;
use tenure_core::{EventKind, Key, KeyRange, KeyValue};

pub use self::{
    actor::{BarrierActor, HoldBarrier, ReleaseBarrier, WaitBarrier},
    guard::BarrierGuard,
};
use super::{
    claim::{Acquire, Naming, Request},
    follow::Seen,
    holder::{self, Holder},
    name::Kind,
    once::{once, persist_a_while},
    wait::Wait,
};
use crate::{
    client::Client,
    error::Result,
    ops::{Compare, Delete, Put, Txn},
    session::Session,
};

const WHAT: &str = "barrier";
const KIND: Kind = Kind { path: "barrier", name: "barrier name", prefix: "barrier key" };

/// A barrier: while one holds it, all who wait at it stay; when it is released, all pass.
///
/// Waiting needs a client alone. Who holds it does so for as long as its session lives
/// ([`hold`](Self::hold)), so that the death of the holder opens it; or for good, until somebody
/// opens it ([`hold_persistently`](Self::hold_persistently)).
///
/// ```no_run
/// use tenure::{Barrier, Client, Session};
///
/// # async fn example() -> tenure::Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let session = Session::open(&client).await?;
/// let migration = Barrier::new(&client, "migration");
///
/// if let Some(guard) = migration.hold(&session).await? {
///     // ... everybody else waits ...
///     guard.release().await?;
/// }
/// migration.wait().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Keys
///
/// `tenure/barrier/<name>/gate`, or a raw key ([`at`](Self::at)): the barrier is held while that
/// key is there, as in Go's `recipe.Barrier`, which holds persistently. Besides,
/// `tenure/session/<lease>` is read, and written when an answer was lost; and `tenure/once/<lease>`
/// is written for a moment to hold persistently.
#[derive(Clone)]
pub struct Barrier {
    client: Client,
    key: Result<Bytes>,
}

impl Barrier {
    /// The barrier of this name. A bad name (empty, or with a NUL) is told by what is asked of it.
    pub fn new(client: &Client, name: impl AsRef<str>) -> Self {
        let prefix = KIND.prefix_of(name.as_ref());
        let key = prefix.map(|prefix| [&prefix[..], b"gate"].concat().into());
        Self { client: client.clone(), key }
    }

    /// The barrier that is this key, to share with programs in Go.
    pub fn at(client: &Client, key: impl Into<Key>) -> Self {
        Self { client: client.clone(), key: KIND.raw_key(key.into()) }
    }

    /// Holds the barrier for as long as the guard and its session live; `None` if somebody holds
    /// it already, be it this session. A session that is [resumed](Session::resume) does not take
    /// the hold over: the barrier stays held until the session ends, or somebody
    /// [releases](Self::release) it.
    ///
    /// Cancel safe: dropped, it is given back in the background, if it was had.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Lost` if the session is lost, `PermissionDenied`, and what
    /// etcd refuses. While no server answers it goes on trying for as long as the session lives.
    pub async fn hold(&self, session: &Session) -> Result<Option<BarrierGuard>> {
        let key = self.key.clone()?;
        let mark = holder::mark(session).into();
        let request = Request::alone(WHAT, session, key, Naming::Shared, mark).only_try();
        let held = Acquire::new(Ok(request), Ok).await?;
        Ok(held.map(BarrierGuard::new))
    }

    /// Holds the barrier until somebody [releases](Self::release) it, whatever becomes of this
    /// process; false if somebody holds it already. It is what Go's `Barrier.Hold` does. If whoever
    /// was to release it dies, all wait for ever: choose [`hold`](Self::hold) where you can.
    ///
    /// Dropped before it ends, the barrier is held, or will be within 15 s, or not.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Indeterminate` if nobody can say whether it is held, else
    /// those of [`Client::put`].
    pub async fn hold_persistently(&self) -> Result<bool> {
        let key = self.key.clone()?;
        let put = Put::new(&key, holder::written(&Holder::called("")));
        once(&self.client, [Compare::missing(&key)], [put.into()]).await
    }

    /// Opens the barrier, whoever holds it: false if nobody does. A guard whose barrier is opened
    /// so is [lost](crate::LossReason::KeyDeleted).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::delete`].
    pub async fn release(&self) -> Result<bool> {
        let key = self.key.clone()?;
        let Some(gate) = self.gate().await? else { return Ok(false) };
        // Of a hold that comes later it is not the release.
        let this = Compare::create_revision(&key).equal(gate.create_revision);
        let open = Txn::new().when([this]).and_then([Delete::new(&key)]);
        let (answer, repeated) = persist_a_while(&self.client, &open).await?;
        Ok(answer.succeeded || repeated)
    }

    /// Whether somebody holds it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::get`].
    pub async fn is_held(&self) -> Result<bool> {
        Ok(self.gate().await?.is_some())
    }

    async fn gate(&self) -> Result<Option<KeyValue>> {
        Ok(self.client.get(self.key.clone()?).keys_only().await?.into_kv())
    }

    /// Waits until nobody holds it; passes at once if nobody does.
    /// [`timeout`](Wait::timeout) and [`session`](Wait::session) limit the waiting.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Timeout` after the timeout, `Lost` if the session is,
    /// `PermissionDenied`, `Closed`.
    pub fn wait(&self) -> Wait {
        let range = self.key.clone().map(KeyRange::key);
        Wait::new(WHAT, &self.client, range, |seen| {
            Ok(match seen {
                Seen::All { kvs, .. } => kvs.is_empty(),
                Seen::Changes(events) => events.iter().any(|event| event.kind == EventKind::Delete),
            })
        })
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("key", &self.key.as_ref().ok()).finish_non_exhaustive()
    }
}
