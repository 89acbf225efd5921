//! Revisions that are not known until a sequence runs.

use tenure::wire::etcdserverpb::{
    Compare, RangeRequest, RequestOp, TxnRequest, compare::TargetUnion, request_op::Request,
};

use super::{generate::Step, naive::Naive};

/// In a generated request: the current revision, plus or minus a little.
pub(super) const NOW: i64 = 1 << 60;
/// In a generated request: the compacted revision, plus or minus a little.
pub(super) const COMPACTED: i64 = 1 << 61;

/// The request that is meant at this point.
pub(crate) fn resolve(mut step: Step, store: &Naive) -> Step {
    let place = |revision: &mut i64| {
        for (landmark, is) in [(NOW, store.revision()), (COMPACTED, store.compacted())] {
            let distance = revision.saturating_sub(landmark);
            if (-99..99).contains(&distance) {
                *revision = is + distance;
            }
        }
    };
    match &mut step {
        Step::Range(request) => in_range(request, &place),
        Step::Txn(request) => in_txn(request, &place),
        Step::Compact(request) => place(&mut request.revision),
        Step::Watch(request) => {
            place(&mut request.start_revision);
            // What becomes of a negative one depends on the version.
            request.start_revision = request.start_revision.max(0);
        }
        _ => {}
    }
    step
}

fn in_range(request: &mut RangeRequest, place: &impl Fn(&mut i64)) {
    place(&mut request.revision);
    place(&mut request.min_mod_revision);
    place(&mut request.max_mod_revision);
    place(&mut request.min_create_revision);
    place(&mut request.max_create_revision);
}

fn in_txn(request: &mut TxnRequest, place: &impl Fn(&mut i64)) {
    for Compare { target_union, .. } in &mut request.compare {
        use TargetUnion::{CreateRevision, ModRevision};
        if let Some(CreateRevision(revision) | ModRevision(revision)) = target_union {
            place(revision);
        }
    }
    for RequestOp { request } in request.success.iter_mut().chain(&mut request.failure) {
        match request {
            Some(Request::RequestRange(range)) => in_range(range, place),
            Some(Request::RequestTxn(txn)) => in_txn(txn, place),
            _ => {}
        }
    }
}
