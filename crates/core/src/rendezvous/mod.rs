//! Who has come to a double barrier, and whether all have: from what one watch tells.
//!
//! Each member puts a key under one prefix. Once as many as are awaited are there, one of them
//! puts a ready key, and the round begins for those who came before it. Whoever wants to leave
//! deletes its key, and leaves once every other of the round is gone.
//!
//! Everything rests on create revisions: a ready key names the last that was needed, and is of those
//! who came up to then, and of nobody else. So one that was left behind lets nobody in.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Event, EventKind, KeyValue, Revision};

/// How a member stands at its barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// So many are still to come.
    Waiting {
        /// How many.
        missing: usize,
    },
    /// All are there, and it is this one's part to say so: to put the ready key, with the round in
    /// it, if all of these keys, each created at its revision, are still there.
    Complete(Vec<(Bytes, Revision)>),
    /// The round has begun.
    Inside,
    /// As many as are awaited were there before.
    Full,
    /// The member's own key is gone.
    Gone,
}

/// The member's own key.
#[derive(Clone, Debug)]
struct Own {
    key: Bytes,
    created: Revision,
}

/// The keys of one double barrier, as one member sees them.
///
/// Tell it a listing of all keys, then the events after it; it skips what it has seen.
#[derive(Debug)]
pub struct Rendezvous {
    ready_key: Bytes,
    /// What the keys of members begin with.
    prefix: Bytes,
    parties: usize,
    own: Own,
    /// Everything up to here is known.
    revision: Revision,
    members: BTreeMap<Bytes, Revision>,
    ready: Option<Ready>,
    /// The last round of which anything was heard. Its ready key may be gone before its members
    /// are, who still do not count for the next.
    last: Revision,
    /// The round that the member is in, by when its last member was created.
    round: Option<Revision>,
}

/// The ready key as it is now.
#[derive(Clone, Copy, Debug)]
struct Ready {
    modified: Revision,
    /// Whoever was created up to this is in.
    round: Revision,
}

impl Ready {
    /// Go's recipe writes no round: then everybody is in who was there when the key was put.
    fn of(kv: &KeyValue) -> Self {
        let modified = kv.mod_revision;
        let written = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
        let round = written.map_or(modified, |round| modified.min(Revision(round)));
        Self { modified, round }
    }
}

impl Rendezvous {
    /// A barrier for `parties`, with a ready key and members under a prefix, as the one sees it
    /// whose own key was created at a revision.
    pub fn new(
        ready_key: Bytes,
        prefix: Bytes,
        parties: usize,
        own: Bytes,
        created: Revision,
    ) -> Self {
        Self {
            ready_key,
            prefix,
            parties,
            own: Own { key: own, created },
            revision: Revision::NONE,
            members: BTreeMap::new(),
            ready: None,
            last: Revision::NONE,
            round: None,
        }
    }

    /// Takes in all keys as of a revision.
    pub fn handle_listing(&mut self, revision: Revision, kvs: &[KeyValue]) {
        if revision < self.revision {
            return;
        }
        self.revision = revision;
        self.members.clear();
        self.ready = None;
        for kv in kvs {
            self.put(kv);
        }
    }

    /// Takes in what happened, all of each revision.
    pub fn handle_events(&mut self, events: &[Event]) {
        let known = self.revision;
        for event in events.iter().filter(|event| event.kv.mod_revision > known) {
            self.revision = self.revision.max(event.kv.mod_revision);
            match event.kind {
                EventKind::Put => self.put(&event.kv),
                EventKind::Delete if event.kv.key == self.ready_key => self.ready = None,
                EventKind::Delete => drop(self.members.remove(&event.kv.key)),
            }
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        if kv.key.starts_with(&self.prefix) {
            self.members.insert(kv.key.clone(), kv.create_revision);
        }
        if kv.key != self.ready_key {
            return;
        }
        let ready = Ready::of(kv);
        self.ready = Some(ready);
        self.last = self.last.max(ready.round);
        // Of what is deleted again it has been told all the same.
        if self.own.created <= ready.round {
            self.round.get_or_insert(ready.round);
        }
    }

    /// How the member stands as of what is known.
    pub fn standing(&self) -> Standing {
        if self.is_gone() {
            return Standing::Gone;
        }
        if self.round.is_some() {
            return Standing::Inside;
        }
        let older = self.members.values().filter(|created| **created < self.own.created).count();
        if older >= self.parties {
            return Standing::Full;
        }
        // Those of the last round have to be gone before the next one can begin.
        let mut fresh: Vec<_> = self
            .members
            .iter()
            .filter(|(_, created)| **created > self.last)
            .map(|(key, created)| (key.clone(), *created))
            .collect();
        fresh.sort_by_key(|(_, created)| *created);
        fresh.truncate(self.parties);
        match fresh.last() {
            Some((key, _)) if fresh.len() == self.parties && *key == self.own.key => {
                Standing::Complete(fresh)
            }
            _ => Standing::Waiting { missing: self.parties - fresh.len() },
        }
    }

    /// The round that the member is in, by when the last of it was created.
    pub fn round(&self) -> Option<Revision> {
        self.round
    }

    /// Whether the member's key was there, and is not any more.
    pub fn is_gone(&self) -> bool {
        self.members.get(&self.own.key) != Some(&self.own.created)
    }

    /// The ready key as of what is known, by its last put; none if it is not there.
    pub fn ready(&self) -> Revision {
        self.ready.map_or(Revision::NONE, |ready| ready.modified)
    }

    /// How many others of the member's round are there.
    pub fn others(&self) -> usize {
        let round = self.round.unwrap_or(Revision::NONE);
        let of_it = self
            .members
            .iter()
            .filter(|(key, created)| **created <= round && **key != self.own.key);
        of_it.count()
    }

    /// The round, if its ready key went with the lease of whoever put it while others may still
    /// have to see it: somebody inside has to put it again.
    pub fn unannounced(&self) -> Option<Revision> {
        let needed = self.ready.is_none() && !self.is_gone() && self.others() > 0;
        self.round.filter(|_| needed)
    }
}
