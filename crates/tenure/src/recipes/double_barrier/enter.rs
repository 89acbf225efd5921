//! From asking to being in, and back if nobody wants it any more.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::{oneshot, watch as latest};

use super::{
    Membership, Place, WHAT,
    room::{Company, Room, View},
};
use crate::{
    error::Result,
    ops::{Compare, Delete, Txn},
    recipes::{
        claim::{Acquire, Acquiring, ClaimState, Errand, Held, Naming, Request},
        holder,
    },
    session::Session,
};

/// Enters a [`DoubleBarrier`](super::DoubleBarrier). Begins when it is awaited.
#[must_use = "nobody enters until it is awaited"]
pub struct Enter {
    held: Acquire<Held>,
    others: latest::Receiver<Company>,
}

impl Enter {
    pub(super) fn new(session: &Session, place: Result<Place>) -> Self {
        let (tell, others) = latest::channel(Company::unknown());
        let request = place.map(|place| request(session, place, tell));
        // It is waited for, and not only tried.
        let there = |held: Option<Held>| held.ok_or_else(crate::ops::other_kind);
        Self { held: Acquire::new(request, there), others }
    }

    /// How long to wait for the others at most. By default until all are there, or the session is
    /// lost.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.held = self.held.timeout(timeout);
        self
    }
}

fn request(session: &Session, place: Place, tell: latest::Sender<Company>) -> Request {
    let value: Bytes = holder::mark(session).into();
    // The last to leave takes the ready key along.
    let is_last = Compare::value(place.members()).equal(value.clone());
    let take_ready = Txn::new().when([is_last]).and_then([Delete::new(place.ready())]);
    let home = place.clone();
    let errand = Errand::along_with(move |key| {
        let name = key.strip_prefix(&home.home()[..]).unwrap_or_default();
        vec![Delete::new(home.mark_called(name)).into(), take_ready.clone().into()]
    });
    let (client, all) = (session.client().clone(), place.all());
    let (saw, seen) = oneshot::channel();
    Request::alone(WHAT, session, place.home(), Naming::PutOnce, value)
        .errand(errand)
        .first(|| async move {
            // Only whoever is given up does not take it.
            let _ = saw.send(View::open(&client, all).await?);
            Ok(())
        })
        .then(|claim| async move {
            let view = seen.await.map_err(|_| claim.client().gone(WHAT))?;
            let room = Room::enter(&claim, place, view).await?;
            tell.send_modify(|company| company.round = room.round());
            claim.client().spawn(room.keep(tell));
            Ok(())
        })
}

impl IntoFuture for Enter {
    type Output = Result<Membership>;
    type IntoFuture = Entering;

    fn into_future(self) -> Entering {
        Entering { held: self.held.into_future(), others: self.others }
    }
}

impl fmt::Debug for Enter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enter").finish_non_exhaustive()
    }
}

/// A member on its way in.
///
/// # Dropping
///
/// Gives up: its key is withdrawn in the background, also if it got in at this very moment.
#[must_use = "what is dropped is given up"]
pub struct Entering {
    held: Acquiring<Held>,
    others: latest::Receiver<Company>,
}

impl Entering {
    /// How it stands from now on, until it has left or is lost: also after it got in. While it
    /// waits, `ahead` is how many are still to come. The stream is empty where nothing could be
    /// asked for.
    pub fn states(&self) -> impl Stream<Item = ClaimState> + Send + Unpin + 'static {
        self.held.states()
    }
}

impl Future for Entering {
    type Output = Result<Membership>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let held = Pin::new(&mut self.held).poll(cx);
        held.map_ok(|held| Membership::new(held, self.others.clone()))
    }
}

impl fmt::Debug for Entering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entering").finish_non_exhaustive()
    }
}
