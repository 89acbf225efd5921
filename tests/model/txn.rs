use std::{cmp::Ordering, collections::BTreeSet};

use bytes::Bytes;
use tenure::wire::{
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest,
        TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

use super::{
    draft::{Draft, select},
    naive::{
        COMPACTED, DUPLICATE_KEY, EMPTY_KEY, FUTURE, KEY_NOT_FOUND, LEASE_PROVIDED, Naive, Refusal,
        TOO_MANY_OPS, VALUE_PROVIDED, header,
    },
};

const MAX_OPS: usize = 128;

impl Naive {
    pub(crate) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        check_txn(request, MAX_OPS)?;
        check_writes(&request.success)?;
        check_writes(&request.failure)?;
        let ops = self.all_that_run(request);
        ops.iter().try_for_each(|op| self.check_put_in_txn(op))?;
        ops.iter().try_for_each(|op| self.check_range_in_txn(op))?;
        let mut draft = Draft::new(self);
        let mut response = draft.txn(request)?;
        response.header = header(draft.revision());
        let done = draft.done();
        self.commit(done);
        Ok(response)
    }

    /// Whether the compares hold, and the operations that run therefore. All are judged on the
    /// keys before the txn, those of nested txns too.
    fn branch<'a>(&self, request: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let holds = request.compare.iter().all(|compare| self.holds(compare));
        (holds, if holds { &request.success } else { &request.failure })
    }

    fn all_that_run<'a>(&self, request: &'a TxnRequest) -> Vec<&'a Request> {
        let ops = self.branch(request).1.iter().filter_map(|op| op.request.as_ref());
        ops.flat_map(|op| match op {
            Request::RequestTxn(nested) => self.all_that_run(nested),
            op => vec![op],
        })
        .collect()
    }

    fn check_put_in_txn(&self, op: &Request) -> Result<(), Refusal> {
        let Request::RequestPut(put) = op else { return Ok(()) };
        if (put.ignore_value || put.ignore_lease) && !self.now().contains_key(&put.key) {
            return Err(KEY_NOT_FOUND);
        }
        self.check_lease(put.lease)
    }

    fn check_range_in_txn(&self, op: &Request) -> Result<(), Refusal> {
        let Request::RequestRange(range) = op else { return Ok(()) };
        match range.revision {
            0 => Ok(()),
            revision if revision > self.revision() => Err(FUTURE),
            // Of a negative revision too, other than outside of a txn.
            revision if revision < self.compacted => Err(COMPACTED),
            _ => Ok(()),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = select(self.now(), &compare.key, &compare.range_end);
        if !found.is_empty() {
            return found.iter().all(|kv| holds_for(compare, kv));
        }
        compare.target != CompareTarget::Value as i32 && holds_for(compare, &KeyValue::default())
    }
}

impl Draft<'_> {
    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let (succeeded, ops) = self.store.branch(request);
        let responses = ops.iter().map(|op| self.op(op)).collect::<Result<_, _>>()?;
        Ok(TxnResponse { header: header(0), succeeded, responses })
    }

    fn op(&mut self, op: &RequestOp) -> Result<ResponseOp, Refusal> {
        let response = match op.request.as_ref().ok_or(KEY_NOT_FOUND)? {
            Request::RequestRange(range) => Response::ResponseRange(self.range(range)?),
            Request::RequestDeleteRange(delete) => {
                Response::ResponseDeleteRange(self.delete_range(delete))
            }
            Request::RequestTxn(txn) => Response::ResponseTxn(self.txn(txn)?),
            Request::RequestPut(put) => Response::ResponsePut(self.put(put).map_err(|_| {
                Refusal::DoNotAsk("etcd dies of a put that keeps what the same txn deleted")
            })?),
        };
        Ok(ResponseOp { response: Some(response) })
    }
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let operand = compare.target_union.as_ref();
    // One of another kind than the target counts as none.
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => match operand {
            Some(TargetUnion::Version(version)) => kv.version.cmp(version),
            _ => kv.version.cmp(&0),
        },
        Ok(CompareTarget::Create) => match operand {
            Some(TargetUnion::CreateRevision(revision)) => kv.create_revision.cmp(revision),
            _ => kv.create_revision.cmp(&0),
        },
        Ok(CompareTarget::Mod) => match operand {
            Some(TargetUnion::ModRevision(revision)) => kv.mod_revision.cmp(revision),
            _ => kv.mod_revision.cmp(&0),
        },
        Ok(CompareTarget::Value) => match operand {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.cmp(&Bytes::new()),
        },
        Ok(CompareTarget::Lease) => match operand {
            Some(TargetUnion::Lease(lease)) => kv.lease.cmp(lease),
            _ => kv.lease.cmp(&0),
        },
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

pub(super) fn check_range(request: &RangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() { Err(EMPTY_KEY) } else { Ok(()) }
}

pub(super) fn check_delete(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() { Err(EMPTY_KEY) } else { Ok(()) }
}

pub(super) fn check_put(request: &PutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(LEASE_PROVIDED);
    }
    Ok(())
}

/// The first thing that is wrong with a txn, whatever the keys are.
fn check_txn(request: &TxnRequest, room: usize) -> Result<(), Refusal> {
    let lists = [request.compare.len(), request.success.len(), request.failure.len()];
    let longest = lists.into_iter().max().unwrap_or(0);
    let left = room.checked_sub(longest).ok_or(TOO_MANY_OPS)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(EMPTY_KEY);
    }
    for op in request.success.iter().chain(&request.failure) {
        match op.request.as_ref().ok_or(KEY_NOT_FOUND)? {
            Request::RequestRange(range) => check_range(range)?,
            Request::RequestPut(put) => check_put(put)?,
            Request::RequestDeleteRange(delete) => check_delete(delete)?,
            Request::RequestTxn(txn) => check_txn(txn, left)?,
        }
    }
    Ok(())
}

/// The keys put and the ranges deleted by a list of operations, nested ones included, if etcd
/// takes them together.
///
/// It looks at the deletes of the list first, then at the nested txns in turn, then at the puts. So
/// it overlooks a nested put that a later nested txn deletes, and any range without an end: it
/// takes the zero byte for a key.
fn check_writes(ops: &[RequestOp]) -> Result<Writes, Refusal> {
    let mut all = Writes::default();
    let ops = || ops.iter().filter_map(|op| op.request.as_ref());
    for op in ops() {
        if let Request::RequestDeleteRange(delete) = op {
            all.deletes.push((delete.key.clone(), delete.range_end.clone()));
        }
    }
    for op in ops() {
        if let Request::RequestTxn(txn) = op {
            let then = check_writes(&txn.success)?;
            let otherwise = check_writes(&txn.failure)?;
            // Only one of the two branches runs.
            let both: Vec<Bytes> = then.puts.union(&otherwise.puts).cloned().collect();
            both.into_iter().try_for_each(|key| all.put(key))?;
            all.deletes.extend(then.deletes);
            all.deletes.extend(otherwise.deletes);
        }
    }
    for op in ops() {
        if let Request::RequestPut(put) = op {
            all.put(put.key.clone())?;
        }
    }
    Ok(all)
}

#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<(Bytes, Bytes)>,
}

impl Writes {
    fn put(&mut self, key: Bytes) -> Result<(), Refusal> {
        let deleted = |(start, end): &(Bytes, Bytes)| match end.is_empty() {
            true => key == start,
            false => key >= start && key < end,
        };
        if self.deletes.iter().any(deleted) || !self.puts.insert(key) {
            return Err(DUPLICATE_KEY);
        }
        Ok(())
    }
}
