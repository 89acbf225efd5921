//! The transaction that puts the key.

use std::sync::atomic::Ordering;

use tenure_core::Revision;

use super::{OwnKey, Seen};
use crate::{
    error::{Error, LossReason, Result},
    ops::{Compare, Get, GetResponse, Op, OpResponse, Put, Txn, TxnResponse},
    recipes::claim::persist,
};

impl OwnKey {
    /// Puts the key if it is not there; `None` if somebody else has put it. Tells what is in `look`
    /// at that revision, the key itself included.
    pub(in crate::recipes) async fn put(&self, look: &[Get]) -> Result<Option<Seen>> {
        loop {
            let guard = self.life.guard();
            let txn = self.putting(look, guard);
            let answer = persist(self.client(), &txn, &self.unanswered, |_| true).await?;
            self.life.check_cluster(answer.header.cluster_id);
            self.check_life()?;
            let revision = answer.header.revision;
            let (put, mut gets) = (answer.succeeded, gets(answer)?);
            if put {
                self.created.store(revision.0, Ordering::Release);
                return Ok(Some(all(revision, gets)));
            }
            if gets.len() != look.len() + 2 {
                return Err(crate::ops::other_kind());
            }
            let own = gets.remove(0).into_kv();
            let found = gets.remove(0).into_kv();
            self.life.guard_was_found(found.as_ref());
            self.check_life()?;
            match own {
                // An earlier copy put it.
                Some(kv) if kv.value == self.value => {
                    if kv.mod_revision != kv.create_revision {
                        return Err(Error::lost(self.what(), LossReason::TakenOver));
                    }
                    self.created.store(kv.create_revision.0, Ordering::Release);
                    return Ok(Some(all(revision, gets)));
                }
                Some(_) => return Ok(None),
                None if found.map_or(Revision::NONE, |kv| kv.mod_revision) == guard => {
                    return Err(crate::ops::other_kind());
                }
                None => {}
            }
        }
    }

    fn putting(&self, look: &[Get], guard: Revision) -> Txn {
        let (key, life) = (self.key(), &self.life);
        let put = Put::new(key, &self.value).lease(life.lease);
        let look = look.iter().cloned().map(Op::from);
        let no_late_copy = Compare::mod_revision(life.guard_key()).equal(guard);
        let why = [Get::new(key), Get::new(life.guard_key())].map(Op::from);
        Txn::new()
            .when([Compare::missing(key), no_late_copy])
            .and_then([Op::from(put)].into_iter().chain(look.clone()))
            .or_else(why.into_iter().chain(look))
    }

    pub(super) fn check_life(&self) -> Result<()> {
        match self.life.loss(self.now()) {
            Some(reason) => Err(Error::lost(self.what(), reason)),
            None => Ok(()),
        }
    }
}

fn gets(answer: TxnResponse) -> Result<Vec<GetResponse>> {
    let puts = usize::from(answer.succeeded);
    let gets = answer.responses.into_iter().skip(puts).map(OpResponse::into_get);
    gets.collect::<Option<_>>().ok_or_else(crate::ops::other_kind)
}

fn all(revision: Revision, gets: Vec<GetResponse>) -> Seen {
    Seen::All { revision, kvs: gets.into_iter().flat_map(|get| get.kvs).collect() }
}
