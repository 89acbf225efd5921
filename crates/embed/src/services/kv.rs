use tenure::wire::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, RequestOp, TxnRequest,
    TxnResponse, kv_server::Kv, request_op::Request as OpRequest,
};
use tonic::{Request, Status};

use super::{Answer, Answers, Services};
use crate::{
    node::Needs,
    store::{check, writes},
};

#[tonic::async_trait]
impl Kv for Services {
    async fn range(&self, request: Request<RangeRequest>) -> Answer<RangeResponse> {
        check::range(request.get_ref())?;
        let needs = reading(request.get_ref().serializable);
        self.serve(request, needs, |state, token, request, now| state.range(token, &request, now))
            .await
    }

    type RangeStreamStream = Answers<RangeStreamResponse>;

    async fn range_stream(&self, _: Request<RangeRequest>) -> Answer<Self::RangeStreamStream> {
        Err(Status::unimplemented("unknown method RangeStream for service etcdserverpb.KV"))
    }

    async fn put(&self, request: Request<PutRequest>) -> Answer<PutResponse> {
        check::put(request.get_ref())?;
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            state.put(token, request, now)
        })
        .await
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Answer<DeleteRangeResponse> {
        check::delete_range(request.get_ref())?;
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            state.delete_range(token, &request, now)
        })
        .await
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Answer<TxnResponse> {
        let txn = request.get_ref();
        check::txn(txn, self.0.settings().max_txn_ops)?;
        let serializable =
            !writes(txn) && txn.success.iter().chain(&txn.failure).all(is_serializable);
        self.serve(request, reading(serializable), |state, token, request, now| {
            state.txn(token, request, now)
        })
        .await
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Answer<CompactionResponse> {
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            state.compact(token, &request, now)
        })
        .await
    }
}

fn reading(serializable: bool) -> Needs {
    if serializable { Needs::Nothing } else { Needs::Quorum }
}

/// A txn of nothing but such reads is one itself.
fn is_serializable(op: &RequestOp) -> bool {
    matches!(&op.request, Some(OpRequest::RequestRange(range)) if range.serializable)
}
