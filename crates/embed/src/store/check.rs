//! What a request must be, whatever the store holds.

use std::collections::HashSet;

use bytes::Bytes;
use tenure::wire::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, range_request::SortTarget,
    request_op::Request,
};

use crate::refusal::{self, Refusal};

/// How much one txn may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Compares, or operations of a branch; a nested txn has what its parent left.
    pub(crate) max_txn_ops: usize,
}

fn key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(refusal::EMPTY_KEY) } else { Ok(()) }
}

pub(crate) fn range(request: &RangeRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    // An unknown order is none, but an unknown thing to sort by ends etcd before 3.6.
    match SortTarget::try_from(request.sort_target) {
        Ok(_) => Ok(()),
        Err(_) => Err(refusal::INVALID_SORT),
    }
}

pub(crate) fn put(request: &PutRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(refusal::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(refusal::LEASE_PROVIDED);
    }
    Ok(())
}

pub(crate) fn delete_range(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    key(&request.key)
}

pub(crate) fn txn(request: &TxnRequest, limits: Limits) -> Result<(), Refusal> {
    shape(request, limits.max_txn_ops)?;
    Written::by(&request.success)?;
    Written::by(&request.failure)?;
    Ok(())
}

/// Decoding ends at a hundred levels, and so does this.
fn shape(request: &TxnRequest, room: usize) -> Result<(), Refusal> {
    let TxnRequest { compare, success, failure } = request;
    let size = compare.len().max(success.len()).max(failure.len());
    let left = room.checked_sub(size).ok_or(refusal::TOO_MANY_OPS)?;
    compare.iter().try_for_each(|compare| key(&compare.key))?;
    success.iter().chain(failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        // Its own two branches are compared with each other where it stands.
        Some(Request::RequestTxn(request)) => shape(request, left),
        None => Err(refusal::KEY_NOT_FOUND),
    })
}

/// What a branch writes. A key may be put once in it, and not where it deletes too: etcd does not
/// say in which order the two would happen.
#[derive(Default)]
struct Written<'a> {
    puts: HashSet<&'a Bytes>,
    deletes: Vec<&'a DeleteRangeRequest>,
}

impl<'a> Written<'a> {
    fn by(branch: &'a [RequestOp]) -> Result<Self, Refusal> {
        let mut written = Self::default();
        for op in branch {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                written.deletes.push(delete);
            }
        }
        for op in branch {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                let success = Self::by(&nested.success)?;
                let failure = Self::by(&nested.failure)?;
                written.deletes.extend(success.deletes);
                written.deletes.extend(failure.deletes);
                for put in &success.puts {
                    written.put(put)?;
                }
                // Only one of the two runs.
                for put in failure.puts.difference(&success.puts) {
                    written.put(put)?;
                }
            }
        }
        for op in branch {
            if let Some(Request::RequestPut(put)) = &op.request {
                written.put(&put.key)?;
            }
        }
        Ok(written)
    }

    fn put(&mut self, key: &'a Bytes) -> Result<(), Refusal> {
        if self.deletes.iter().any(|delete| deletes(delete, key)) || !self.puts.insert(key) {
            return Err(refusal::DUPLICATE_KEY);
        }
        Ok(())
    }
}

/// As this rule of etcd reads a range: an end of one zero byte is that key, not the end of all.
fn deletes(delete: &DeleteRangeRequest, key: &Bytes) -> bool {
    *key == delete.key || (delete.key < *key && *key < delete.range_end)
}
