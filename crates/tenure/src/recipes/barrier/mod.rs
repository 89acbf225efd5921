//! A gate that somebody shuts, and others wait before.

mod actor;
mod guard;

use std::{fmt, pin::pin, sync::Arc};

use bytes::Bytes;
use futures::future::{self, Either};
use tenure_core::{
    EtcdError, EventKind, Key, KeyRange, KeyValue,
    name::{check_name, escape},
};

pub use self::{
    actor::{BarrierActor, HoldBarrier, ReleaseBarrier, WaitBarrier},
    guard::BarrierGuard,
};
use super::{
    claim::Progress,
    follow::Seen,
    holder::{self, Holder},
    once::{once, persist_a_while},
    own_key::{HeldKey, OwnKey, Spec},
    wait::Wait,
};
use crate::{
    client::Client,
    error::{Error, LossReason, Result},
    ops::{Compare, Delete, Put, Txn},
    session::Session,
};

const WHAT: &str = "barrier";

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
        let name = name.as_ref();
        let key = check_name(name)
            .map(|()| format!("tenure/barrier/{}/gate", escape(name)).into())
            .map_err(|rule| Error::invalid("barrier name", rule));
        Self { client: client.clone(), key }
    }

    /// The barrier that is this key, to share with programs in Go.
    pub fn at(client: &Client, key: impl Into<Key>) -> Self {
        let key = key.into().into_bytes();
        let key = match key.is_empty() {
            false => Ok(key),
            true => Err(Error::invalid("barrier key", "it is empty")),
        };
        Self { client: client.clone(), key }
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
        let life = session.living(WHAT).await?;
        let spec = Spec { what: WHAT, key, nonce: None, with_it: None, with_last: None };
        let held = HeldKey::new(OwnKey::new(session, &life, spec, Arc::new(Progress::new())));
        let put = {
            let put = pin!(held.own().put(&[]));
            match future::select(put, pin!(life.lost())).await {
                Either::Left((put, _)) => put,
                Either::Right((reason, _)) => Err(Error::lost(WHAT, reason)),
            }
        };
        match put {
            Ok(Some(_)) => {
                held.own().hold()?;
                Ok(Some(BarrierGuard::new(held)))
            }
            Ok(None) => Ok(None),
            Err(error) if error.etcd_error() == Some(EtcdError::LeaseNotFound) => {
                life.end(LossReason::Revoked);
                Err(Error::lost(WHAT, LossReason::Revoked))
            }
            Err(error) => Err(error),
        }
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
    /// so is [lost](LossReason::KeyDeleted).
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
