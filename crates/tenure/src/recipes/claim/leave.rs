//! The transaction that deletes the keys of a claim.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tenure_core::{EtcdError, Revision};

use super::{Claim, Place, persist};
use crate::{
    error::{Error, LossReason, Result},
    ops::{Compare, Delete, Get, Op, OpResponse, Put, Txn, TxnResponse},
};

/// What became of something that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It was held until now, and is free.
    Released,
    /// It was no longer held.
    AlreadyLost(LossReason),
}

impl Claim {
    /// Gives a claim back that is held.
    pub(crate) async fn release(&self) -> Result<Release> {
        match self.loss() {
            None => self.leave().await,
            Some(reason) => {
                if self.is_left_over() {
                    self.leave().await?;
                }
                Ok(Release::AlreadyLost(reason))
            }
        }
    }

    /// Deletes the keys, however often that must be said, until the lease is gone.
    pub(super) async fn leave(&self) -> Result<Release> {
        self.leave_queues();
        let _last = self.stop_writing().await;
        let late = self.unanswered.load(Ordering::Acquire);
        if !late && self.created() == Revision::NONE {
            // Nothing was ever put.
            return Ok(self.left(true, true));
        }
        let repeated = AtomicBool::new(false);
        let answer = if late {
            self.leave_and_shut_out_copies(&repeated).await
        } else {
            self.persist_leaving(&self.deleting(), &repeated).await
        };
        match answer {
            Ok(answer) => {
                // With the keys an errand may have deleted others.
                let all = deleted(&answer) >= self.kept().count();
                let repeated = repeated.load(Ordering::Acquire);
                if !all && !repeated && self.created() > Revision::NONE && self.loss().is_none() {
                    // Somebody was faster; who, is asked once.
                    self.ask_why();
                    self.lost().await;
                }
                // An earlier copy deleted them, unless the lease did.
                let by_copy = repeated && self.life.loss(self.now()).is_none();
                Ok(self.left(all || by_copy, all && !late && !repeated))
            }
            Err(error) if error.etcd_error() == Some(EtcdError::LeaseNotFound) => {
                self.life.end(LossReason::Revoked);
                Ok(self.left(false, false))
            }
            Err(error) => match self.life.loss(self.now()) {
                Some(_) => Ok(self.left(false, false)),
                None => {
                    let key = &self.places[0].key;
                    tracing::warn!(?key, %error, "{} cannot be given back", self.what);
                    Err(error)
                }
            },
        }
    }

    /// The keys are not there any more, by our doing or by somebody else's. It is `clean` if no
    /// copy of any transaction about them can be under way.
    pub(super) fn left(&self, by_us: bool, clean: bool) -> Release {
        let first = !self.gone.swap(true, Ordering::AcqRel);
        if let Some(nonce) = self.nonce.filter(|_| first && clean) {
            self.life.free_nonce(nonce);
        }
        let lost = self.loss().unwrap_or(LossReason::KeyDeleted);
        if by_us {
            self.progress.released();
            tracing::debug!(key = ?self.places[0].key, "{} given back", self.what);
            Release::Released
        } else {
            self.progress.lost(lost);
            Release::AlreadyLost(lost)
        }
    }

    /// Deletes the key of one place, and holds on to the others.
    ///
    /// Cancel safe if the claim is released then: it deletes what is still there.
    pub(crate) async fn give_up_place(&self, number: usize) -> Result<()> {
        let Some(place) = self.places.get(number) else { return Ok(()) };
        let _turn = self.stop_writing().await;
        if let Some(reason) = self.loss() {
            return Err(Error::lost(self.what, reason));
        }
        place.leave_queue();
        let kept = self.kept().filter(|kept| kept.key != place.key);
        let own = kept.clone().map(|kept| Get::new(kept.key.clone()).keys_only());
        let ours =
            kept.map(|kept| Compare::create_revision(kept.key.clone()).equal(self.created()));
        let delete = Delete::new(place.key.clone());
        let txn = Txn::new().when(ours).and_then([delete]).or_else(own);
        let answer = self.persist_leaving(&txn, &AtomicBool::new(false)).await?;
        self.life.check_cluster(answer.header.cluster_id);
        if !answer.succeeded {
            self.ask_why();
            return Err(Error::lost(self.what, self.lost().await));
        }
        place.given_up.store(true, Ordering::Release);
        match self.loss() {
            Some(reason) => Err(Error::lost(self.what, reason)),
            None => Ok(()),
        }
    }

