use std::cmp::Ordering;

use bytes::Bytes;
use tenure::wire::{
    etcdserverpb::{
        DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
        RangeResponse,
        range_request::{SortOrder, SortTarget},
    },
    mvccpb::{Event, KeyValue, event::EventType},
};

use super::naive::{COMPACTED, FUTURE, KEY_NOT_FOUND, Keys, Naive, Refusal, header, within};

/// The keys in the middle of a request, which becomes a revision if it changes anything.
pub(super) struct Draft<'a> {
    pub(super) store: &'a Naive,
    keys: Keys,
    events: Vec<Event>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(store: &'a Naive) -> Self {
        Self { store, keys: store.now().clone(), events: Vec::new() }
    }

    pub(super) fn done(self) -> (Keys, Vec<Event>) {
        (self.keys, self.events)
    }

    pub(super) fn revision(&self) -> i64 {
        self.store.revision() + i64::from(!self.events.is_empty())
    }

    pub(super) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        let before = self.keys.get(&request.key).cloned();
        let (mut value, mut lease) = (request.value.clone(), request.lease);
        if request.ignore_value {
            value = before.as_ref().ok_or(KEY_NOT_FOUND)?.value.clone();
        }
        if request.ignore_lease {
            lease = before.as_ref().ok_or(KEY_NOT_FOUND)?.lease;
        }
        let revision = self.store.revision() + 1;
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            value,
            lease,
        };
        self.keys.insert(request.key.clone(), kv.clone());
        self.events.push(Event { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: None });
        Ok(PutResponse { header: header(revision), prev_kv: before.filter(|_| request.prev_kv) })
    }

    pub(super) fn delete(&mut self, key: &Bytes) {
        self.keys.remove(key);
        let mod_revision = self.store.revision() + 1;
        let kv = KeyValue { key: key.clone(), mod_revision, ..KeyValue::default() };
        self.events.push(Event { r#type: EventType::Delete as i32, kv: Some(kv), prev_kv: None });
    }

    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let found = select(&self.keys, &request.key, &request.range_end);
        for kv in &found {
            self.delete(&kv.key);
        }
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted: found.len() as i64,
            prev_kvs: if request.prev_kv { found } else { Vec::new() },
        }
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        let keys = match request.revision {
            ..=0 => &self.keys,
            revision if revision > self.store.revision() => return Err(FUTURE),
            revision if revision < self.store.compacted => return Err(COMPACTED),
            revision => self.store.at(revision),
        };
        let mut kvs = select(keys, &request.key, &request.range_end);
        let count = kvs.len() as i64;
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);

        // Without an order, etcd reads no more keys than it needs for the limit, and then sorts
        // those.
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if request.sort_order == SortOrder::None as i32 && filters == [0; 4] {
            kvs.truncate(limit.map_or(usize::MAX, |limit| limit.saturating_add(1)));
        }

        let [min_mod, max_mod, min_create, max_create] = filters;
        kvs.retain(|kv| {
            (min_mod == 0 || kv.mod_revision >= min_mod)
                && (max_mod == 0 || kv.mod_revision <= max_mod)
                && (min_create == 0 || kv.create_revision >= min_create)
                && (max_create == 0 || kv.create_revision <= max_create)
        });
        if request.count_only {
            kvs.clear();
        }
        self.sort(request, &mut kvs)?;
        let more = limit.is_some_and(|limit| kvs.len() > limit);
        kvs.truncate(limit.unwrap_or(usize::MAX));
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(RangeResponse { header: header(self.revision()), kvs, more, count })
    }

    fn sort(&self, request: &RangeRequest, kvs: &mut [KeyValue]) -> Result<(), Refusal> {
        let compare: fn(&KeyValue, &KeyValue) -> Ordering = match request.sort_target() {
            SortTarget::Key => |a, b| a.key.cmp(&b.key),
            SortTarget::Version => |a, b| a.version.cmp(&b.version),
            SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => |a, b| a.value.cmp(&b.value),
        };
        match SortOrder::try_from(request.sort_order) {
            Ok(SortOrder::None | SortOrder::Ascend) => kvs.sort_by(compare),
            Ok(SortOrder::Descend) => kvs.sort_by(|a, b| compare(b, a)),
            // An order that there is not is none at all.
            Err(_) => return Ok(()),
        }
        let tied = kvs.windows(2).any(|pair| compare(&pair[0], &pair[1]).is_eq());
        if tied && kvs.len() > self.store.ties_kept {
            return Err(Refusal::DoNotAsk("Go's sort is not stable for as many keys"));
        }
        Ok(())
    }
}

pub(super) fn select(keys: &Keys, start: &[u8], end: &[u8]) -> Vec<KeyValue> {
    keys.values().filter(|kv| within(&kv.key, start, end)).cloned().collect()
}
