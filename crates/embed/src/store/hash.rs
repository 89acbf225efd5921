use prost::Message;
use tenure::wire::mvccpb::KeyValue;

use super::{Record, Store};
use crate::refusal::{self, Refusal};

/// What `HashKV` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash {
    pub(crate) hash: u32,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

impl Store {
    /// etcd's number for all records up to a revision, 0 for the current one: a CRC-32C over its
    /// bucket's name, and each record as its file has it.
    pub(crate) fn hash(&self, revision: i64) -> Result<KeyHash, Refusal> {
        if revision > self.revision {
            return Err(refusal::FUTURE_REVISION);
        }
        let revision = if revision == 0 { self.revision } else { revision };
        if revision < self.compacted {
            return Err(refusal::COMPACTED);
        }
        // Each compaction takes the hash of what it is about to thin out, and etcd answers with
        // that when it is asked for the revision again.
        let taken = self.hashes.iter().find(|taken| taken.revision == revision);
        Ok(taken.copied().unwrap_or_else(|| self.hash_as_of(revision)))
    }

    pub(super) fn hash_as_of(&self, revision: i64) -> KeyHash {
        let mut records: Vec<&Record> =
            self.keys.values().flatten().map(|record| &**record).collect();
        records.retain(|record| record.revision() <= revision);
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