    pub(super) async fn persist_leaving(
        &self,
        txn: &Txn,
        repeated: &AtomicBool,
    ) -> Result<TxnResponse> {
        let mut last = false;
        let go_on = |_: &Error| {
            // After the loss one more time: the lease is as good as gone.
            let lost = self.life.loss(self.now()).is_some();
            !std::mem::replace(&mut last, lost)
        };
        persist(self.client(), txn, repeated, go_on).await
    }

    /// Deletes the keys and puts the guard key, so that a copy of the transaction that put them,
    /// which may still be under way, fails: it compares when the guard key was put.
    async fn leave_and_shut_out_copies(&self, repeated: &AtomicBool) -> Result<TxnResponse> {
        let _turn = self.life.guard_turn().await;
        loop {
            let guard = self.life.guard();
            let key = self.life.guard_key();
            let put = Put::new(key.clone(), self.life.token()).lease(self.life.lease);
            let txn = Txn::new()
                .when([Compare::mod_revision(key.clone()).equal(guard)])
                .and_then([Op::from(self.deleting()), Op::from(put)])
                .or_else([Get::new(key)]);
            let answer = self.persist_leaving(&txn, repeated).await?;
            if answer.succeeded {
                self.life.guard_is_at(answer.header.revision);
                return Ok(answer);
            }
            let seen = answer.header.revision;
            let found = answer.responses.into_iter().next().and_then(OpResponse::into_get);
            let found = found.ok_or_else(crate::ops::other_kind)?.into_kv();
            self.life.guard_was_found(found.as_ref(), seen);
            let moved = found.map_or(Revision::NONE, |kv| kv.mod_revision) != guard;
            match self.life.loss(self.now()) {
                Some(reason) => return Err(Error::lost(self.what, reason)),
                None if moved => {}
                None => return Err(crate::ops::other_kind()),
            }
        }
    }

    /// Deletes what is still ours, and nothing else.
    fn deleting(&self) -> Txn {
        let (created, modified) = (self.created(), self.modified());
        let delete = |key: &Bytes| Delete::new(key.clone());
        if created == Revision::NONE {
            // Whatever is there was put by a copy, all at once, since nobody else uses these names.
            let put = self.places[0].is_put();
            let all = self.kept().map(|place| Op::from(delete(&place.key)));
            let besides = self.errand.on_leaving(&self.places[0].key);
            return Txn::new().when([put]).and_then(all).and_then(besides);
        }
        let if_ours = |place: &Place| {
            let ours = [
                Compare::create_revision(place.key.clone()).equal(created),
                Compare::mod_revision(place.key.clone()).equal(modified),
            ];
            Txn::new().when(ours).and_then([delete(&place.key)])
        };
        match &self.kept().collect::<Vec<_>>()[..] {
            [place] => if_ours(place).and_then(self.errand.on_leaving(&place.key)),
            places => Txn::new().and_then(places.iter().map(|place| if_ours(place))),
        }
    }
}

/// How many keys a transaction deleted, nested ones included.
fn deleted(answer: &TxnResponse) -> usize {
    answer
        .responses
        .iter()
        .map(|response| match response {
            OpResponse::Delete(delete) => usize::try_from(delete.deleted).unwrap_or(0),
            OpResponse::Txn(txn) => deleted(txn),
            _ => 0,
        })
        .sum()
}
