//! Writes that etcd refuses once the key is lost.

use std::sync::Arc;

use futures::future::BoxFuture;
use tenure_core::Revision;

use super::{OwnKey, Seen};
use crate::{
    client::{Client, Kv},
    error::{Error, Result},
    ops::{CallOptions, CompactResponse, Get, Op, OpResponse, Txn},
};

/// The key space, as the holder sees it: each write carries the compare that proves the hold.
struct Fenced {
    own: Arc<OwnKey>,
    below: Arc<dyn Kv>,
}

const WRITE: &str = "fenced write";

impl OwnKey {
    /// A client whose writes are applied only while this is held.
    pub(super) fn fenced(self: &Arc<Self>) -> Client {
        let below = Arc::clone(self.client().seam());
        self.client().over(Arc::new(Fenced { own: Arc::clone(self), below }))
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
        let own = Get::new(self.key()).keys_only();
        let txn = Txn::new().when(self.ownership()).and_then([op]).or_else([own]);
        let answer = below.execute(Op::from(txn), options).await?;
        let answer = answer.into_txn().ok_or_else(crate::ops::other_kind)?;
        self.life.check_cluster(answer.header.cluster_id);
        let (header, succeeded) = (answer.header, answer.succeeded);
        let mut response =
            answer.responses.into_iter().next().ok_or_else(crate::ops::other_kind)?;
        if !succeeded {
            let kvs = response.into_get().ok_or_else(crate::ops::other_kind)?.kvs;
            self.handle(&Seen::All { revision: header.revision, kvs });
            return Err(Error::lost(WRITE, self.lost().await));
        }
        match &mut response {
            OpResponse::Get(get) => get.header = header,
            OpResponse::Put(put) => put.header = header,
            OpResponse::Delete(delete) => delete.header = header,
            OpResponse::Txn(txn) => txn.header = header,
        }
        Ok(response)
    }
}

impl Kv for Fenced {
    fn execute(&self, op: Op, options: CallOptions) -> BoxFuture<'static, Result<OpResponse>> {
        let below = Arc::clone(&self.below);
        if op.is_read() {
            return below.execute(op, options);
        }
        Box::pin(Arc::clone(&self.own).write(below, op, options))
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
