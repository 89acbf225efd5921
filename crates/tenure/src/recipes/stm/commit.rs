//! The end of an attempt: one transaction that writes everything, or tells what others changed.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tenure_core::{
    KeyRange, Revision,
    stm::{Reads, Snapshot},
};

use super::attempt::{Attempt, Turns};
use crate::{
    client::Client,
    error::{Error, Result},
    ops::{Compare, Get, GetResponse, OpResponse, Txn, TxnResponse, other_kind},
};

pub(super) enum Commit {
    Done,
    Conflict(Conflict),
}

/// What others did meanwhile.
pub(super) struct Conflict {
    /// What the transaction would have read now.
    pub(super) snapshot: Snapshot,
    /// The keys that were changed.
    pub(super) changed: BTreeSet<Bytes>,
    /// The keys that are worth a turn: those, and what the transaction writes.
    pub(super) wanted: BTreeSet<Bytes>,
    pub(super) turns: Turns,
}

impl Attempt {
    /// Commits it, with one call at most.
    pub(super) async fn commit(self, client: &Client, max_ops: usize) -> Result<Commit> {
        if self.is_proven() {
            self.pass_on(Revision::NONE);
            return Ok(Commit::Done);
        }
        let txn = self.txn();
        let most = txn.compares.len().max(txn.and_then.len()).max(txn.or_else.len());
        if most > max_ops {
            let rule = format!("{most} operations or conditions at once, above {max_ops}");
            return Err(Error::invalid("transaction", rule));
        }
        let answer = client.execute(txn).await?.into_txn().ok_or_else(other_kind)?;
        if answer.succeeded {
            self.pass_on(answer.header.revision);
            return Ok(Commit::Done);
        }
        self.conflict(answer).map(Commit::Conflict)
    }

    /// Whether it stands without a word of the server: it changes nothing, and what it saw was all
    /// of one revision, or need not be.
    fn is_proven(&self) -> bool {
        let isolation = self.isolation;
        let as_of_one = isolation.has_snapshot() || !isolation.checks_reads();
        self.writes.is_empty() && (as_of_one || self.reads.is_empty())
    }

    fn txn(&self) -> Txn {
        let writes = self.writes.iter().map(|(key, write)| write.op(key));
        let txn = Txn::new().and_then(writes);
        if !self.isolation.checks_reads() {
            return txn;
        }
        let read = self.rereads().map(Get::new);
        let blind = self.guarded().map(|key| Get::new(key).keys_only());
        txn.when(self.compares()).or_else(read.chain(blind))
    }

    /// That nothing happened to what was read, and to what is written since the snapshot.
    fn compares(&self) -> Vec<Compare> {
        let same = |key: &Bytes, revision| Compare::mod_revision(key).equal(revision);
        let mut compares: Vec<_> = self
            .reads
            .keys()
            .map(|(key, kv)| same(key, kv.map_or(Revision::NONE, |kv| kv.mod_revision)))
            .collect();
        for read in self.reads.ranges() {
            // Keys that came, or were changed, have a younger change; that none is gone must be
            // seen one by one.
            let range = read.range.clone();
            compares.push(Compare::mod_revision(range).less(read.revision.next()));
            compares.extend(read.kvs.iter().map(|kv| same(&kv.key, kv.mod_revision)));
        }
        let next = self.at.next();
        compares.extend(self.guarded().map(|key| Compare::mod_revision(key).less(next)));
        compares
    }

    /// Everything that was read.
    fn rereads(&self) -> impl Iterator<Item = KeyRange> {
        let keys = self.reads.keys().map(|(key, _)| KeyRange::key(key));
        keys.chain(self.reads.ranges().map(|read| read.range.clone()))
    }

    /// The keys that are written without having been read, and yet must not have been changed
    /// since the snapshot. Whoever read nothing has none.
    fn guarded(&self) -> impl Iterator<Item = &Bytes> {
        let guards = self.isolation.guards_writes() && self.at != Revision::NONE;
        self.writes.keys().filter(move |key| guards && self.reads.key(key).is_none())
    }

    fn conflict(self, answer: TxnResponse) -> Result<Conflict> {
        let revision = answer.header.revision;
        let gets: Option<Vec<GetResponse>> =
            answer.responses.into_iter().map(OpResponse::into_get).collect();
        let mut gets = gets.ok_or_else(other_kind)?.into_iter();
        let mut now = Reads::default();
        for range in self.rereads() {
            let get = gets.next().ok_or_else(other_kind)?;
            now.add(range, revision, get.kvs);
        }
        let mut changed = self.reads.changes(&now);
        for key in self.guarded() {
            let kv = gets.next().ok_or_else(other_kind)?.into_kv();
            if kv.is_some_and(|kv| kv.mod_revision > self.at) {
                changed.insert(key.clone());
            }
        }
        let wanted = self.writes.keys().chain(&changed).cloned().collect();
        let snapshot = Snapshot { revision, reads: now };
        Ok(Conflict { snapshot, changed, wanted, turns: self.turns })
    }

    /// Ends its turns, and leaves to the next ones what they would read now.
    fn pass_on(self, committed: Revision) {
        let Self { turns, writes, reads, .. } = self;
        if turns.is_empty() {
            return;
        }
        let snapshot = (!writes.is_empty()).then(|| {
            let mut after = Reads::default();
            for (key, kv) in reads.keys() {
                let kv = match writes.get(key) {
                    Some(write) => write.after(key, kv, committed),
                    None => kv.cloned(),
                };
                after.add(KeyRange::key(key), committed, kv.into_iter().collect());
            }
            Arc::new(Snapshot { revision: committed, reads: after })
        });
        for (key, turn) in turns {
            turn.pass(writes.contains_key(&key), snapshot.clone());
        }
    }
}
