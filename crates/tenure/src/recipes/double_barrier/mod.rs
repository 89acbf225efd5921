//! A meeting: nobody begins before all are there, nobody leaves before all have finished.

mod actor;
mod enter;
mod membership;
mod room;

use std::fmt;

use bytes::Bytes;
use tenure_core::{Key, KeyRange, LeaseId, prefix_end, rendezvous::Keys};

pub use self::{
    actor::{DoubleBarrierActor, EnterBarrier, LeaveBarrier},
    enter::{Enter, Entering},
    membership::{Leave, Membership},
};
use super::{Contender, holder::contenders, name::Kind};
use crate::{
    client::Client,
    error::{Error, Result},
    session::Session,
};

const WHAT: &str = "double barrier";
const KIND: Kind =
    Kind { path: "double-barrier", name: "double barrier name", prefix: "double barrier key" };
/// The transaction that begins a round compares the key of each, and etcd allows 128.
const MOST: usize = 120;

/// A double barrier: so many members enter together, and leave together.
///
/// Nobody gets in before all are there at once, and nobody out before all want to leave. Whoever
/// dies meanwhile is passed over: in the waiting room another may come in its place, and those
/// inside do not wait for it. One more than the number is refused. It may be used again and again.
///
/// ```no_run
/// use tenure::{Client, DoubleBarrier, Session};
///
/// # async fn example() -> tenure::Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let session = Session::open(&client).await?;
/// let round = DoubleBarrier::new(&session, "round", 3);
///
/// let membership = round.enter().await?;
/// // ... all three are at work ...
/// membership.leave().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Keys
///
/// `tenure/double-barrier/<name>/waiters/<lease>.<nonce>` for each member and, once it is in, the
/// same with `round` in place of `waiters`, both with its lease; and
/// `tenure/double-barrier/<name>/ready`, with the lease of who put it. Or the same behind a raw key
/// ([`at`](Self::at)). Besides, `tenure/session/<lease>` is read, and written when an
/// answer was lost.
///
/// The layout is that of Go's recipe, whose members may take part. What is promised holds among
/// members of this library only: Go's say "ready" without looking whether all are still there, and
/// pass by any "ready" that is put.
///
/// A session that is [resumed](Session::resume) does not take memberships over: those of the
/// earlier process count as there until the session ends.
#[derive(Clone)]
pub struct DoubleBarrier {
    session: Session,
    place: Result<Place>,
}

/// The keys of a double barrier, and for how many it is.
#[derive(Clone)]
struct Place {
    prefix: Bytes,
    parties: usize,
}

impl DoubleBarrier {
    /// The double barrier of this name, for so many members, 120 at most. All must give the same
    /// number. What is wrong with name or number is told by [`enter`](Self::enter).
    pub fn new(session: &Session, name: impl AsRef<str>, parties: usize) -> Self {
        Self::on(session, KIND.prefix_of(name.as_ref()), parties)
    }

    /// The double barrier behind this key, to share with programs in Go.
    pub fn at(session: &Session, key: impl Into<Key>, parties: usize) -> Self {
        Self::on(session, KIND.raw_prefix(key.into()), parties)
    }

    fn on(session: &Session, prefix: Result<Bytes>, parties: usize) -> Self {
        let place = prefix.and_then(|prefix| match parties {
            1..=MOST => Ok(Place { prefix, parties }),
            0 => Err(Error::invalid("double barrier parties", "there must be one at least")),
            _ => Err(Error::invalid("double barrier parties", format!("more than {MOST}"))),
        });
        Self { session: session.clone(), place }
    }

    /// Enters, once all are there. [`timeout`](Enter::timeout) limits the waiting; without it only
    /// the session does.
    ///
    /// Cancel safe: whoever drops the future either was in, and leaves in the background, or is
    /// withdrawn.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name or number, [`Full`](crate::ErrorKind::Full) if as many are
    /// there already, `Timeout` after the timeout, `Lost` if the session is lost or somebody deletes
    /// the member's key, `PermissionDenied`, and what etcd refuses.
    pub fn enter(&self) -> Enter {
        Enter::new(&self.session, self.place.clone())
    }

    /// Who is in, and who waits to get in, without a session: those who came first are first.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::get`].
    pub async fn inspect(client: &Client, name: impl AsRef<str>) -> Result<Vec<Party>> {
        parties(client, KIND.prefix_of(name.as_ref())?).await
    }

    /// The same behind a raw key; see [`at`](Self::at). Of members of Go's recipe it is not known
    /// whether they are in.
    ///
    /// # Errors
    ///
    /// Those of [`inspect`](Self::inspect).
    pub async fn inspect_at(client: &Client, key: impl Into<Key>) -> Result<Vec<Party>> {
        parties(client, KIND.raw_prefix(key.into())?).await
    }

    /// The session it is used with.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// One who is in a double barrier, or waits to get in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Party {
    /// Who it is.
    pub contender: Contender,
    /// Whether its round has begun.
    pub is_in: bool,
}

async fn parties(client: &Client, prefix: Bytes) -> Result<Vec<Party>> {
    // Nobody is counted here.
    let place = Place { prefix, parties: 1 };
    let marks = client.get(KeyRange::prefix(place.key("round/"))).keys_only().await?;
    let all = contenders(client, &place.home()).await?;
    let party = |contender: Contender| {
        let name = contender.key.strip_prefix(&place.home()[..]).unwrap_or_default();
        let mark = place.mark_called(name);
        let is_in = marks.kvs.iter().any(|kv| kv.key == mark);
        Party { contender, is_in }
    };
    Ok(all.into_iter().map(party).collect())
}

impl Place {
    fn key(&self, rest: &str) -> Bytes {
        [&self.prefix[..], rest.as_bytes()].concat().into()
    }

    fn ready(&self) -> Bytes {
        self.key("ready")
    }

    fn home(&self) -> Bytes {
        self.key("waiters/")
    }

    fn members(&self) -> KeyRange {
        KeyRange::prefix(self.home())
    }

    fn keys(&self) -> Keys {
        Keys { ready: self.ready(), members: self.home(), marks: self.key("round/") }
    }

    /// The mark of a member of this library, who deletes it with its key.
    fn mark(&self, member: &[u8], lease: LeaseId) -> Option<Bytes> {
        let name = member.strip_prefix(&self.home()[..])?;
        name.starts_with(format!("{lease}.").as_bytes()).then(|| self.mark_called(name))
    }

    fn mark_called(&self, name: &[u8]) -> Bytes {
        [&self.key("round/")[..], name].concat().into()
    }

    /// The ready key, marks, and the keys of members: in this order.
    fn all(&self) -> KeyRange {
        let members = self.home();
        // It ends in a slash.
        let end = prefix_end(&members).unwrap_or(members);
        KeyRange::span(self.ready(), end)
    }
}

impl fmt::Debug for DoubleBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref().ok();
        f.debug_struct("DoubleBarrier")
            .field("prefix", &place.map(|place| &place.prefix))
            .field("parties", &place.map(|place| place.parties))
            .finish_non_exhaustive()
    }
}
