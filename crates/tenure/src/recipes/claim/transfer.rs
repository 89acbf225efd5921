//! Leaving in favour of whoever is next.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tenure_core::Revision;

use super::{Claim, Release};
use crate::{
    error::{Error, LossReason, Result},
    ops::{Compare, Delete, Get, GetResponse, OpResponse, SortBy, Txn, TxnResponse},
    recipes::Contender,
};

impl Claim {
    /// Leaves a queue, if this one is there at the same moment, and the next. False if it is not.
    /// After an error it may be held all the same.
    pub(crate) async fn leave_to(self: &Arc<Self>, next: &Contender) -> Result<bool> {
        let place = &self.places[0];
        let behind = self.client().get(place.range()).first(SortBy::CreateRevision);
        let behind = behind.min_create_revision(self.created().next()).keys_only().limit(1).await?;
        let is_next = behind
            .kv()
            .is_some_and(|kv| (&kv.key, kv.create_revision) == (&next.key, next.create_revision));
        let _last = self.stop_writing().await;
        match self.loss() {
            Some(reason) => return Err(Error::lost(self.what, reason)),
            None if !is_next => return Ok(false),
            None => {}
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
        let answer = self.persist_leaving(&txn, &repeated).await;
        let left = answer.and_then(|answer| self.has_left(answer, modified, &repeated));
        drop(ours);
        if !matches!(left, Ok(true)) && self.writing.was_deleted() {
            self.ask_why();
        }
        left
    }

    fn has_left(
        &self,
        answer: TxnResponse,
        modified: Revision,
        repeated: &AtomicBool,
    ) -> Result<bool> {
        self.life.check_cluster(answer.header.cluster_id);
        let succeeded = answer.succeeded;
        let own = answer.responses.into_iter().next().and_then(OpResponse::into_get);
        let own = own.and_then(GetResponse::into_kv);
        match own.filter(|own| own.create_revision == self.created()) {
            Some(own) if own.mod_revision == modified => return Ok(false),
            Some(_) => self.lose(LossReason::TakenOver),
            None => {}
        }
        self.leave_queues();
        // Of what was said more than once, an earlier copy may have done it.
        let by_us = succeeded || repeated.load(Ordering::Acquire);
        match self.left(by_us && self.loss().is_none(), false) {
            Release::Released => Ok(true),
            Release::AlreadyLost(reason) => Err(Error::lost(self.what, reason)),
        }
    }
}
