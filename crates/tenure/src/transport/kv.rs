//! Operations on the key space, to the wire and back.

use tenure_core::{Event, EventKind, KeyValue, LeaseId, Revision};

use super::{
    Transport,
    rpc::{COMPACT, DELETE_RANGE, PUT, RANGE, READ_TXN, TXN},
};
use crate::{
    error::Result,
    ops::{
        CallOptions, CompactResponse, Compare, Count, Delete, DeleteResponse, Get, GetResponse,
        Header, Op, OpResponse, Operand, Order, Put, PutLease, PutResponse, Relation, SortBy, Txn,
        TxnResponse, other_kind,
    },
    wire::{
        etcdserverpb::{
            self as pb, compare::TargetUnion, request_op::Request, response_op::Response,
        },
        mvccpb,
    },
};

impl Transport {
    pub(crate) async fn execute(self, op: Op, options: CallOptions) -> Result<OpResponse> {
        op.check()?;
        let is_read = op.is_read();
        match op {
            Op::Get(get) => {
                self.call(&RANGE, get.into(), &options).await.map(|a| OpResponse::Get(a.into()))
            }
            Op::Count(count) => {
                self.call(&RANGE, count.into(), &options).await.map(|a| OpResponse::Get(a.into()))
            }
            Op::Put(put) => {
                self.call(&PUT, put.into(), &options).await.map(|a| OpResponse::Put(a.into()))
            }
            Op::Delete(delete) => self
                .call(&DELETE_RANGE, delete.into(), &options)
                .await
                .map(|a| OpResponse::Delete(a.into())),
            Op::Txn(txn) => {
                let rpc = if is_read { &READ_TXN } else { &TXN };
                let answer = self.call(rpc, txn.into(), &options).await?;
                let answer = txn_response(answer).map(OpResponse::Txn);
                // What it says cannot be told; what it did may be done.
                answer.map_err(|error| if is_read { error } else { error.unsure() })
            }
        }
    }

    pub(crate) async fn compact(
        self,
        revision: Revision,
        physical: bool,
        options: CallOptions,
    ) -> Result<CompactResponse> {
        let request = pb::CompactionRequest { revision: revision.0, physical };
        let answer = self.call(&COMPACT, request, &options).await?;
        Ok(CompactResponse { header: header(answer.header) })
    }
}

pub(super) fn header(header: Option<pb::ResponseHeader>) -> Header {
    let header = header.unwrap_or_default();
    Header {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: Revision(header.revision),
        raft_term: header.raft_term,
    }
}

pub(super) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: Revision(kv.create_revision),
        mod_revision: Revision(kv.mod_revision),
        version: kv.version,
        lease: LeaseId::new(kv.lease),
    }
}

