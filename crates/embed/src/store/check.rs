//! What a request must be, whatever the store holds.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use tenure::wire::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, range_request::SortTarget,
    request_op::Request,
};

use crate::refusal::{self, Refusal};

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

/// `room` is the most compares, or operations of a branch; a nested txn has what its parent left.
pub(crate) fn txn(request: &TxnRequest, room: usize) -> Result<(), Refusal> {
    shape(request, room)?;
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
    deletes: Deleted<'a>,
}

impl<'a> Written<'a> {
    fn by(branch: &'a [RequestOp]) -> Result<Self, Refusal> {
        let mut written = Self::default();
        for op in branch {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                written.deletes.add(delete);
            }
        }
        for op in branch {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                let success = Self::by(&nested.success)?;
                let failure = Self::by(&nested.failure)?;
                for put in &success.puts {
                    written.put(put)?;
                }
                // Only one of the two runs, so each may delete what the other puts.
                for put in failure.puts.difference(&success.puts) {
                    written.put(put)?;
                }
                written.deletes.add_all(success.deletes);
                written.deletes.add_all(failure.deletes);
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
        if self.deletes.contain(key) || !self.puts.insert(key) {
            return Err(refusal::DUPLICATE_KEY);
        }
        Ok(())
    }
}

/// Ranges of keys, apart from each other, by where they begin.
#[derive(Default)]
struct Deleted<'a>(BTreeMap<&'a [u8], End<'a>>);

/// Where a range ends: before a key, or with it.
type End<'a> = (&'a [u8], bool);

impl<'a> Deleted<'a> {
    /// As this rule of etcd reads a range: an end of one zero byte is that key, not the end of
    /// all, and nothing is between a key and one before it.
    fn add(&mut self, delete: &'a DeleteRangeRequest) {
        let (start, end) = (&delete.key[..], &delete.range_end[..]);
        match end.is_empty() {
            true => self.insert(start, (start, true)),
            false if start < end => self.insert(start, (end, false)),
            false => {}
        }
    }

    fn add_all(&mut self, others: Self) {
        others.0.into_iter().for_each(|(start, end)| self.insert(start, end));
    }

    fn insert(&mut self, mut start: &'a [u8], mut end: End<'a>) {
        if let Some((before, reaches)) = self.0.range(..=start).next_back()
            && (start, false) <= *reaches
        {
            (start, end) = (*before, end.max(*reaches));
        }
        while let Some((next, reaches)) = self.0.range(start..).next()
            && (*next, false) <= end
        {
            end = end.max(*reaches);
            let next = *next;
            self.0.remove(next);
        }
        self.0.insert(start, end);
    }

    fn contain(&self, key: &[u8]) -> bool {
        let before = self.0.range(..=key).next_back();
        before.is_some_and(|(_, end)| (key, false) < *end)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tenure::wire::etcdserverpb::{
        DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op::Request,
    };

    use super::{Deleted, Written};

    fn key() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(prop::sample::select(vec![0, 1, 2]), 0..3).prop_map(Bytes::from)
    }

    fn delete(key: Bytes, range_end: Bytes) -> DeleteRangeRequest {
        DeleteRangeRequest { key, range_end, prev_kv: false }
    }

    proptest! {
        #[test]
        fn merged_ranges_hold_what_each_of_them_does(
            ranges in prop::collection::vec((key(), key()), 0..8), asked in key(),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(key, end)| delete(key, end)).collect();
            let mut deleted = Deleted::default();
            ranges.iter().for_each(|range| deleted.add(range));
            let holds = |range: &DeleteRangeRequest| match range.range_end.is_empty() {
                true => asked == range.key,
                false => range.key <= asked && asked < range.range_end,
            };
            prop_assert_eq!(deleted.contain(&asked), ranges.iter().any(holds));
        }
    }

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put(key: &'static str) -> RequestOp {
        let key = key.into();
        op(Request::RequestPut(PutRequest { key, ..PutRequest::default() }))
    }

    fn del(key: &'static str, end: &'static str) -> RequestOp {
        op(Request::RequestDeleteRange(delete(key.into(), end.into())))
    }

    /// As etcd 3.5.30 answers.
    #[test]
    fn a_nested_txn_may_put_in_one_branch_what_it_deletes_in_the_other() {
        let nested = |success, failure| {
            op(Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure }))
        };
        assert!(Written::by(&[nested(vec![put("a")], vec![del("a", "")])]).is_ok());
        assert!(Written::by(&[nested(vec![put("a")], vec![put("a")])]).is_ok());
        assert!(Written::by(&[nested(vec![put("a"), del("a", "")], vec![])]).is_err());
        assert!(Written::by(&[nested(vec![], vec![del("a", "")]), put("a")]).is_err());
        assert!(Written::by(&[del("b", "\0"), put("b")]).is_ok());
        assert!(Written::by(&[del("b", "a"), put("b")]).is_ok());
        assert!(Written::by(&[del("a", "c"), put("b")]).is_err());
    }
}
