//! What a member sees of the others, and what is its part to do.

use std::{
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
};

use futures::future::{self, Either};
use tenure_core::{
    KeyRange, KeyValue, Revision,
    rendezvous::{Member, Rendezvous, Standing},
};
use tokio::sync::watch as latest;

use super::{Place, WHAT};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::{Compare, Get, Put, Txn},
    recipes::{
        claim::{Claim, persist},
        follow::{Follow, Seen},
    },
};

/// What there is in a double barrier, and what becomes of it.
pub(super) struct View {
    follow: Follow,
    revision: Revision,
    kvs: Vec<KeyValue>,
}

impl View {
    /// Begins to follow it. From here to the member's own key nothing goes unseen, and the watch
    /// stands before it is needed, so that the last event before the round comes at once.
    pub(super) async fn open(client: &Client, all: KeyRange) -> Result<Self> {
        let mut follow = Follow::standing(client, all).await?;
        let (revision, kvs) = follow.read().await?;
        Ok(Self { follow, revision, kvs })
    }
}

/// A member's view of its double barrier.
pub(super) struct Room {
    claim: Arc<Claim>,
    place: Place,
    follow: Follow,
    seen: Rendezvous,
}

/// What a member wants to know of those it is with.
#[derive(Clone)]
pub(super) struct Company {
    /// Which round they are in.
    pub(super) round: Revision,
    /// How many others are still there; or why they cannot be followed any more.
    pub(super) others: Result<usize>,
}

impl Company {
    pub(super) fn unknown() -> Self {
        Self { round: Revision::NONE, others: Ok(usize::MAX) }
    }
}

impl Room {
    /// Waits until the round begins, the member's key being there.
    pub(super) async fn enter(claim: &Arc<Claim>, place: Place, view: View) -> Result<Self> {
        let View { follow, revision, kvs } = view;
        let key = claim.fence().key;
        let mut seen = Rendezvous::new(place.keys(), place.parties, key, claim.created());
        seen.handle_listing(revision, &kvs);
        let mut room = Self { claim: Arc::clone(claim), place, follow, seen };
        match future::select(pin!(room.wait()), pin!(claim.lost())).await {
            Either::Left((entered, _)) => entered?,
            Either::Right((reason, _)) => return Err(Error::lost(WHAT, reason)),
        }
        Ok(room)
    }

    async fn wait(&mut self) -> Result<()> {
        loop {
            match self.seen.standing() {
                Standing::Inside => return Ok(()),
                Standing::Waiting { missing } => {
                    self.claim.progress().ahead(missing);
                    let seen = self.follow.next().await?;
                    self.handle(seen);
                }
                Standing::Complete(members) => self.announce(members).await?,
                Standing::Full => {
                    let rule = format!("{} are there already", self.place.parties);
                    return Err(Error::new(ErrorKind::Full, WHAT, rule));
                }
                Standing::Gone => return Err(Error::lost(WHAT, self.claim.lost().await)),
            }
        }
    }

    /// Begins the round if all are still there, and looks how things are otherwise.
    async fn announce(&mut self, members: Vec<Member>) -> Result<()> {
        let round = members.last().map_or(Revision::NONE, |last| last.created).to_string();
        let lease = self.claim.life().lease;
        let ready = Put::new(self.place.ready(), round.clone()).lease(lease);
        let marks = members.iter().filter_map(|member| {
            let mark = self.place.mark(&member.key, member.lease?)?;
            Some(Put::new(mark, round.clone()).lease(member.lease?))
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
        let answer = persist(self.claim.client(), &txn, &unanswered, |_| true).await?;
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
        self.claim.handle(&seen);
        match &seen {
            Seen::All { revision, kvs } => self.seen.handle_listing(*revision, kvs),
            Seen::Changes(events) => self.seen.handle_events(events),
        }
    }

    /// Follows the others for as long as anybody wants to know of them.
    pub(super) async fn keep(mut self, tell: latest::Sender<Company>) {
        loop {
            tell.send_replace(Company { round: self.round(), others: Ok(self.seen.others()) });
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
                tracing::warn!(fence = %self.claim.fence(), %error, "a double barrier cannot be followed");
                tell.send_replace(Company { round: self.round(), others: Err(error) });
                return tell.closed().await;
            }
        }
    }
}
