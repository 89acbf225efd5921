//! Keys with their history, as etcd keeps them: pure, in memory, without a clock.
//!
//! Each change makes a [`Record`]. A key's records are in [`Store::keys`], by revision; those of
//! all keys, in the order in which they were made, are in the log that watches read from.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use tenure::wire::{
    etcdserverpb::{
        DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader,
    },
    mvccpb::KeyValue,
};

use crate::refusal::{self, Refusal};
pub(crate) use span::Span;

pub(crate) mod check;
mod compare;
mod hash;
mod range;
mod span;
mod txn;

pub(crate) use hash::KeyHash;
pub(crate) use txn::writes;

/// What a key became at one revision.
#[derive(Debug)]
pub(crate) struct Record {
    /// As it is read. Of a deletion only the key and the revision are set.
    pub(crate) kv: KeyValue,
    /// Its place among the changes of one revision.
    sub: i64,
}

impl Record {
    pub(crate) fn revision(&self) -> i64 {
        self.kv.mod_revision
    }

    pub(crate) fn is_deletion(&self) -> bool {
        self.kv.version == 0
    }

    pub(crate) fn size(&self) -> u64 {
        (self.kv.key.len() + self.kv.value.len()) as u64 + RECORD_OVERHEAD
    }
}

/// What etcd's file needs for a record beside key and value, about.
const RECORD_OVERHEAD: u64 = 64;
/// What etcd's file needs for nothing.
const EMPTY_SIZE: u64 = 20 * 1024;

/// A record that was just made, and what it took the place of.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) record: Arc<Record>,
    /// The key as it was at the revision before.
    pub(crate) before: Option<Arc<Record>>,
    /// The lease the key hung on until now; 0 for none.
    pub(crate) left_lease: i64,
}

/// Whether a lease of this id is there.
pub(crate) type HasLease<'a> = &'a dyn Fn(i64) -> bool;

#[derive(Debug)]
pub(crate) struct Store {
    keys: BTreeMap<Bytes, Vec<Arc<Record>>>,
    log: VecDeque<Arc<Record>>,
    revision: i64,
    compacted: i64,
    size: u64,
    /// What the last compactions took.
    hashes: VecDeque<KeyHash>,
}

/// How many compactions are remembered.
const HASHES: usize = 10;

impl Default for Store {
    fn default() -> Self {
        let (keys, log) = (BTreeMap::new(), VecDeque::new());
        // etcd begins at 1, and lets its first compaction be one of revision 0.
        Self { keys, log, revision: 1, compacted: -1, size: EMPTY_SIZE, hashes: VecDeque::new() }
    }
}

