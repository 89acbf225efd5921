//! The transaction that deletes the keys of a claim.

use std::sync::atomic::{AtomicBool, Ordering};

use tenure_core::{EtcdError, Revision};

use super::{Claim, WHAT, persist::persist};
use crate::{
    error::{Error, LossReason, Result},
    ops::{Compare, Delete, Op, OpResponse, Put, Txn, TxnResponse},
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
    pub(super) async fn release(&self) -> Result<Release> {
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
        for place in &self.places {
            place.queue.leave(place.key.clone());
        }
        let late = self.unanswered.load(Ordering::Acquire);
        if !late && self.created() == Revision::NONE {
            // Nothing was ever put.
            self.progress.released();
            return Ok(Release::Released);
        }
        let repeated = AtomicBool::new(false);
        let answer = self.leave_for_sure(late, &repeated).await;
        match answer {
            Ok(answer) => {
                let revision = answer.header.revision;
                let all = deleted(&answer) == self.places.len();
                if late {
                    self.life.guard_is_at(revision);
                }
                for place in &self.places {
                    place.queue.left(place.key.clone(), revision);
                }
                tracing::debug!(key = ?self.places[0].key, "{WHAT} released");
                if all || repeated.load(Ordering::Acquire) {
                    self.progress.released();
                    Ok(Release::Released)
                } else {
                    self.progress.lost(LossReason::KeyDeleted);
                    Ok(Release::AlreadyLost(LossReason::KeyDeleted))
                }
            }
            Err(error) if error.etcd_error() == Some(EtcdError::LeaseNotFound) => {
                self.life.end(LossReason::Revoked);
                let reason = self.loss().unwrap_or(LossReason::Revoked);
                self.progress.lost(reason);
                Ok(Release::AlreadyLost(reason))
            }
            Err(error) => {
                tracing::warn!(key = ?self.places[0].key, %error, "{WHAT} is left to its lease");
                Err(error)
            }
        }
    }

    /// `repeated` tells whether an earlier copy may have done it.
    async fn leave_for_sure(&self, late: bool, repeated: &AtomicBool) -> Result<TxnResponse> {
        let mut last = false;
        let go_on = |_: &Error| {
            // After the loss one more time: the lease is as good as gone.
            let lost = self.life.loss(self.now()).is_some();
            !std::mem::replace(&mut last, lost)
        };
        persist(self.client(), &self.leaving(late), repeated, go_on).await
    }

    /// Deletes what is still ours, and nothing else. If a copy of the transaction that put the
    /// keys may be under way, the guard key is put, too: the copy compares its revision and fails.
    fn leaving(&self, late: bool) -> Txn {
        let (created, modified) = (self.created(), self.modified());
        let unknown = created == Revision::NONE;
        let ours = |key: &bytes::Bytes| {
            [
                Compare::create_revision(key.clone()).equal(created),
                Compare::mod_revision(key.clone()).equal(modified),
            ]
        };
        if let [place] = &self.places[..]
            && !late
            && !unknown
        {
            return Txn::new().when(ours(&place.key)).and_then([Delete::new(place.key.clone())]);
        }
        let mut ops: Vec<Op> = Vec::new();
        for place in &self.places {
            let delete = Delete::new(place.key.clone());
            ops.push(if unknown {
                delete.into()
            } else {
                Txn::new().when(ours(&place.key)).and_then([delete]).into()
            });
        }
        if late {
            ops.push(Put::new(self.life.guard_key(), "").lease(self.life.lease).into());
        }
        Txn::new().and_then(ops)
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
