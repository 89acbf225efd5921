use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tenure_core::{EtcdError, Key, KeyRange, KeyValue, Revision};

use super::{Isolation, Stm, attempt::Attempt};
use crate::{
    error::{ErrorKind, Result},
    ops::{Get, GetResponse, IntoValue, OpResponse, Put, Txn, check_range, other_kind},
};

/// The store as a transaction sees it, its own writes included. Nothing is written before it is
/// committed.
///
/// Of no use any more once the closure that it was given to is over.
pub struct View {
    stm: Stm,
    attempt: Arc<Mutex<Attempt>>,
}

impl View {
    pub(super) fn new(stm: &Stm, attempt: &Arc<Mutex<Attempt>>) -> Self {
        Self { stm: stm.clone(), attempt: Arc::clone(attempt) }
    }

    /// The value of a key; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty key, else those of [`Client::get`](crate::Client::get); but
    /// `Compacted` begins the transaction anew, whatever the closure makes of it.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>> {
        let key = key.into().into_bytes();
        if let Some(value) = self.attempt()?.written(&key) {
            return Ok(value);
        }
        self.read(vec![KeyRange::key(&key)]).await?;
        Ok(self.attempt()?.value(&key))
    }

    /// The values of several keys, read with one call. Errors are those of [`get`](Self::get).
    pub async fn get_many(
        &self,
        keys: impl IntoIterator<Item = impl Into<Key>>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<_> = keys.into_iter().map(|key| key.into().into_bytes()).collect();
        let unwritten = {
            let attempt = self.attempt()?;
            let keys = keys.iter().filter(|key| attempt.written(key).is_none());
            keys.map(KeyRange::from).collect()
        };
        self.read(unwritten).await?;
        let attempt = self.attempt()?;
        Ok(keys.iter().map(|key| attempt.value(key)).collect())
    }

    /// A key as it is in the store, with its revisions, version and lease: without what this
    /// transaction writes. Errors are those of [`get`](Self::get).
    pub async fn stored(&self, key: impl Into<Key>) -> Result<Option<KeyValue>> {
        let key = key.into().into_bytes();
        self.read(vec![KeyRange::key(&key)]).await?;
        Ok(self.attempt()?.reads.key(&key).flatten().cloned())
    }

    /// The keys of a range, and their values, in the order of the keys.
    ///
    /// A key that others make in this range, change or delete is a conflict. Each key that is there
    /// counts towards [`max_ops`](super::Stm::max_ops) when something is written.
    ///
    /// Errors are those of [`get`](Self::get).
    pub async fn range(&self, range: impl Into<KeyRange>) -> Result<Vec<(Bytes, Bytes)>> {
        let range = range.into();
        self.read(vec![range.clone()]).await?;
        Ok(self.attempt()?.values(&range))
    }

    /// Writes a key.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty key, or a value that cannot be written.
    pub fn put(&self, key: impl Into<Key>, value: impl IntoValue) -> Result<()> {
        self.write(Put::new(key, value.into_value()?))
    }

    /// Writes a key with the options of a [`Put`], such as its lease. What the key was before is
    /// not told, whatever the put asks for.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty key, or a put that [keeps the value](crate::KeepValue): a
    /// transaction gets it.
    pub fn write(&self, put: Put) -> Result<()> {
        check_range("put", &KeyRange::key(&put.key))?;
        self.attempt()?.put(put)
    }

    /// Deletes a key. It need not be there.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty key.
    pub fn delete(&self, key: impl Into<Key>) -> Result<()> {
        let key = key.into();
        check_range("delete", &KeyRange::from(key.clone()))?;
        self.attempt()?.delete(key.into_bytes());
        Ok(())
    }

    fn attempt(&self) -> Result<MutexGuard<'_, Attempt>> {
        // Nothing in here can panic while it is held.
        let attempt = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        attempt.check_open()?;
        Ok(attempt)
    }

    /// Has all of this read.
    async fn read(&self, wanted: Vec<KeyRange>) -> Result<()> {
        wanted.iter().try_for_each(|range| check_range("get", range))?;
        if let Some(first) = wanted.first().filter(|range| range.is_single_key()) {
            self.queue(first.start()).await?;
        }
        loop {
            let (missing, at, isolation) = {
                let mut attempt = self.attempt()?;
                (attempt.missing(&wanted, self.stm.max_ops.max(1)), attempt.at, attempt.isolation)
            };
            if missing.is_empty() {
                return Ok(());
            }
            let (seen, answers) = self.ask(&missing, at, isolation).await?;
            self.attempt()?.learn(at, seen, missing.into_iter().zip(answers));
        }
    }

    /// Waits for a turn before the first read, if others of this client change what it reads.
    async fn queue(&self, key: &Bytes) -> Result<()> {
        if !self.attempt()?.may_queue() {
            return Ok(());
        }
        let Some(lane) = self.stm.lane(key) else { return Ok(()) };
        let Some(turn) = lane.turn(&self.stm.client).await else { return Ok(()) };
        self.attempt()?.take_turn(key.clone(), turn);
        Ok(())
    }

    async fn ask(
        &self,
        ranges: &[KeyRange],
        at: Revision,
        isolation: Isolation,
    ) -> Result<(Revision, Vec<GetResponse>)> {
        // Of one revision every member says the same, and without a snapshot any will do.
        let local = at != Revision::NONE || !isolation.has_snapshot();
        let answer = match self.get_all(ranges, at, local).await {
            // This member is behind the one that told the revision.
            Err(error) if local && error.etcd_error() == Some(EtcdError::FutureRevision) => {
                self.get_all(ranges, at, false).await
            }
            answer => answer,
        };
        answer.inspect_err(|error| {
            if let (ErrorKind::Compacted, Ok(mut attempt)) = (error.kind(), self.attempt()) {
                attempt.compacted = Some(error.clone());
            }
        })
    }

    async fn get_all(
        &self,
        ranges: &[KeyRange],
        at: Revision,
        local: bool,
    ) -> Result<(Revision, Vec<GetResponse>)> {
        let get = |range: &KeyRange| {
            let get = Get::new(range.clone()).revision(at);
            if local { get.serializable() } else { get }
        };
        if let [single] = ranges {
            let answer = self.stm.client.execute(get(single)).await?;
            let answer = answer.into_get().ok_or_else(other_kind)?;
            return Ok((answer.header.revision, vec![answer]));
        }
        let gets = ranges.iter().map(get);
        let answer = self.stm.client.execute(Txn::new().and_then(gets)).await?;
        let answer = answer.into_txn().ok_or_else(other_kind)?;
        let answers = answer.responses.into_iter().map(OpResponse::into_get);
        let answers = answers.collect::<Option<Vec<_>>>().ok_or_else(other_kind)?;
        if answers.len() != ranges.len() {
            return Err(other_kind());
        }
        Ok((answer.header.revision, answers))
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}
