use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tenure::wire::mvccpb::KeyValue;

use super::{Record, Span, Store, at};
use crate::refusal::{self, Refusal};

/// What `HashKV` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash {
    pub(crate) hash: u32,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

impl Store {
    /// etcd's number for what there is up to a revision, 0 for the current one: a CRC-32C over its
    /// bucket's name, and each record as its file has it.
    pub(crate) fn hash(&self, revision: i64) -> Result<KeyHash, Refusal> {
        if revision > self.revision {
            return Err(refusal::FUTURE_REVISION);
        }
        if revision != 0 && revision < self.compacted {
            return Err(refusal::COMPACTED);
        }
        // Each compaction takes the hash of what it is about to thin out, and etcd answers with
        // that when it is asked for the revision again: as it was asked for, 0 too.
        let taken = self.hashes.iter().find(|taken| taken.revision == revision);
        let current = if revision == 0 { self.revision } else { revision };
        Ok(taken.copied().unwrap_or_else(|| self.hash_as_of(current)))
    }

    /// Of what is compacted only that counts which the keys were as of the revision, if any was:
    /// etcd may have thinned out the rest, or not yet.
    pub(super) fn hash_as_of(&self, revision: i64) -> KeyHash {
        let none = self.living(&Span::From(Bytes::new()), revision).next().is_none();
        let counts = |records: &[Arc<Record>], record: &Arc<Record>| {
            let lives = || at(records, revision).is_some_and(|newest| Arc::ptr_eq(newest, record));
            record.revision() > self.compacted || none || lives()
        };
        let mut records: Vec<&Record> = Vec::new();
        for of_key in self.keys.values() {
            let past = of_key.iter().take_while(|record| record.revision() <= revision);
            records.extend(past.filter(|record| counts(of_key, record)).map(|record| &**record));
        }
        records.sort_unstable_by_key(|record| (record.revision(), record.sub));
        let hash = records.iter().fold(crc32c::crc32c(b"key"), |hash, record| {
            let (key, value) = stored(record);
            crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value)
        });
        KeyHash { hash, revision, compacted: self.compacted }
    }
}

/// The record as a key and a value of etcd's file.
fn stored(record: &Record) -> (Vec<u8>, Vec<u8>) {
    let mut key = Vec::with_capacity(18);
    key.extend(record.revision().to_be_bytes());
    key.push(b'_');
    key.extend(record.sub.to_be_bytes());
    if record.is_deletion() {
        key.push(b't');
        let deleted = KeyValue { key: record.kv.key.clone(), ..KeyValue::default() };
        return (key, deleted.encode_to_vec());
    }
    (key, record.kv.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use tenure::wire::etcdserverpb::{DeleteRangeRequest, PutRequest};

    use super::super::Store;

    fn put(store: &mut Store, key: &'static str, value: &'static str) {
        let put = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        store.put(put, &|_| false).unwrap();
    }

    fn hash(store: &Store, revision: i64) -> (u32, i64) {
        let hash = store.hash(revision).unwrap();
        (hash.hash, hash.compacted)
    }

    /// The numbers are those of etcd 3.5.30.
    #[test]
    fn hashes_across_compactions_are_those_of_etcd() {
        let mut store = Store::default();
        put(&mut store, "a", "1");
        store.compact(2).unwrap();
        put(&mut store, "a", "2");
        assert_eq!(hash(&store, 0), (1_483_641_527, 2));
        put(&mut store, "a", "3");
        store.compact(4).unwrap();
        assert_eq!(hash(&store, 4).0, 4_016_893_682);
        assert_eq!(hash(&store, 0), (1_619_834_972, 4));
        store.delete_range(&DeleteRangeRequest { key: "a".into(), ..Default::default() });
        store.compact(5).unwrap();
        put(&mut store, "b", "1");
        assert_eq!(hash(&store, 0).0, 612_167_410);
    }
}
