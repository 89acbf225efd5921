//! A model of etcd's store and of one watch stream to it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::{Response, Spec, Transmit};
use crate::{Event, EventKind, KeyValue, Revision};

pub(super) fn key(name: u8) -> Bytes {
    Bytes::from(format!("k{name}"))
}

/// Keeps everything for the tests to compare with; `compacted` is what watches are held to.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    history: Vec<Event>,
    /// Create revision and version of the keys there are.
    keys: BTreeMap<u8, (i64, i64)>,
    /// Whether a watch created exactly at the compacted revision misses deletions made there,
    /// as in etcd 3.4.23.
    pub(super) defect: bool,
    /// Whether a watch that has still to be told of the past hears nothing of a compaction while
    /// another one's notice of it waits, as in etcd before 3.4.31 and 3.5.13 with 128 of them.
    pub(super) forgetful: bool,
}

impl Store {
    pub(super) fn new(defect: bool) -> Self {
        let (history, keys) = (Vec::new(), BTreeMap::new());
        Self { revision: 1, compacted: 0, history, keys, defect, forgetful: false }
    }

    /// One transaction: puts (true) and deletions of distinct keys.
    pub(super) fn write(&mut self, ops: &BTreeMap<u8, bool>) {
        let revision = self.revision + 1;
        for (&name, &put) in ops {
            let mut kv = KeyValue {
                key: key(name),
                mod_revision: Revision(revision),
                ..KeyValue::default()
            };
            if put {
                let (create, version) = self.keys.entry(name).or_insert((revision, 0));
                *version += 1;
                kv.create_revision = Revision(*create);
                kv.version = *version;
                kv.value = Bytes::from(revision.to_string());
            } else if self.keys.remove(&name).is_none() {
                continue;
            }
            let kind = if put { EventKind::Put } else { EventKind::Delete };
            self.history.push(Event { kind, kv, prev_kv: None });
            self.revision = revision;
        }
    }

    pub(super) fn put(&mut self, name: u8) {
        self.write(&BTreeMap::from([(name, true)]));
    }

    pub(super) fn delete(&mut self, name: u8) {
        self.write(&BTreeMap::from([(name, false)]));
    }

    pub(super) fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
    }

    /// What a watch sees of these revisions.
    pub(super) fn events(&self, spec: &Spec, from: i64, to: i64) -> Vec<Event> {
        let seen = |event: &&Event| {
            let key = &event.kv.key;
            let in_range = match spec.range_end.is_empty() {
                true => *key == spec.key,
                false => (&spec.key..&spec.range_end).contains(&key),
            };
            let wanted = match event.kind {
                EventKind::Put => !spec.no_put,
                EventKind::Delete => !spec.no_delete,
            };
            in_range && wanted && (from..=to).contains(&event.kv.mod_revision.0)
        };
        self.history.iter().filter(seen).cloned().collect()
    }
}

#[derive(Debug)]
struct Watcher {
    spec: Spec,
    /// The next revision to send.
    cursor: i64,
    /// Where it misses deletions.
    blind: Option<i64>,
    /// Whether it began in the past, and never came up with the present so far.
    behind: bool,
}

/// One stream: what is under way in both directions, and what the server keeps for it.
#[derive(Debug, Default)]
pub(super) struct Conn {
    pub(super) inbox: VecDeque<Transmit>,
    pub(super) outbox: VecDeque<Response>,
    watchers: BTreeMap<i64, Watcher>,
    /// The next creation is refused.
    pub(super) refuse: bool,
}

impl Conn {
    /// The server reads one message.
    pub(super) fn serve(&mut self, store: &Store) {
        let revision = store.revision;
        match self.inbox.pop_front() {
            Some(Transmit::Create { .. }) if std::mem::take(&mut self.refuse) => {
                let reason = "invalid auth token".into();
                let refusal = Response {
                    id: -1,
                    created: true,
                    canceled: true,
                    reason,
                    revision,
                    ..Response::default()
                };
                self.outbox.push_back(refusal);
            }
            Some(Transmit::Create { id, spec }) => {
                let cursor = if spec.start.0 == 0 { revision + 1 } else { spec.start.0 };
                let blind = (store.defect && cursor == store.compacted).then_some(cursor);
                let behind = cursor <= revision;
                self.watchers.insert(id, Watcher { spec, cursor, blind, behind });
                self.outbox.push_back(Response {
                    id,
                    created: true,
                    revision,
                    ..Response::default()
                });
            }
            Some(Transmit::Cancel { id }) if self.watchers.remove(&id).is_some() => {
                self.outbox.push_back(Response {
                    id,
                    canceled: true,
                    revision,
                    ..Response::default()
                });
            }
            Some(Transmit::Progress) if !self.watchers.is_empty() => {
                // As before 3.4.25 and 3.5.8: ahead of what unsynced watchers have still to get.
                self.outbox.push_back(Response { id: -1, revision, ..Response::default() });
            }
            Some(Transmit::Cancel { .. } | Transmit::Progress) | None => {}
        }
    }

    pub(super) fn ids(&self) -> Vec<i64> {
        self.watchers.keys().copied().collect()
    }

    pub(super) fn is_synced(&self, store: &Store) -> bool {
        self.watchers.values().all(|watcher| watcher.cursor > store.revision)
    }

    /// The server sends a watch the events of its next `span` revisions, in fragments of `size`
    /// events if the watch allows it.
    pub(super) fn sync(&mut self, store: &Store, id: i64, span: usize, size: usize) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        let told = self.outbox.iter().any(|it| it.compact_revision == store.compacted);
        if watcher.cursor < store.compacted && store.forgetful && watcher.behind && told {
            watcher.cursor = store.revision + 1;
        }
        if watcher.cursor < store.compacted {
            self.watchers.remove(&id);
            let compact_revision = store.compacted;
            let end = Response { id, canceled: true, compact_revision, ..Response::default() };
            return self.outbox.push_back(end);
        }
        let to = store.revision.min(watcher.cursor + span as i64 - 1);
        let mut events = store.events(&watcher.spec, watcher.cursor, to);
        let blind = watcher.blind;
        events
            .retain(|event| event.kind == EventKind::Put || Some(event.kv.mod_revision.0) != blind);
        watcher.cursor = watcher.cursor.max(to + 1);
        watcher.behind &= watcher.cursor <= store.revision;
        let size = if watcher.spec.fragment { size.max(1) } else { usize::MAX };
        let mut chunks = events.chunks(size).peekable();
        while let Some(chunk) = chunks.next() {
            let (events, fragment) = (chunk.to_vec(), chunks.peek().is_some());
            let revision = store.revision;
            self.outbox.push_back(Response {
                id,
                revision,
                events,
                fragment,
                ..Response::default()
            });
        }
    }

    /// The server tells a synced watch how far it is.
    pub(super) fn notify(&mut self, store: &Store, id: i64) {
        if self.watchers.get(&id).is_some_and(|watcher| watcher.cursor > store.revision) {
            self.outbox.push_back(Response { id, revision: store.revision, ..Response::default() });
        }
    }
}
