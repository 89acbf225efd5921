//! Writes that etcd refuses once a claim is lost.

use std::sync::Arc;

use futures::future::BoxFuture;
use tenure_core::Revision;

use super::Claim;
use crate::{
    client::{Client, Kv},
    error::{Error, LossReason, Result},
    ops::{CallOptions, CompactResponse, Get, Op, OpResponse, Txn, TxnResponse},
};

/// The key space, as the holder of a claim sees it: each write carries the compare that proves the
/// claim. Reads pass.
struct Fenced {
    claim: Arc<Claim>,
    below: Arc<dyn Kv>,
}

const WRITE: &str = "fenced write";

impl Claim {
    /// A client whose writes are applied only while this is held.
    pub(crate) fn fenced(self: &Arc<Self>) -> Client {
        let below = Arc::clone(self.client().seam());
        self.client().over(Arc::new(Fenced { claim: Arc::clone(self), below }))
    }

    async fn write(
        self: Arc<Self>,
        below: Arc<dyn Kv>,
        op: Op,
        options: CallOptions,
    ) -> Result<OpResponse> {
        op.check()?;
        if self.loss().is_some() {
            return Err(Error::lost(WRITE, self.lost().await));
        }
        let answer = loop {
            let (modified, kept) = (self.modified(), self.kept().count());
            let own = self.kept().map(|place| Get::new(place.key.clone()).keys_only());
            let txn = Txn::new().when(self.ownership(modified)).and_then([op.clone()]).or_else(own);
            let answer = below.execute(Op::from(txn), options.clone()).await?;
            let answer = answer.into_txn().ok_or_else(crate::ops::other_kind)?;
            self.life.check_cluster(answer.header.cluster_id);
            if answer.succeeded {
                break answer;
            }
            // A change of our own may have come in between; nothing was applied.
            if self.has_written_since(modified).await || self.kept().count() != kept {
                continue;
            }
            match self.why_refused(answer) {
                LossReason::KeyDeleted => self.ask_why(),
                reason => self.lose(reason),
            }
            return Err(Error::lost(WRITE, self.lost().await));
        };
        let header = answer.header;
        let first = answer.responses.into_iter().next();
        let mut response = first.ok_or_else(crate::ops::other_kind)?;
        match &mut response {
            OpResponse::Get(get) => get.header = header,
            OpResponse::Put(put) => put.header = header,
            OpResponse::Delete(delete) => delete.header = header,
            OpResponse::Txn(txn) => txn.header = header,
        }
        Ok(response)
    }

    fn why_refused(&self, answer: TxnResponse) -> LossReason {
        let mut own = answer.responses.into_iter().filter_map(OpResponse::into_get);
        let all_there = own
            .all(|get| get.kv().map_or(Revision::NONE, |kv| kv.create_revision) == self.created());
        if all_there { LossReason::TakenOver } else { LossReason::KeyDeleted }
    }
}

impl Kv for Fenced {
    fn execute(&self, op: Op, options: CallOptions) -> BoxFuture<'static, Result<OpResponse>> {
        let below = Arc::clone(&self.below);
        if op.is_read() {
            return below.execute(op, options);
        }
        Box::pin(Arc::clone(&self.claim).write(below, op, options))
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
        options: CallOptions,
    ) -> BoxFuture<'static, Result<CompactResponse>> {
        self.below.compact(revision, physical, options)
    }
}
