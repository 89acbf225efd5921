//! Puts of a claim after the one that created it: a leader's proclamation, for one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use bytes::Bytes;
use tenure_core::Revision;
use tokio::sync::{Mutex, MutexGuard, oneshot};

use super::{Claim, enter::Found, persist};
use crate::{
    error::{Error, LossReason, Result},
    ops::{Compare, Get, KeepValue, Op, Put, Txn},
};

/// What is needed to tell puts of our own from those of others: the watch may tell of one before
/// its answer comes.
#[derive(Default)]
pub(super) struct Writing {
    /// One put after the other, and none after the last.
    turn: Mutex<()>,
    under_way: AtomicBool,
    /// The latest put that the watch told of.
    seen: AtomicI64,
    /// The keys may be deleted by us at this moment.
    leaving: AtomicBool,
    /// They were deleted at such a moment, by whomever.
    deleted: AtomicBool,
}

impl Writing {
    /// From now on a deletion is taken for ours, until what is returned is dropped.
    pub(super) fn leaving(&self) -> impl Drop + '_ {
        self.leaving.store(true, Ordering::SeqCst);
        Leaving(self)
    }

    /// The watch tells of a deletion: whether it may be ours.
    pub(super) fn is_deleted_by_us(&self) -> bool {
        let by_us = self.leaving.load(Ordering::SeqCst);
        self.deleted.fetch_or(by_us, Ordering::SeqCst);
        by_us
    }

    pub(super) fn was_deleted(&self) -> bool {
        self.deleted.load(Ordering::SeqCst)
    }
}

struct Leaving<'a>(&'a Writing);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leaving.store(false, Ordering::SeqCst);
    }
}

impl Claim {
    /// The key was put at this revision: whether by somebody else. If that is not known yet, a put
    /// of ours being under way, it will look.
    pub(super) fn is_not_ours(&self, revision: Revision) -> bool {
        self.writing.seen.fetch_max(revision.0, Ordering::SeqCst);
        !self.writing.under_way.load(Ordering::SeqCst) && revision > self.modified()
    }

    /// Whether a put of ours came after this one, or was about to.
    pub(super) async fn has_written_since(&self, modified: Revision) -> bool {
        drop(self.writing.turn.lock().await);
        self.modified() != modified
    }

    /// Waits for the last put of ours; there is none while this is kept.
    pub(super) async fn stop_writing(&self) -> MutexGuard<'_, ()> {
        self.writing.turn.lock().await
    }

    /// Puts the keys once more, with another value or with the same, if they are still ours.
    ///
    /// Cancel safe: it goes on in the background.
    pub(crate) async fn rewrite(self: &Arc<Self>, value: Option<Bytes>) -> Result<Revision> {
        let claim = Arc::clone(self);
        let (reply, answer) = oneshot::channel();
        self.client().spawn(async move {
            // Whoever is gone need not know.
            let _ = reply.send(claim.put_again(value).await);
        });
        answer.await.unwrap_or_else(|_| Err(self.client().gone(self.what)))
    }

    async fn put_again(&self, value: Option<Bytes>) -> Result<Revision> {
        let _turn = self.writing.turn.lock().await;
        if let Some(reason) = self.loss() {
            return Err(Error::lost(self.what, reason));
        }
        self.writing.under_way.store(true, Ordering::SeqCst);
        let put = self.put_until_answered(value).await;
        if let Ok(revision) = put {
            self.modified.store(revision.0, Ordering::SeqCst);
        }
        self.writing.under_way.store(false, Ordering::SeqCst);
        if self.writing.seen.load(Ordering::SeqCst) > self.modified().0 {
            self.lose(LossReason::TakenOver);
        }
        match put {
            // An answer that never came is of no use any more.
            Err(_) if self.loss().is_some() => Err(Error::lost(self.what, self.lost().await)),
            put => put,
        }
    }

    async fn put_until_answered(&self, value: Option<Bytes>) -> Result<Revision> {
        let before = self.modified();
        let repeated = AtomicBool::new(false);
        loop {
            let guard = self.life.guard();
            let txn = self.putting(value.as_ref(), before, guard);
            let lives = |_: &Error| self.life.is_held(self.now());
            let answer = persist(self.client(), &txn, &repeated, lives).await?;
            self.life.check_cluster(answer.header.cluster_id);
            if answer.succeeded {
                return Ok(answer.header.revision);
            }
            let seen = answer.header.revision;
            let found = Found::of(answer, self.kept().count())?;
            self.life.guard_was_found(found.guard.as_ref(), seen);
            self.check_life()?;
            let guard_now = found.guard.map_or(Revision::NONE, |kv| kv.mod_revision);
            match found.own.filter(|own| own.create_revision == self.created()) {
                // A withdrawal of the same session moved the guard.
                Some(own) if own.mod_revision == before && guard_now != guard => continue,
                Some(own) if own.mod_revision == before => return Err(crate::ops::other_kind()),
                // Whoever resumes the session writes the guard first: this is an earlier copy of
                // ours.
                Some(own) if repeated.load(Ordering::Acquire) => return Ok(own.mod_revision),
                Some(_) => self.lose(LossReason::TakenOver),
                None => self.ask_why(),
            }
            return Err(Error::lost(self.what, self.lost().await));
        }
    }

    /// Puts what is as it was `before`. The guard keeps out whatever is under way when another
    /// process resumes the session: it would hide the key from that one.
    fn putting(&self, value: Option<&Bytes>, before: Revision, guard: Revision) -> Txn {
        let puts = self.kept().map(|place| {
            let key = place.key.clone();
            let put = match value {
                Some(value) => Put::new(key, value.clone()),
                None => Put::new(key, KeepValue),
            };
            Op::from(put.keep_lease())
        });
        let own = self.kept().map(|place| Get::new(place.key.clone()).keys_only());
        let no_successor = Compare::mod_revision(self.life.guard_key()).equal(guard);
        let guard = Get::new(self.life.guard_key());
        let when = self.ownership(before).chain([no_successor]);
        Txn::new().when(when).and_then(puts).or_else(own.chain([guard]))
    }
}
