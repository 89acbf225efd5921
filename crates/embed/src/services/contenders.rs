//! The queue of contenders under a prefix, as Go's recipes and etcd's own services make it: each
//! has a key with its lease's id, and whose is the oldest is first.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tenure::wire::{
    etcdserverpb::{
        Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
        ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
        compare::{CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request,
        response_op::Response,
        watch_request::RequestUnion,
    },
    mvccpb::{KeyValue, event::EventType},
};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    node::Node,
    refusal::{self, Refusal},
    store::Span,
    token::Token,
    watch::WatchStream,
};

/// What a lease lasts that the server grants because the caller brought none. Nobody renews it.
const UNNAMED_LEASE_TTL: i64 = 60;

/// One contender's key.
pub(super) struct Place {
    node: Arc<Node>,
    token: Token,
    prefix: Bytes,
    pub(super) key: Bytes,
    pub(super) lease: i64,
    /// What its key was created at; 0 until it is.
    pub(super) created: i64,
}

impl Place {
    /// A place for `lease` in the queue of `name`; an unnamed lease is granted for it.
    pub(super) fn new(
        node: &Arc<Node>,
        token: &Token,
        name: &[u8],
        lease: i64,
    ) -> Result<Self, Status> {
        let lease = match lease {
            0 => {
                let grant = LeaseGrantRequest { ttl: UNNAMED_LEASE_TTL, id: 0 };
                let granted = node.lock().lease_grant(token, &grant, Instant::now());
                granted.map_err(unknown)?.id
            }
            lease => lease,
        };
        let prefix = prefix(name);
        // Go prints an id as a number with a sign.
        let sign = if lease < 0 { "-" } else { "" };
        let key = [&prefix[..], format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat();
        let (node, token) = (Arc::clone(node), token.clone());
        Ok(Self { node, token, prefix, key: key.into(), lease, created: 0 })
    }

    /// Puts the key unless it is there. Returns the answer's header, and the key if it was there.
    pub(super) fn enter(
        &mut self,
        value: Bytes,
    ) -> Result<(ResponseHeader, Option<KeyValue>), Status> {
        let put =
            PutRequest { key: self.key.clone(), value, lease: self.lease, ..PutRequest::default() };
        let get = RangeRequest { key: self.key.clone(), ..RangeRequest::default() };
        let txn = TxnRequest {
            compare: vec![created_at(&self.key, 0)],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![op(Request::RequestRange(get))],
        };
        let answer = self.txn(txn)?;
        let there = found(&answer);
        let header = answer.header.unwrap_or_default();
        self.created = there.as_ref().map_or(header.revision, |kv| kv.create_revision);
        Ok((header, there))
    }

    /// Waits until no older key is under the prefix. Dropping the future gives the place up.
    pub(super) async fn turn(&self) -> Result<(), Status> {
        let given_up = GivenUp(Some(self));
        loop {
            let before = RangeRequest {
                key: self.prefix.clone(),
                range_end: end_of(&self.prefix),
                limit: 1,
                sort_order: SortOrder::Descend as i32,
                sort_target: SortTarget::Create as i32,
                max_create_revision: self.created - 1,
                ..RangeRequest::default()
            };
            let answer = self.node.lock().range(&self.token, &before, Instant::now());
            let answer = answer.map_err(unknown)?;
            let revision = answer.header.map_or(0, |header| header.revision);
            let Some(predecessor) = answer.kvs.into_iter().next() else { break };
            self.deleted(predecessor.key, revision).await?;
        }
        given_up.kept();
        Ok(())
    }

    async fn deleted(&self, key: Bytes, revision: i64) -> Result<(), Status> {
        let create = WatchCreateRequest { key, start_revision: revision, ..Default::default() };
        let mut changes = watch(&self.node, &self.token, create);
        while let Some(response) = changes.next().await {
            let deletion = EventType::Delete as i32;
            if response?.events.iter().any(|event| event.r#type == deletion) {
                break;
            }
        }
        Ok(())
    }

    /// Whether its key is there still, and the header of that answer.
    pub(super) fn stands(&self) -> Result<(ResponseHeader, bool), Status> {
        let get = RangeRequest { key: self.key.clone(), ..RangeRequest::default() };
        let answer = self.node.lock().range(&self.token, &get, Instant::now()).map_err(unknown)?;
        Ok((answer.header.unwrap_or_default(), !answer.kvs.is_empty()))
    }

    fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        self.node.lock().txn(&self.token, txn, Instant::now()).map_err(unknown)
    }
}

/// Takes the key of somebody who no longer waits out of the queue, whoever may write it: nobody
/// else would.
struct GivenUp<'a>(Option<&'a Place>);

impl GivenUp<'_> {
    fn kept(mut self) {
        self.0 = None;
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            let mut state = place.node.lock();
            let ours = state.store.get(&place.key);
            if ours.is_some_and(|kv| kv.create_revision == place.created) {
                state.delete_key(&place.key);
            }
        }
    }
}

/// The responses to one watch inside the node.
pub(super) fn watch(
    node: &Arc<Node>,
    token: &Token,
    create: WatchCreateRequest,
) -> impl stream::Stream<Item = Result<WatchResponse, Status>> + Unpin + Send + use<> {
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = stream::iter([Ok(request)]).chain(stream::pending());
    WatchStream::new(Arc::clone(node), token.clone(), requests).map(|response| {
        let response = response?;
        match response.canceled {
            true if response.compact_revision != 0 => Err(unknown(refusal::COMPACTED)),
            true => Err(Status::unknown(response.cancel_reason)),
            false => Ok(response),
        }
    })
}

/// The oldest key under the prefix, and the revision of that answer.
pub(super) fn oldest(
    node: &Node,
    token: &Token,
    prefix: &Bytes,
) -> Result<(ResponseHeader, Option<KeyValue>), Status> {
    let first = RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..RangeRequest::default()
    };
    let answer = node.lock().range(token, &first, Instant::now()).map_err(unknown)?;
    Ok((answer.header.unwrap_or_default(), answer.kvs.into_iter().next()))
}

/// Runs these operations if the key is still the one created at this revision.
pub(super) fn while_created_at(
    node: &Node,
    token: &Token,
    key: &Bytes,
    created: i64,
    run: Request,
) -> Result<TxnResponse, Status> {
    let compare = vec![created_at(key, created)];
    let txn = TxnRequest { compare, success: vec![op(run)], failure: Vec::new() };
    node.lock().txn(token, txn, Instant::now()).map_err(unknown)
}

pub(super) fn delete(key: &Bytes) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() }
}

/// Where the keys of a name are.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// Where the keys with a prefix end, which ends in a slash.
pub(super) fn end_of(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    debug_assert!(Span::new(prefix, &end.clone().into()).prefix().is_some());
    end.into()
}

/// These two services tell each refusal with the code for "unknown", in etcd too.
pub(super) fn unknown(refusal: Refusal) -> Status {
    Status::new(Code::Unknown, refusal.text)
}

fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn found(answer: &TxnResponse) -> Option<KeyValue> {
    match answer.responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first().cloned(),
        _ => None,
    }
}