impl Store {
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The last compacted revision; -1 before the first compaction.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// About how many bytes etcd would have on its disk.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn put(
        &mut self,
        request: PutRequest,
        has_lease: HasLease<'_>,
    ) -> Result<(PutResponse, Vec<Change>), Refusal> {
        if request.lease != 0 && !has_lease(request.lease) {
            return Err(refusal::LEASE_NOT_FOUND);
        }
        self.keeps_something(&request)?;
        let mut changes = Vec::with_capacity(1);
        let response = self.write(request, &mut changes);
        self.commit(&changes);
        Ok((response, changes))
    }

    pub(crate) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> (DeleteRangeResponse, Vec<Change>) {
        let mut changes = Vec::new();
        let response = self.erase(request, &mut changes);
        self.commit(&changes);
        (response, changes)
    }

    /// Deletes these keys, as far as they are there, in one revision.
    pub(crate) fn delete_keys<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a Bytes>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in keys {
            self.erase_key(key, &mut changes);
        }
        self.commit(&changes);
        changes
    }

    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(refusal::COMPACTED);
        }
        if revision > self.revision {
            return Err(refusal::FUTURE_REVISION);
        }
        self.hashes.push_back(self.hash_as_of(revision));
        if self.hashes.len() > HASHES {
            self.hashes.pop_front();
        }
        self.compacted = revision;
        let mut freed = 0;
        self.keys.retain(|_, records| {
            // What was so at the revision stays; what happened at it, too: a watch from there is
            // still told.
            let newer = records.partition_point(|record| record.revision() <= revision);
            let happened = records.partition_point(|record| record.revision() < revision);
            let was = newer.saturating_sub(1);
            let gone = newer > 0 && records[was].is_deletion();
            let keep = if gone { happened } else { was.min(happened) };
            freed += records.drain(..keep).map(|record| record.size()).sum::<u64>();
            !records.is_empty()
        });
        self.size -= freed;
        let behind = self.log.partition_point(|record| record.revision() < revision);
        self.log.drain(..behind);
        Ok(())
    }

    /// All changes from this revision on, in their order.
    pub(crate) fn changes_from(&self, revision: i64) -> impl Iterator<Item = &Arc<Record>> {
        let first = self.log.partition_point(|record| record.revision() < revision);
        self.log.range(first..)
    }

    /// All changes of this key from this revision on.
    pub(crate) fn changes_of(&self, key: &[u8], revision: i64) -> &[Arc<Record>] {
        let records = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        &records[records.partition_point(|record| record.revision() < revision)..]
    }

    /// The key as it was before this change of it; nothing, if it was not there or the revision
    /// before is compacted.
    pub(crate) fn before(&self, record: &Record) -> Option<&Arc<Record>> {
        let revision = record.revision() - 1;
        if revision < self.compacted {
            return None;
        }
        self.keys.get(&record.kv.key).and_then(|records| at(records, revision))
    }

    /// The key as it is.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key).and_then(|records| at(records, i64::MAX)).map(|record| &record.kv)
    }

    /// The keys of the span as they were at a revision.
    fn living(&self, span: &Span, revision: i64) -> impl Iterator<Item = &Arc<Record>> {
        span.of(&self.keys).filter_map(move |(_, records)| at(records, revision))
    }

    /// The revision of what is read now, within a txn that made these changes.
    fn revision_with(&self, changes: &[Change]) -> i64 {
        self.revision + i64::from(!changes.is_empty())
    }

    fn commit(&mut self, changes: &[Change]) {
        self.revision = self.revision_with(changes);
    }

    /// A put that keeps the old value or lease needs one.
    fn keeps_something(&self, put: &PutRequest) -> Result<(), Refusal> {
        match (put.ignore_value || put.ignore_lease) && self.get(&put.key).is_none() {
            true => Err(refusal::KEY_NOT_FOUND),
            false => Ok(()),
        }
    }

    fn write(&mut self, put: PutRequest, changes: &mut Vec<Change>) -> PutResponse {
        let mod_revision = self.revision + 1;
        let records = match self.keys.get_mut(&put.key) {
            Some(records) => records,
            // A copy: the request's bytes are a part of the whole buffer it came in.
            None => self.keys.entry(Bytes::copy_from_slice(&put.key)).or_default(),
        };
        let old = at(records, i64::MAX).cloned();
        let kept = old.as_ref().map(|old| &old.kv);
        let kv = KeyValue {
            key: match records.last() {
                Some(last) => last.kv.key.clone(),
                None => Bytes::copy_from_slice(&put.key),
            },
            create_revision: kept.map_or(mod_revision, |kv| kv.create_revision),
            mod_revision,
            version: kept.map_or(0, |kv| kv.version) + 1,
            value: match put.ignore_value {
                true => kept.map(|kv| kv.value.clone()).unwrap_or_default(),
                false => Bytes::copy_from_slice(&put.value),
            },
            lease: match put.ignore_lease {
                true => kept.map_or(0, |kv| kv.lease),
                false => put.lease,
            },
        };
        let before = at(records, self.revision).cloned();
        let left_lease = kept.map_or(0, |kv| kv.lease);
        let record = Arc::new(Record { kv, sub: changes.len() as i64 });
        records.push(Arc::clone(&record));
        self.log.push_back(Arc::clone(&record));
        self.size += record.size();
        changes.push(Change { record, before, left_lease });
        PutResponse {
            header: header(mod_revision),
            prev_kv: old.filter(|_| put.prev_kv).map(|old| old.kv.clone()),
        }
    }

    fn erase(
        &mut self,
        request: &DeleteRangeRequest,
        changes: &mut Vec<Change>,
    ) -> DeleteRangeResponse {
        let span = Span::new(&request.key, &request.range_end);
        let living: Vec<Arc<Record>> = self.living(&span, i64::MAX).cloned().collect();
        for record in &living {
            self.erase_key(&record.kv.key, changes);
        }
        let shown = if request.prev_kv { &living[..] } else { &[] };
        DeleteRangeResponse {
            header: header(self.revision_with(changes)),
            deleted: living.len() as i64,
            prev_kvs: shown.iter().map(|record| record.kv.clone()).collect(),
        }
    }

    fn erase_key(&mut self, key: &Bytes, changes: &mut Vec<Change>) {
        let Some(records) = self.keys.get_mut(key) else { return };
        let Some(old) = at(records, i64::MAX) else { return };
        let (key, left_lease) = (old.kv.key.clone(), old.kv.lease);
        let kv = KeyValue { key, mod_revision: self.revision + 1, ..KeyValue::default() };
        let before = at(records, self.revision).cloned();
        let record = Arc::new(Record { kv, sub: changes.len() as i64 });
        records.push(Arc::clone(&record));
        self.log.push_back(Arc::clone(&record));
        self.size += record.size();
        changes.push(Change { record, before, left_lease });
    }
}

/// The key of these records as it was at a revision, if it was there.
fn at(records: &[Arc<Record>], revision: i64) -> Option<&Arc<Record>> {
    let last = match records.last() {
        // Nearly always the newest is asked for.
        Some(last) if last.revision() <= revision => last,
        _ => {
            let newer = records.partition_point(|record| record.revision() <= revision);
            records[..newer].last()?
        }
    };
    Some(last).filter(|record| !record.is_deletion())
}

/// A header; who answers is filled in where that is known.
#[expect(clippy::unnecessary_wraps, reason = "a field of a message is optional")]
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}
