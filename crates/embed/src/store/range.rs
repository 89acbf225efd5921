use std::cmp::Ordering;

use tenure::wire::{
    etcdserverpb::{
        RangeRequest, RangeResponse,
        range_request::{SortOrder, SortTarget},
    },
    mvccpb::KeyValue,
};

use super::{Change, Span, Store, header};
use crate::refusal::{self, Refusal};

impl Store {
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        self.read(request, &[])
    }

    /// Reads, after these changes of the same txn.
    pub(super) fn read(
        &self,
        request: &RangeRequest,
        changes: &[Change],
    ) -> Result<RangeResponse, Refusal> {
        let current = self.revision_with(changes);
        let revision = match request.revision {
            ..=0 => current,
            asked if asked > current => return Err(refusal::FUTURE_REVISION),
            asked => asked,
        };
        if revision < self.compacted {
            return Err(refusal::COMPACTED);
        }
        let span = Span::new(&request.key, &request.range_end);
        let mut living = self.living(&span, revision).map(|record| &record.kv);
        let mut response = RangeResponse { header: header(current), ..RangeResponse::default() };
        if request.count_only {
            response.count = living.count() as i64;
            return Ok(response);
        }
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let order = Order::of(request);
        if order.is_none() && !filters(request) {
            // The keys come in their order, so that only as many are looked at as are sent.
            let taken = living.by_ref().take(limit.unwrap_or(usize::MAX));
            response.kvs = taken.map(|kv| shown(kv, request)).collect();
            let left = living.count();
            response.count = (response.kvs.len() + left) as i64;
            response.more = left > 0;
            return Ok(response);
        }
        let mut found: Vec<&KeyValue> = living.collect();
        response.count = found.len() as i64;
        if let Some(limit) = limit
            && request.sort_order == SortOrder::None as i32
            && !filters(request)
        {
            // Without an order etcd sorts only what it looked at: the first keys, and one more.
            found.truncate(limit.saturating_add(1));
        }
        found.retain(|kv| passes(kv, request));
        if let Some(order) = order {
            order.sort(&mut found);
        }
        let taken = limit.unwrap_or(usize::MAX).min(found.len());
        response.more = taken < found.len();
        response.kvs = found[..taken].iter().map(|kv| shown(kv, request)).collect();
        Ok(response)
    }
}

fn shown(kv: &KeyValue, request: &RangeRequest) -> KeyValue {
    let mut shown = kv.clone();
    if request.keys_only {
        shown.value.clear();
    }
    shown
}

fn filters(request: &RangeRequest) -> bool {
    [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ] != [0; 4]
}

fn passes(kv: &KeyValue, request: &RangeRequest) -> bool {
    let within =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

/// An order other than that of the keys, in which they are found.
struct Order {
    by: SortTarget,
    descending: bool,
}

impl Order {
    fn of(request: &RangeRequest) -> Option<Self> {
        let by = request.sort_target();
        let descending = match SortOrder::try_from(request.sort_order).ok()? {
            SortOrder::None | SortOrder::Ascend => false,
            SortOrder::Descend => true,
        };
        (descending || by != SortTarget::Key).then_some(Self { by, descending })
    }

    /// Equal ones stay in the order of their keys.
    fn sort(&self, found: &mut [&KeyValue]) {
        found.sort_by(|a, b| match self.descending {
            true => self.compare(b, a),
            false => self.compare(a, b),
        });
    }

    fn compare(&self, a: &KeyValue, b: &KeyValue) -> Ordering {
        match self.by {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    }
}
