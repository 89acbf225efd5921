//! The transaction that deletes the key.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use tenure_core::{EtcdError, KeyRange, RangeEnd, Revision};

use super::{OwnKey, WithLast};
use crate::{
    error::{Error, LossReason, Result},
    ops::{Compare, Delete, Get, Op, OpResponse, Put, Txn, TxnResponse},
    recipes::claim::{Release, persist},
};

impl OwnKey {
    /// Gives back what is held.
    pub(in crate::recipes) async fn release(&self) -> Result<Release> {
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

    /// Deletes the key, however often that must be said, until the lease is gone.
    pub(super) async fn leave(&self) -> Result<Release> {
        self.leaving.store(true, Ordering::Release);
        let late = self.unanswered.load(Ordering::Acquire);
        if !late && self.created() == Revision::NONE {
            // It was never put.
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
                let deleted = deleted(&answer);
                let repeated = repeated.load(Ordering::Acquire);
                let by_us = deleted || repeated || late && self.created() == Revision::NONE;
                if !by_us && self.loss().is_none() {
                    // Somebody was faster; who, is asked once.
                    self.ask_why();
                    self.lost().await;
                }
                Ok(self.left(by_us, deleted && !late && !repeated))
            }
            Err(error) if error.etcd_error() == Some(EtcdError::LeaseNotFound) => {
                self.life.end(LossReason::Revoked);
                Ok(self.left(false, false))
            }
            Err(error) => match self.life.loss(self.now()) {
                Some(_) => Ok(self.left(false, false)),
                None => {
                    let (what, key) = (self.what(), self.key());
                    tracing::warn!(?key, %error, "{what} cannot be given back");
                    Err(error)
                }
            },
        }
    }

    /// The key is not there any more, by our doing or by somebody else's. It is `clean` if no copy
    /// of any transaction about it can be under way.
    fn left(&self, by_us: bool, clean: bool) -> Release {
        let first = !self.gone.swap(true, Ordering::AcqRel);
        if let Some(nonce) = self.spec.nonce.filter(|_| first && clean) {
            self.life.free_nonce(nonce);
        }
        let lost = self.loss().unwrap_or(LossReason::KeyDeleted);
        if by_us {
            self.progress.released();
            tracing::debug!(key = ?self.key(), "{} given back", self.what());
            Release::Released
        } else {
            self.progress.lost(lost);
            Release::AlreadyLost(lost)
        }
    }

    async fn persist_leaving(&self, txn: &Txn, repeated: &AtomicBool) -> Result<TxnResponse> {
        let mut last = false;
        let go_on = |_: &Error| {
            // After the loss one more time: the lease is as good as gone.
            let lost = self.life.loss(self.now()).is_some();
            !std::mem::replace(&mut last, lost)
        };
        persist(self.client(), txn, repeated, go_on).await
    }

    /// Deletes the key and puts the guard key, so that a copy of the transaction that put it, which
    /// may still be under way, fails: it compares when the guard key was put.
    async fn leave_and_shut_out_copies(&self, repeated: &AtomicBool) -> Result<TxnResponse> {
        loop {
            let (guard, key) = (self.life.guard(), self.life.guard_key());
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
            let found = answer.responses.into_iter().next().and_then(OpResponse::into_get);
            let found = found.ok_or_else(crate::ops::other_kind)?.into_kv();
            self.life.guard_was_found(found.as_ref());
            self.check_life()?;
            if found.map_or(Revision::NONE, |kv| kv.mod_revision) == guard {
                return Err(crate::ops::other_kind());
            }
        }
    }

    /// Deletes the key if it is still ours, and what goes with it or with the last.
    fn deleting(&self) -> Txn {
        let key = self.key();
        let ours = match self.created() {
            Revision::NONE => vec![Compare::value(key).equal(&self.value)],
            _ => self.ownership().to_vec(),
        };
        let alone = Txn::new()
            .when(ours.clone())
            .and_then([key].into_iter().chain(&self.spec.with_it).map(Delete::new));
        let Some(WithLast { range, key: other }) = &self.spec.with_last else { return alone };
        Txn::new()
            .when(ours)
            .when(nobody_but(key, range))
            .and_then(alone.and_then.iter().cloned())
            .and_then([Delete::new(other)])
            .or_else([alone])
    }
}

/// No key but this one is in the range.
fn nobody_but(key: &Bytes, range: &KeyRange) -> [Compare; 2] {
    let mut next = BytesMut::from(&key[..]);
    next.put_u8(0);
    let above = match range.end() {
        RangeEnd::Before(end) => KeyRange::span(next.freeze(), end),
        RangeEnd::Open | RangeEnd::SingleKey => KeyRange::starting_at(next.freeze()),
    };
    [KeyRange::span(range.start(), key), above].map(Compare::missing)
}

/// Whether a transaction, or one nested in it, deleted a key.
fn deleted(answer: &TxnResponse) -> bool {
    answer.responses.iter().any(|response| match response {
        OpResponse::Delete(delete) => delete.deleted > 0,
        OpResponse::Txn(txn) => deleted(txn),
        _ => false,
    })
}
