//! So many at a time, in the order of asking.

mod actor;
mod limit;
mod permits;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use tenure_core::{
    name::{permits_of, permits_prefix},
    wait_queue::Rule,
};

use self::limit::Limit;
pub use self::{
    actor::{
        AcquirePermits, PermitEvent, ReleasePermits, ResizeSemaphore, SemaphoreActor,
        SubscribePermits, TryAcquirePermits,
    },
    permits::Permits,
};
use super::{
    Contender,
    claim::{Acquire, Naming, Request, Stand},
    holder::contenders,
    name::Kind,
};
use crate::{
    client::{Client, Queue},
    error::{Error, Result},
    session::Session,
};

const KIND: Kind = Kind { path: "semaphore", name: "semaphore name", prefix: "semaphore prefix" };

/// A number of permits that all processes which use the same etcd share.
///
/// First come, first served: whoever asks for many is not overtaken by those who ask for few. All
/// who use a name must agree on the number of its permits: whoever comes first writes it down,
/// and who says otherwise is refused.
///
/// ```no_run
/// use tenure::{Semaphore, Session};
///
/// # async fn example(session: Session) -> tenure::Result<()> {
/// let uploads = Semaphore::new(&session, "uploads", 3);
/// let permits = uploads.acquire(1).await?;
/// permits.release().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// As those of [`Mutex`](crate::Mutex): permits are ours until this process's own clock says
/// otherwise, which is before their lease can expire, and never are more of them given than the
/// number. The [fence](crate::Fence) proves a hold, and its writes are refused once it is lost;
/// but since several hold together, a higher fence does not tell that a lower one is over.
///
/// # Keys
///
/// `tenure/semaphore/<name>/permits/<number>/<lease>-<nonce>` for each who holds or waits, and
/// `tenure/semaphore/<name>/limit`, which stays. Go's client has no semaphore to share with.
#[derive(Clone)]
pub struct Semaphore {
    session: Session,
    queue: Result<Arc<Queue>>,
    limit: Limit,
}

impl Semaphore {
    /// The semaphore of this name, with so many permits. Names are independent of one another.
    ///
    /// What is wrong with them (a bad name, no permit at all, a number that others do not share)
    /// is told by [`acquire`](Self::acquire).
    pub fn new(session: &Session, name: impl AsRef<str>, permits: u32) -> Self {
        let client = session.client();
        let prefix = KIND.prefix_of(name.as_ref());
        let queue = prefix.map(|prefix| client.queues().of(client, &prefix));
        Self { session: session.clone(), queue, limit: Limit::declared(permits) }
    }

    /// Waits until so many permits are ours, all at once. [`timeout`](Acquire::timeout) limits the
    /// waiting; without it only the session does.
    ///
    /// Cancel safe: whoever drops the future either had them, and has them released, or never gets
    /// them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for no permit, for more than there are, or if others have said another number
    /// of them; else those of [`Mutex::acquire`](crate::Mutex::acquire).
    pub fn acquire(&self, permits: u32) -> Acquire<Permits> {
        Acquire::new(self.request(permits), |held| {
            held.map(Permits::new).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Takes so many permits if they are free and nobody waits; `None` otherwise, and nothing is
    /// left behind. Errors are those of [`acquire`](Self::acquire).
    pub fn try_acquire(&self, permits: u32) -> Acquire<Option<Permits>> {
        let request = self.request(permits).map(Request::only_try);
        Acquire::new(request, |held| Ok(held.map(Permits::new)))
    }

    fn request(&self, permits: u32) -> Result<Request> {
        let queue = self.queue.clone()?;
        self.limit.check(permits)?;
        let under = below(&queue);
        let home = permits_prefix(&under, permits).into_bytes();
        let rule = Rule::Room { under, needs: permits };
        let (limit, client, key) =
            (self.limit.clone(), self.session.client().clone(), queue.room_key());
        let naming = Naming::TakenOver;
        let stand = Stand { queue: Some(queue), home, naming, rule, one_by_one: true };
        let request = Request::new("semaphore", &self.session, vec![stand]);
        Ok(request.first(move || limit.agree(client, key, permits)))
    }

    /// Changes the number of permits, for all who use the name and have done so before; answers
    /// with the number there was. Who waits is let in at once when there are more. Nobody is put
    /// out when there are fewer: permits that are held stay so until they are released. Whoever
    /// waits for more than there are goes on waiting, with all who came later.
    ///
    /// A handle that is made later must say the new number.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for 0, else those of [`Client::get`] and [`Client::txn`]: `Indeterminate` if
    /// nobody knows whether it was done.
    pub async fn resize(&self, permits: u32) -> Result<u32> {
        let queue = self.queue.clone()?;
        self.limit.resize(self.session.client(), queue.room_key(), permits).await
    }

    /// How many permits there are, held or not; none before anybody has asked for one.
    ///
    /// # Errors
    ///
    /// Those of [`Client::get`].
    pub async fn size(&self) -> Result<Option<u32>> {
        let queue = self.queue.clone()?;
        limit::read(self.session.client(), queue.room_key()).await
    }

    /// Who has permits, and who waits for some: those who asked first are first.
    ///
    /// # Errors
    ///
    /// Those of [`Client::get`].
    pub async fn holders(&self) -> Result<Vec<PermitClaim>> {
        let queue = self.queue.clone()?;
        claims(self.session.client(), queue.prefix()).await
    }

    /// The same for a name, without a session.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::get`].
    pub async fn inspect(client: &Client, name: impl AsRef<str>) -> Result<Vec<PermitClaim>> {
        claims(client, &KIND.prefix_of(name.as_ref())?).await
    }

    /// The session it is used with.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// One who has permits, or waits for some.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermitClaim {
    /// Who it is.
    pub contender: Contender,
    /// How many permits.
    pub permits: u32,
    /// Whether there is room for them: they are held, or about to be.
    pub is_held: bool,
}

async fn claims(client: &Client, prefix: &Bytes) -> Result<Vec<PermitClaim>> {
    let under = permits_area(prefix);
    let room = limit::read(client, limit::key(prefix)).await?.map_or(0, u64::from);
    let mut taken = 0u64;
    let all = contenders(client, &under).await?;
    let claims = all.into_iter().filter_map(|contender| {
        let permits = permits_of(&contender.key, &under)?;
        taken = taken.saturating_add(permits.into());
        Some(PermitClaim { contender, permits, is_held: taken <= room })
    });
    Ok(claims.collect())
}

fn below(queue: &Queue) -> Bytes {
    permits_area(queue.prefix())
}

fn permits_area(prefix: &Bytes) -> Bytes {
    [&prefix[..], b"permits/"].concat().into()
}

fn refused(rule: impl Into<String>) -> Error {
    Error::invalid("semaphore", rule)
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.queue.as_ref().map(|queue| queue.prefix().clone());
        f.debug_struct("Semaphore").field("prefix", &prefix).finish_non_exhaustive()
    }
}
