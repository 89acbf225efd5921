use proptest::{collection::vec, prelude::*};
use tenure::wire::etcdserverpb::{
    Compare, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareTarget, TargetUnion},
    request_op::Request,
};

use super::generate::{delete, end, key, lease, put, range, rarely, revision, value};

pub(super) fn txn() -> impl Strategy<Value = TxnRequest> {
    prop_oneof![40 => nested(3), 1 => wide()]
}

fn nested(levels: u32) -> BoxedStrategy<TxnRequest> {
    let sizes = if levels == 3 { 0..5_usize } else { 0..3 };
    let ops = || vec(op(levels), sizes.clone());
    (vec(compare().boxed(), 0..3), ops(), ops()).prop_map(to_txn).boxed()
}

fn to_txn((compare, success, failure): (Vec<Compare>, Vec<Request>, Vec<Request>)) -> TxnRequest {
    let ops = |requests: Vec<Request>| {
        requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
    };
    TxnRequest { compare, success: ops(success), failure: ops(failure) }
}

fn op(levels: u32) -> BoxedStrategy<Request> {
    let flat = prop_oneof![
        6 => put().prop_map(Request::RequestPut).boxed(),
        3 => delete().prop_map(Request::RequestDeleteRange).boxed(),
        4 => range().prop_map(|mut range| {
            // Most other revisions have the whole txn refused.
            if range.limit != 2 {
                range.revision = 0;
            }
            Request::RequestRange(range)
        }).boxed(),
    ];
    match levels {
        0 => flat.boxed(),
        _ => prop_oneof![4 => flat, 1 => nested(levels - 1).prop_map(Request::RequestTxn)].boxed(),
    }
}

/// As many compares and operations as etcd takes, about.
fn wide() -> impl Strategy<Value = TxnRequest> {
    let count = || prop_oneof![3 => 0..4_usize, 2 => 126..130_usize];
    let read = RequestOp {
        request: Some(Request::RequestRange(RangeRequest {
            key: "a".into(),
            count_only: true,
            ..RangeRequest::default()
        })),
    };
    let compare = Compare { key: "a".into(), ..Compare::default() };
    let txn = (count(), count(), count(), any::<bool>()).prop_map(
        move |(compares, then, otherwise, is_nested)| {
            let txn = TxnRequest {
                compare: vec![compare.clone(); compares],
                success: vec![read.clone(); then],
                failure: vec![read.clone(); otherwise],
            };
            if !is_nested {
                return txn;
            }
            let op = RequestOp { request: Some(Request::RequestTxn(txn)) };
            TxnRequest { success: vec![op], ..TxnRequest::default() }
        },
    );
    prop_oneof![
        5 => txn,
        // An operation that is none.
        1 => Just(TxnRequest { failure: vec![RequestOp::default()], ..TxnRequest::default() }),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let range_end = rarely(end());
    let result = prop_oneof![30 => 0..4, 1 => Just(9)];
    (key(), range_end, result, target()).prop_map(
        |(key, range_end, result, (target, target_union))| Compare {
            result,
            target,
            key,
            target_union,
            range_end,
        },
    )
}

fn target() -> impl Strategy<Value = (i32, Option<TargetUnion>)> {
    let fitting = prop_oneof![
        (0..4_i64).prop_map(|version| (CompareTarget::Version, TargetUnion::Version(version))),
        revision().prop_map(|at| (CompareTarget::Create, TargetUnion::CreateRevision(at))),
        revision().prop_map(|at| (CompareTarget::Mod, TargetUnion::ModRevision(at))),
        value().prop_map(|value| (CompareTarget::Value, TargetUnion::Value(value))),
        lease().prop_map(|lease| (CompareTarget::Lease, TargetUnion::Lease(lease))),
    ];
    let fitting = fitting.prop_map(|(target, operand)| (target as i32, operand));
    let any_target = prop_oneof![5 => 0..5, 1 => Just(77)];
    prop_oneof![
        20 => fitting.clone().prop_map(|(target, operand)| (target, Some(operand))),
        1 => any_target.clone().prop_map(|target| (target, None)),
        1 => (any_target, fitting).prop_map(|(target, (_, operand))| (target, Some(operand))),
    ]
}
