//! All watches of the node, found by the keys they watch.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;

use super::watcher::Watcher;
use crate::store::{Change, Span};

/// All watches of the node, found by the keys they watch.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    keys: HashMap<Bytes, Vec<Arc<Watcher>>>,
    prefixes: HashMap<Bytes, Vec<Arc<Watcher>>>,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<usize, usize>,
    /// Watches of other ranges, few as a rule.
    others: Vec<Arc<Watcher>>,
    count: usize,
    /// Streams that watches may be on.
    pub(super) streams: usize,
}

impl Hub {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams
    }

    pub(super) fn add(&mut self, watcher: Arc<Watcher>) {
        self.count += 1;
        match (&watcher.span, watcher.span.prefix()) {
            (Span::One(key), _) => self.keys.entry(key.clone()).or_default().push(watcher),
            (_, Some(prefix)) => {
                let prefix = prefix.clone();
                let length = prefix.len();
                let same = self.prefixes.entry(prefix).or_default();
                if same.is_empty() {
                    *self.lengths.entry(length).or_default() += 1;
                }
                same.push(watcher);
            }
            _ => self.others.push(watcher),
        }
    }

    pub(super) fn remove(&mut self, watcher: &Arc<Watcher>) {
        let take = |watchers: &mut Vec<Arc<Watcher>>| {
            let at = watchers.iter().position(|other| Arc::ptr_eq(other, watcher));
            at.map(|at| watchers.swap_remove(at)).is_some()
        };
        let found = match (&watcher.span, watcher.span.prefix()) {
            (Span::One(key), _) => {
                let found = self.keys.get_mut(key).is_some_and(take);
                if self.keys.get(key).is_some_and(Vec::is_empty) {
                    self.keys.remove(key);
                }
                found
            }
            (_, Some(prefix)) => {
                let found = self.prefixes.get_mut(prefix).is_some_and(take);
                if self.prefixes.get(prefix).is_some_and(Vec::is_empty) {
                    self.prefixes.remove(prefix);
                    self.forget_length(prefix.len());
                }
                found
            }
            _ => take(&mut self.others),
        };
        self.count -= usize::from(found);
    }

    fn forget_length(&mut self, length: usize) {
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
    }

    /// Tells the changes of one revision, together, to all who are up to date and want some.
    pub(crate) fn publish(&self, revision: i64, changes: Vec<Change>) {
        let bytes = changes.iter().map(|change| change.record.size()).sum();
        let changes: Arc<[Change]> = changes.into();
        for Change { record, .. } in changes.iter() {
            self.matching(&record.kv.key, |watcher| {
                // Once told of the revision, it has it all.
                let waits = !watcher.is_behind() && watcher.next() <= revision;
                if waits && watcher.wants(record) {
                    watcher.queue.changes(watcher, revision, &changes, bytes);
                }
            });
        }
    }

    fn matching(&self, key: &[u8], mut found: impl FnMut(&Arc<Watcher>)) {
        self.keys.get(key).into_iter().flatten().for_each(&mut found);
        let prefixes = self.lengths.keys().map_while(|length| key.get(..*length));
        prefixes.filter_map(|prefix| self.prefixes.get(prefix)).flatten().for_each(&mut found);
        self.others.iter().filter(|watcher| watcher.span.contains(key)).for_each(&mut found);
    }
}
