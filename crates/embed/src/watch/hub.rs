//! Who watches what, and the changes on their way to them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    task::{Context, Waker},
};

use bytes::Bytes;
use tenure::wire::{
    etcdserverpb::{WatchCreateRequest, WatchResponse, watch_create_request::FilterType},
    mvccpb::{Event, event::EventType},
};

use crate::store::{Change, Record, Span};

/// So many batches may wait in a stream. A watch with more to come reads them from the store's
/// history instead, once these are sent.
const WAITING: usize = 1024;

/// One watch of one stream.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) id: i64,
    pub(crate) span: Span,
    pub(crate) fragment: bool,
    no_puts: bool,
    no_deletes: bool,
    pub(crate) prev_kv: bool,
    queue: Arc<Queue>,
    /// The first revision whose changes were not handed to it.
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

    /// Whether it has all that happened up to this revision, and waits for no later one.
    pub(super) fn is_synced(&self, revision: i64) -> bool {
        !self.is_behind() && self.next() <= revision + 1
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
        if record.is_deletion() { !self.no_deletes } else { !self.no_puts }
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

/// A change as it is told to one watch.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) record: Arc<Record>,
    pub(crate) before: Option<Arc<Record>>,
}

impl Told {
    pub(super) fn event(&self) -> Event {
        let r#type = match self.record.is_deletion() {
            true => EventType::Delete,
            false => EventType::Put,
        };
        Event {
            r#type: r#type as i32,
            kv: Some(self.record.kv.clone()),
            prev_kv: self.before.as_ref().map(|before| before.kv.clone()),
        }
    }
}

/// What a stream is to send.
#[derive(Debug)]
pub(super) enum Item {
    /// An answer to a request.
    Answer(WatchResponse),
    /// Changes, whole revisions of them.
    Changes { watcher: Arc<Watcher>, revision: i64, told: Vec<Told> },
}

/// What waits to be sent on a stream.
#[derive(Debug, Default)]
pub(crate) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    behind: Vec<Arc<Watcher>>,
    waker: Option<Waker>,
}

/// What a stream does next.
#[derive(Debug)]
pub(super) enum Next {
    Send(Item),
    /// These watches are to be brought up to date from history.
    CatchUp(Vec<Arc<Watcher>>),
    Wait,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next(&self, context: &Context<'_>) -> Next {
        let mut waiting = self.lock();
        if let Some(item) = waiting.items.pop_front() {
            return Next::Send(item);
        }
        if !waiting.behind.is_empty() {
            return Next::CatchUp(std::mem::take(&mut waiting.behind));
        }
        waiting.waker = Some(context.waker().clone());
        Next::Wait
    }

    /// Whether so much waits that no more requests should be read.
    pub(super) fn is_full(&self) -> bool {
        self.lock().items.len() >= WAITING
    }

    pub(super) fn answer(&self, response: WatchResponse) {
        self.push(|waiting| waiting.items.push_back(Item::Answer(response)));
    }

    pub(super) fn catch_up(&self, watcher: Arc<Watcher>) {
        self.push(|waiting| waiting.behind.push(watcher));
    }

    fn changes(&self, watcher: &Arc<Watcher>, revision: i64, told: Vec<Told>) {
        self.push(|waiting| {
            let watcher = Arc::clone(watcher);
            if waiting.items.len() < WAITING {
                watcher.reached(revision + 1, false);
                waiting.items.push_back(Item::Changes { watcher, revision, told });
            } else {
                watcher.reached(revision, true);
                waiting.behind.push(watcher);
            }
        });
    }

    fn push(&self, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.lock();
        add(&mut waiting);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

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

    /// Tells the changes of one revision to all who are up to date and want them.
    pub(crate) fn publish(&self, revision: i64, changes: &[Change]) {
        if let [change] = changes {
            self.matching(&change.record.kv.key, |watcher| {
                if let Some(told) = tell(watcher, revision, change) {
                    watcher.queue.changes(watcher, revision, vec![told]);
                }
            });
            return;
        }
        // All changes of a revision go out together.
        let mut batches: Vec<(Arc<Watcher>, Vec<Told>)> = Vec::new();
        let mut places: HashMap<*const Watcher, usize> = HashMap::new();
        for change in changes {
            self.matching(&change.record.kv.key, |watcher| {
                let Some(told) = tell(watcher, revision, change) else { return };
                let place = *places.entry(Arc::as_ptr(watcher)).or_insert_with(|| {
                    batches.push((Arc::clone(watcher), Vec::new()));
                    batches.len() - 1
                });
                batches[place].1.push(told);
            });
        }
        for (watcher, told) in batches {
            watcher.queue.changes(&watcher, revision, told);
        }
    }

    fn matching(&self, key: &[u8], mut found: impl FnMut(&Arc<Watcher>)) {
        self.keys.get(key).into_iter().flatten().for_each(&mut found);
        let prefixes = self.lengths.keys().map_while(|length| key.get(..*length));
        prefixes.filter_map(|prefix| self.prefixes.get(prefix)).flatten().for_each(&mut found);
        self.others.iter().filter(|watcher| watcher.span.contains(key)).for_each(&mut found);
    }
}

fn tell(watcher: &Watcher, revision: i64, change: &Change) -> Option<Told> {
    if watcher.is_behind() || revision < watcher.next() || !watcher.wants(&change.record) {
        return None;
    }
    let before = if watcher.prev_kv { change.before.clone() } else { None };
    Some(Told { record: Arc::clone(&change.record), before })
}
