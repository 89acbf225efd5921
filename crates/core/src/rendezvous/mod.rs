//! Who has come to a double barrier, and whether all have: from what one watch tells.
//!
//! Each member puts a key under one prefix. Once as many as are awaited are there, one of them
//! puts a ready key, and beside the key of each a mark that it is in: the round has begun. Whoever
//! wants to leave deletes its key and its mark, and leaves once every other of the round is gone.
//!
//! A ready key goes with whoever put it. A mark goes with its member, so that nobody who is in
//! counts for the next round.
//!
//! Everything rests on create revisions: a ready key names the last that was needed, and is of those
//! who came up to then, and of nobody else. So one that was left behind lets nobody in.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Event, EventKind, KeyValue, LeaseId, Revision};

/// How a member stands at its barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// So many are still to come.
    Waiting {
        /// How many.
        missing: usize,
    },
    /// All are there, and it is this one's part to say so: to put the ready key and the marks, with
    /// the round in them, if all of these are still there.
    Complete(Vec<Member>),
    /// The round has begun.
    Inside,
    /// As many as are awaited were there before.
    Full,
    /// The member's own key is gone.
    Gone,
}

/// What keys of a double barrier begin with.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The ready key itself.
    pub ready: Bytes,
    /// Those of members.
    pub members: Bytes,
    /// Their marks, which end as they do.
    pub marks: Bytes,
}

/// A member that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its key.
    pub key: Bytes,
    /// When that was put.
    pub created: Revision,
    /// The lease that it has, if it has one.
    pub lease: Option<LeaseId>,
}

/// The member's own key.
#[derive(Clone, Debug)]
struct Own {
    key: Bytes,
    created: Revision,
}

/// The keys of one double barrier, as one member sees them.
///
/// Tell it a listing of all keys, then the events after it; it skips what it has seen. Until it has
/// come to where the own key was created, the member waits.
#[derive(Debug)]
pub struct Rendezvous {
    keys: Keys,
    parties: usize,
    own: Own,
    /// Everything up to here is known.
    revision: Revision,
    members: BTreeMap<Bytes, Member>,
    /// When each mark was put, by what its key ends with.
    marks: BTreeMap<Bytes, Revision>,
    ready: Option<Ready>,
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
    /// A barrier for `parties`, as the one sees it whose own key was created at a revision.
    pub fn new(keys: Keys, parties: usize, own: Bytes, created: Revision) -> Self {
        Self {
            keys,
            parties,
            own: Own { key: own, created },
            revision: Revision::NONE,
            members: BTreeMap::new(),
            marks: BTreeMap::new(),
            ready: None,
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
        self.marks.clear();
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
                EventKind::Delete => self.delete(&event.kv.key),
            }
        }
    }

    fn delete(&mut self, key: &Bytes) {
        if *key == self.keys.ready {
            self.ready = None;
        } else if let Some(name) = key.strip_prefix(&self.keys.marks[..]) {
            self.marks.remove(name);
        } else {
            self.members.remove(key);
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        if let Some(name) = kv.key.strip_prefix(&self.keys.marks[..]) {
            self.marks.insert(kv.key.slice_ref(name), kv.mod_revision);
            if self.own.key.strip_prefix(&self.keys.members[..]) == Some(name) {
                self.begins(Ready::of(kv));
            }
        } else if kv.key == self.keys.ready {
            let ready = Ready::of(kv);
            self.ready = Some(ready);
            self.begins(ready);
        } else if kv.key.starts_with(&self.keys.members) {
            let (created, lease) = (kv.create_revision, kv.lease);
            self.members.insert(kv.key.clone(), Member { key: kv.key.clone(), created, lease });
        }
    }

    /// Of what is deleted again it has been told all the same.
    fn begins(&mut self, ready: Ready) {
        if self.own.created <= ready.round {
            self.round.get_or_insert(ready.round);
        }
    }

    /// Whether it is in a round.
    fn is_marked(&self, member: &Member) -> bool {
        let name = member.key.strip_prefix(&self.keys.members[..]);
        let marked = name.and_then(|name| self.marks.get(name));
        marked.is_some_and(|marked| *marked > member.created)
    }

    /// How the member stands as of what is known.
    pub fn standing(&self) -> Standing {
        if self.is_gone() {
            return Standing::Gone;
        }
        if self.round.is_some() {
            return Standing::Inside;
        }
        let older = self.members.values().filter(|it| it.created < self.own.created).count();
        if self.has_begun() && older >= self.parties {
            return Standing::Full;
        }
        // Those of the last round have to be gone before the next one can begin.
        let last = self.ready.map_or(Revision::NONE, |ready| ready.round);
        let is_fresh = |member: &&Member| member.created > last && !self.is_marked(member);
        let mut fresh: Vec<_> = self.members.values().filter(is_fresh).cloned().collect();
        fresh.sort_by_key(|member| member.created);
        fresh.truncate(self.parties);
        match fresh.last() {
            Some(last) if fresh.len() == self.parties && last.key == self.own.key => {
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
        let created = self.members.get(&self.own.key).map(|own| own.created);
        self.has_begun() && created != Some(self.own.created)
    }

    fn has_begun(&self) -> bool {
        self.revision >= self.own.created
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
            .values()
            .filter(|member| member.created <= round && member.key != self.own.key);
        of_it.count()
    }
}
