use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
};

use bytes::Bytes;
use tenure::wire::{
    etcdserverpb::{WatchCreateRequest, watch_create_request::FilterType},
    mvccpb::{Event, event::EventType},
};

use super::queue::Queue;
use crate::store::{Record, Span};

/// One watch of one stream. What changes of it changes under the node's lock.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: i64,
    pub(super) span: Span,
    pub(super) fragment: bool,
    no_puts: bool,
    no_deletes: bool,
    pub(super) prev_kv: bool,
    /// What it was asked to start at; 0 for now.
    start: i64,
    pub(super) queue: Arc<Queue>,
    /// It was handed all there is for it before this revision.
    next: AtomicI64,
    /// It missed changes, which its stream reads from history.
    behind: AtomicBool,
    /// Nothing was sent to it since somebody last asked.
    quiet: AtomicBool,
}

impl Watcher {
    pub(super) fn new(id: i64, create: &WatchCreateRequest, next: i64, queue: &Arc<Queue>) -> Self {
        let filters = |filter: FilterType| create.filters.contains(&(filter as i32));
        // etcd takes no key at all for the smallest there is.
        let first = Bytes::from_static(&[0]);
        let key = if create.key.is_empty() { &first } else { &create.key };
        Self {
            id,
            span: copied(&Span::new(key, &create.range_end)),
            fragment: create.fragment,
            no_puts: filters(FilterType::Noput),
            no_deletes: filters(FilterType::Nodelete),
            prev_kv: create.prev_kv,
            start: create.start_revision,
            queue: Arc::clone(queue),
            next: AtomicI64::new(next),
            behind: AtomicBool::new(false),
            quiet: AtomicBool::new(true),
        }
    }

    pub(super) fn next(&self) -> i64 {
        self.next.load(Relaxed)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Relaxed)
    }

    /// Whether it has all that happened up to this revision, which is not before the one it was
    /// to start at.
    pub(super) fn is_synced(&self, revision: i64) -> bool {
        !self.is_behind() && self.start <= revision
    }

    /// It was handed everything before this revision.
    pub(super) fn reached(&self, next: i64, behind: bool) {
        self.next.store(next, Relaxed);
        self.behind.store(behind, Relaxed);
    }

    /// Whether nothing was sent to it since the last time this was asked.
    pub(super) fn was_quiet(&self) -> bool {
        self.quiet.swap(true, Relaxed)
    }

    pub(super) fn heard(&self) {
        self.quiet.store(false, Relaxed);
    }

    pub(super) fn wants(&self, record: &Record) -> bool {
        let kind = if record.is_deletion() { !self.no_deletes } else { !self.no_puts };
        kind && self.span.contains(&record.kv.key)
    }

    /// A change as it is told to it.
    pub(super) fn event(&self, record: &Record, before: Option<&Arc<Record>>) -> Event {
        let r#type = match record.is_deletion() {
            true => EventType::Delete,
            false => EventType::Put,
        };
        // A key that was just created was nothing before, even if the same txn deleted it.
        let created = record.kv.create_revision == record.revision();
        let before = before.filter(|_| self.prev_kv && !created);
        Event {
            r#type: r#type as i32,
            kv: Some(record.kv.clone()),
            prev_kv: before.map(|before| before.kv.clone()),
        }
    }
}

/// What is kept must not hold on to the whole buffer that a request came in.
fn copied(span: &Span) -> Span {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    match span {
        Span::One(key) => Span::One(copy(key)),
        Span::Between(from, end) => Span::Between(copy(from), copy(end)),
        Span::From(from) => Span::From(copy(from)),
    }
}