/// An event; a kind nobody knows counts as a put, which is what a new kind would have been before.
pub(super) fn event(event: mvccpb::Event) -> Event {
    let kind = match event.r#type() {
        mvccpb::event::EventType::Delete => EventKind::Delete,
        mvccpb::event::EventType::Put => EventKind::Put,
    };
    Event {
        kind,
        kv: key_value(event.kv.unwrap_or_default()),
        prev_kv: event.prev_kv.map(key_value),
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl From<Get> for pb::RangeRequest {
    fn from(get: Get) -> Self {
        use pb::range_request::{SortOrder, SortTarget};
        let (key, range_end) = get.range.to_wire();
        let (sort_target, sort_order) = match get.sort {
            // The order of the index itself, which the server need not sort for.
            None | Some((SortBy::Key, Order::Ascending)) => (SortTarget::Key, SortOrder::None),
            Some((by, order)) => (
                match by {
                    SortBy::Key => SortTarget::Key,
                    SortBy::Version => SortTarget::Version,
                    SortBy::CreateRevision => SortTarget::Create,
                    SortBy::ModRevision => SortTarget::Mod,
                    SortBy::Value => SortTarget::Value,
                },
                match order {
                    Order::Ascending => SortOrder::Ascend,
                    Order::Descending => SortOrder::Descend,
                },
            ),
        };
        Self {
            key,
            range_end,
            limit: get.limit.into(),
            revision: get.revision.0,
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable: get.serializable,
            keys_only: get.keys_only,
            count_only: false,
            min_mod_revision: get.mod_revision.0.0,
            max_mod_revision: get.mod_revision.1.0,
            min_create_revision: get.create_revision.0.0,
            max_create_revision: get.create_revision.1.0,
        }
    }
}

impl From<Count> for pb::RangeRequest {
    fn from(count: Count) -> Self {
        let (key, range_end) = count.range.to_wire();
        Self {
            key,
            range_end,
            revision: count.revision.0,
            serializable: count.serializable,
            count_only: true,
            ..Self::default()
        }
    }
}

impl From<Put> for pb::PutRequest {
    fn from(put: Put) -> Self {
        Self {
            key: put.key,
            ignore_value: put.value.0.is_none(),
            value: put.value.0.unwrap_or_default(),
            lease: match put.lease {
                PutLease::Attach(lease) => lease.get(),
                PutLease::None | PutLease::Keep => 0,
            },
            prev_kv: put.prev_kv,
            ignore_lease: put.lease == PutLease::Keep,
        }
    }
}

impl From<Delete> for pb::DeleteRangeRequest {
    fn from(delete: Delete) -> Self {
        let (key, range_end) = delete.range.to_wire();
        Self { key, range_end, prev_kv: delete.prev_kv }
    }
}

impl From<Txn> for pb::TxnRequest {
    fn from(txn: Txn) -> Self {
        Self {
            compare: txn.compares.into_iter().map(Into::into).collect(),
            success: txn.and_then.into_iter().map(Into::into).collect(),
            failure: txn.or_else.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Op> for pb::RequestOp {
    fn from(op: Op) -> Self {
        let request = match op {
            Op::Get(get) => Request::RequestRange(get.into()),
            Op::Count(count) => Request::RequestRange(count.into()),
            Op::Put(put) => Request::RequestPut(put.into()),
            Op::Delete(delete) => Request::RequestDeleteRange(delete.into()),
            Op::Txn(txn) => Request::RequestTxn(txn.into()),
        };
        Self { request: Some(request) }
    }
}

impl From<Compare> for pb::Compare {
    fn from(compare: Compare) -> Self {
        use pb::compare::{CompareResult, CompareTarget};
        let (key, range_end) = compare.range.to_wire();
        let (target, union) = match compare.operand {
            Operand::Value(value) => (CompareTarget::Value, TargetUnion::Value(value)),
            Operand::Version(version) => (CompareTarget::Version, TargetUnion::Version(version)),
            Operand::CreateRevision(revision) => {
                (CompareTarget::Create, TargetUnion::CreateRevision(revision.0))
            }
            Operand::ModRevision(revision) => {
                (CompareTarget::Mod, TargetUnion::ModRevision(revision.0))
            }
            Operand::Lease(lease) => {
                (CompareTarget::Lease, TargetUnion::Lease(lease.map_or(0, LeaseId::get)))
            }
        };
        let result = match compare.relation {
            Relation::Equal => CompareResult::Equal,
            Relation::NotEqual => CompareResult::NotEqual,
            Relation::Greater => CompareResult::Greater,
            Relation::Less => CompareResult::Less,
        };
        Self {
            result: result.into(),
            target: target.into(),
            key,
            range_end,
            target_union: Some(union),
        }
    }
}

impl From<pb::RangeResponse> for GetResponse {
    fn from(answer: pb::RangeResponse) -> Self {
        Self {
            header: header(answer.header),
            kvs: answer.kvs.into_iter().map(key_value).collect(),
            more: answer.more,
            count: count(answer.count),
        }
    }
}

impl From<pb::PutResponse> for PutResponse {
    fn from(answer: pb::PutResponse) -> Self {
        Self { header: header(answer.header), prev_kv: answer.prev_kv.map(key_value) }
    }
}

impl From<pb::DeleteRangeResponse> for DeleteResponse {
    fn from(answer: pb::DeleteRangeResponse) -> Self {
        Self {
            header: header(answer.header),
            deleted: count(answer.deleted),
            prev_kvs: answer.prev_kvs.into_iter().map(key_value).collect(),
        }
    }
}

/// Answers nest only as deep as the questions did, and protobuf bounds them too.
fn txn_response(answer: pb::TxnResponse) -> Result<TxnResponse> {
    let responses = answer
        .responses
        .into_iter()
        .map(|op| match op.response.ok_or_else(other_kind)? {
            Response::ResponseRange(range) => Ok(OpResponse::Get(range.into())),
            Response::ResponsePut(put) => Ok(OpResponse::Put(put.into())),
            Response::ResponseDeleteRange(delete) => Ok(OpResponse::Delete(delete.into())),
            Response::ResponseTxn(txn) => txn_response(txn).map(OpResponse::Txn),
        })
        .collect::<Result<_>>()?;
    Ok(TxnResponse { header: header(answer.header), succeeded: answer.succeeded, responses })
}
