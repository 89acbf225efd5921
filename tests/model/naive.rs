//! What etcd answers, as simply as it can be written: each revision has a whole copy of all keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure::wire::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, ResponseHeader,
    },
    mvccpb::{Event, KeyValue},
};
use tonic::Code;

use super::{draft::Draft, leases::Lease, txn};

pub(crate) type Keys = BTreeMap<Bytes, KeyValue>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    ByEtcd(Code, &'static str),
    /// Real servers do not survive it, or do not always answer the same.
    DoNotAsk(&'static str),
}

macro_rules! refusals {
    ($($name:ident = $code:ident $text:literal;)*) => {
        $(pub(crate) const $name: Refusal = Refusal::ByEtcd(Code::$code, $text);)*
    };
}

refusals! {
    EMPTY_KEY = InvalidArgument "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument "etcdserver: duplicate key given in txn request";
    COMPACTED = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FUTURE = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    LEASE_NOT_FOUND = NotFound "etcdserver: requested lease not found";
    LEASE_EXISTS = FailedPrecondition "etcdserver: lease already exists";
    LEASE_TTL_TOO_LARGE = OutOfRange "etcdserver: too large lease TTL";
}

#[derive(Clone, Debug)]
pub(crate) struct Naive {
    /// The keys as they were at each revision, 0 included.
    pub(super) keys: Vec<Keys>,
    /// What happened at each revision, 0 included.
    pub(super) events: Vec<Vec<Event>>,
    /// -1 before the first compaction: the one at 0 is the first that can be.
    pub(super) compacted: i64,
    pub(super) leases: BTreeMap<i64, Lease>,
    /// Grants and renewals so far.
    pub(super) renewals: usize,
    /// How many keys with equal values of what they are sorted by stay in key order.
    pub(super) ties_kept: usize,
}

impl Naive {
    pub(crate) fn new(ties_kept: usize) -> Self {
        Self {
            keys: vec![Keys::new(); 2],
            events: vec![Vec::new(); 2],
            compacted: -1,
            leases: BTreeMap::new(),
            renewals: 0,
            ties_kept,
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.keys.len() as i64 - 1
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The keys now.
    pub(super) fn now(&self) -> &Keys {
        self.at(self.revision())
    }

    pub(super) fn at(&self, revision: i64) -> &Keys {
        &self.keys[revision as usize]
    }

    pub(super) fn header(&self) -> Option<ResponseHeader> {
        header(self.revision())
    }

    pub(super) fn commit(&mut self, (keys, events): (Keys, Vec<Event>)) {
        if !events.is_empty() {
            self.keys.push(keys);
            self.events.push(events);
        }
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        txn::check_range(request)?;
        Draft::new(self).range(request)
    }

    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        txn::check_put(request)?;
        self.check_lease(request.lease)?;
        let mut draft = Draft::new(self);
        let response = draft.put(request)?;
        let done = draft.done();
        self.commit(done);
        Ok(response)
    }

    pub(crate) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Refusal> {
        txn::check_delete(request)?;
        let mut draft = Draft::new(self);
        let response = draft.delete_range(request);
        let done = draft.done();
        self.commit(done);
        Ok(response)
    }

    pub(crate) fn compact(
        &mut self,
        request: &CompactionRequest,
    ) -> Result<CompactionResponse, Refusal> {
        if request.revision <= self.compacted {
            return Err(COMPACTED);
        }
        if request.revision > self.revision() {
            return Err(FUTURE);
        }
        self.compacted = request.revision;
        Ok(CompactionResponse { header: self.header() })
    }

    pub(super) fn check_lease(&self, id: i64) -> Result<(), Refusal> {
        if id == 0 || self.leases.contains_key(&id) { Ok(()) } else { Err(LEASE_NOT_FOUND) }
    }
}

pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// Whether a key is in the range of a request.
pub(super) fn within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}
