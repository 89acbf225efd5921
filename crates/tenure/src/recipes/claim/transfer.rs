//! Leaving in favour of whoever is next.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{Claim, Release};
use crate::{
    error::{Error, Result},
    ops::{Compare, Delete, Get, GetResponse, OpResponse, SortBy, Txn},
    recipes::Contender,
};

impl Claim {
    /// Leaves a queue, if this one is there at the same moment, and the next. False if it is not.
    pub(crate) async fn leave_to(self: &Arc<Self>, next: &Contender) -> Result<bool> {
        let place = &self.places[0];
        let behind = self.client().get(place.range()).first(SortBy::CreateRevision);
        let behind = behind.min_create_revision(self.created().next()).keys_only().limit(1).await?;
        let is_next = behind
            .kv()
            .is_some_and(|kv| (&kv.key, kv.create_revision) == (&next.key, next.create_revision));
        if !is_next {
            return Ok(false);
        }
        let _last = self.stop_writing().await;
        if let Some(reason) = self.loss() {
            return Err(Error::lost(self.what, reason));
        }
        // Whoever is next stays so: nobody who comes later is older.
        let there = Compare::create_revision(next.key.clone()).equal(next.create_revision);
        let modified = self.modified();
        let own = self.kept().map(|place| Get::new(place.key.clone()).keys_only());
        let delete = Delete::new(place.key.clone());
        let txn = Txn::new().when(self.ownership(modified).chain([there]));
        let txn = txn.and_then([delete]).or_else(own);
        let ours = self.writing.leaving();
        let repeated = AtomicBool::new(false);
        let answer = self.persist_leaving(&txn, &repeated).await?;
        let own = answer.responses.into_iter().next().and_then(OpResponse::into_get);
        let is_ours = own
            .and_then(GetResponse::into_kv)
            .is_some_and(|kv| (kv.create_revision, kv.mod_revision) == (self.created(), modified));
        if answer.succeeded || !is_ours {
            self.leave_queues();
            let by_us = answer.succeeded || repeated.load(Ordering::Acquire);
            return match self.left(by_us, false) {
                Release::Released => Ok(true),
                Release::AlreadyLost(reason) => Err(Error::lost(self.what, reason)),
            };
        }
        drop(ours);
        if self.writing.was_deleted() {
            self.ask_why();
        }
        Ok(false)
    }
}
