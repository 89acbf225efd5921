//! What a member sees of the others, and what is its part to do.

use std::{
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
};

use futures::future::{self, Either};
use tenure_core::{
    Revision,
    rendezvous::{Member, Rendezvous, Standing},
};
use tokio::sync::watch as latest;

use super::{Place, WHAT};
use crate::{
    error::{Error, ErrorKind, Result},
    ops::{Compare, Get, Put, Txn},
    recipes::{
        claim::persist,
        follow::{Follow, Seen},
        own_key::OwnKey,
    },
};

/// A member's view of its double barrier.
pub(super) struct Room {
    own: Arc<OwnKey>,
    place: Place,
    follow: Follow,
    seen: Rendezvous,
}

/// What a member wants to know of those it was with.
#[derive(Clone)]
pub(super) enum Others {
    /// So many are still there.
    There(usize),
    /// They cannot be followed any more.
    Unknown(Error),
}

impl Room {
    /// Puts the member's key, and waits until the round begins.
    pub(super) async fn enter(own: &Arc<OwnKey>, place: Place) -> Result<Self> {
        // It stands before it is needed, so that the last event before the round comes at once.
        let follow = Follow::standing(own.client(), place.all()).await?;
        let look = [Get::new(place.all())];
        // Nobody else uses this name.
        let listing = own.put(&look).await?.ok_or_else(crate::ops::other_kind)?;
        let seen = Rendezvous::new(place.keys(), place.parties, own.key().clone(), own.created());
        let mut room = Self { own: Arc::clone(own), place, follow, seen };
        room.handle(listing);
        room.wait().await?;
        Ok(room)
    }

    async fn wait(&mut self) -> Result<()> {
        loop {
            match self.seen.standing() {
                Standing::Inside => return Ok(()),
                Standing::Waiting { missing } => {
                    self.own.progress().ahead(missing);
                    let seen = self.follow.next().await?;
                    self.handle(seen);
                }
                Standing::Complete(members) => self.announce(members).await?,
                Standing::Full => {
                    let rule = format!("{} are there already", self.place.parties);
                    return Err(Error::new(ErrorKind::Full, WHAT, rule));
                }
                Standing::Gone => return Err(Error::lost(WHAT, self.own.lost().await)),
            }
        }
    }

    /// Begins the round if all are still there, and looks how things are otherwise.
    async fn announce(&mut self, members: Vec<Member>) -> Result<()> {
        let round = members.last().map_or(Revision::NONE, |last| last.created).to_string();
        let ready = Put::new(self.place.ready(), round.clone()).lease(self.own.life().lease);
        let marks = members.iter().filter_map(|member| {
            Some(Put::new(self.place.mark(member)?, round.clone()).lease(member.lease?))
        });
        // Another copy does nothing: the ready key is not as it was any more.
        let known = Compare::mod_revision(self.place.ready()).equal(self.seen.ready());
        let there = members
            .iter()
            .map(|member| Compare::create_revision(member.key.clone()).equal(member.created));
        let txn = Txn::new()
            .when(there.chain([known]))
            .and_then(marks.chain([ready]))
            .and_then([Get::new(self.place.all())])
            .or_else([Get::new(self.place.all())]);
        let unanswered = AtomicBool::new(false);
        let answer = persist(self.own.client(), &txn, &unanswered, |_| true).await?;
        let revision = answer.header.revision;
        let last = answer.responses.into_iter().last().and_then(|last| last.into_get());
        let kvs = last.ok_or_else(crate::ops::other_kind)?.kvs;
        self.handle(Seen::All { revision, kvs });
        Ok(())
    }

    /// The round that has begun.
    pub(super) fn round(&self) -> Revision {
        self.seen.round().unwrap_or(Revision::NONE)
    }

    fn handle(&mut self, seen: Seen) {
        self.own.handle(&seen);
        match &seen {
            Seen::All { revision, kvs } => self.seen.handle_listing(*revision, kvs),
            Seen::Changes(events) => self.seen.handle_events(events),
        }
    }

    /// Follows the others for as long as anybody wants to know of them.
    pub(super) async fn keep(mut self, tell: latest::Sender<Others>) {
        loop {
            tell.send_replace(Others::There(self.seen.others()));
            let kept = async {
                let seen = self.follow.next().await?;
                self.handle(seen);
                Ok(())
            };
            let kept = match future::select(pin!(kept), pin!(tell.closed())).await {
                Either::Left((kept, _)) => kept,
                Either::Right(_) => return,
            };
            if let Err(error) = kept {
                tracing::warn!(key = ?self.own.key(), %error, "a double barrier cannot be followed");
                tell.send_replace(Others::Unknown(error));
                return tell.closed().await;
            }
        }
    }
}
