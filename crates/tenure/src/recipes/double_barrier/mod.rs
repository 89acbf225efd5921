//! A meeting: nobody begins before all are there, nobody leaves before all have finished.

mod actor;
mod enter;
mod membership;
mod room;

use std::{fmt, time::Duration};

use bytes::Bytes;
use tenure_core::{
    Key, KeyRange, LeaseId, Revision,
    name::{check_name, escape},
    prefix_end,
    rendezvous::{Keys, Member},
};

pub use self::{
    actor::{DoubleBarrierActor, EnterBarrier, LeaveBarrier},
    enter::{Enter, Entering},
    membership::{Leave, Membership},
};
use super::own_key::WithLast;
use crate::{
    error::{Error, Result},
    session::Session,
};

const WHAT: &str = "double barrier";
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
/// same with `round` instead of `waiters`, both with its lease; and
/// `tenure/double-barrier/<name>/ready` with the lease of who put it. Or the same behind a raw key
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
    base: Bytes,
    parties: usize,
}

impl DoubleBarrier {
    /// The double barrier of this name, for so many members, 120 at most. All must give the same
    /// number. What is wrong with name or number is told by [`enter`](Self::enter).
    pub fn new(session: &Session, name: impl AsRef<str>, parties: usize) -> Self {
        let name = name.as_ref();
        let base = check_name(name)
            .map(|()| format!("tenure/double-barrier/{}", escape(name)).into())
            .map_err(|rule| Error::invalid("double barrier name", rule));
        Self::on(session, base, parties)
    }

    /// The double barrier behind this key, to share with programs in Go.
    pub fn at(session: &Session, key: impl Into<Key>, parties: usize) -> Self {
        let base = key.into().into_bytes();
        let base = match base.is_empty() {
            false => Ok(base),
            true => Err(Error::invalid("double barrier key", "it is empty")),
        };
        Self::on(session, base, parties)
    }

    fn on(session: &Session, base: Result<Bytes>, parties: usize) -> Self {
        let place = base.and_then(|base| match parties {
            1..=MOST => Ok(Place { base, parties }),
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

    /// The session it is used with.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl Place {
    fn key(&self, rest: &str) -> Bytes {
        [&self.base[..], rest.as_bytes()].concat().into()
    }

    fn ready(&self) -> Bytes {
        self.key("/ready")
    }

    fn prefix(&self) -> Bytes {
        self.key("/waiters/")
    }

    fn members(&self) -> KeyRange {
        KeyRange::prefix(self.prefix())
    }

    fn keys(&self) -> Keys {
        Keys { ready: self.ready(), members: self.prefix(), marks: self.key("/round/") }
    }

    /// The mark of a member of this library, who deletes it with its key.
    fn mark(&self, member: &Member) -> Option<Bytes> {
        let name = member.key.strip_prefix(&self.prefix()[..])?;
        let ours = format!("{}.", member.lease?);
        name.starts_with(ours.as_bytes())
            .then(|| [&self.base[..], b"/round/", name].concat().into())
    }

    /// The ready key, marks, and the keys of members: in this order.
    fn all(&self) -> KeyRange {
        let members = self.prefix();
        // It ends in a slash.
        let end = prefix_end(&members).unwrap_or(members);
        KeyRange::span(self.ready(), end)
    }

    /// Called so that resuming the session leaves it alone.
    fn member(&self, lease: LeaseId, nonce: u32) -> Member {
        let key = self.key(&format!("/waiters/{lease}.{nonce:x}"));
        Member { key, created: Revision::NONE, lease: Some(lease) }
    }

    fn with_last(&self) -> WithLast {
        WithLast { range: self.members(), key: self.ready() }
    }
}

fn late(timeout: Duration, missing: &str) -> Error {
    Error::new(crate::ErrorKind::Timeout, WHAT, format!("{missing} within {timeout:?}"))
}

impl fmt::Debug for DoubleBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref().ok();
        f.debug_struct("DoubleBarrier")
            .field("key", &place.map(|place| &place.base))
            .field("parties", &place.map(|place| place.parties))
            .finish_non_exhaustive()
    }
}
