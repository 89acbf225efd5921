use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use tenure::wire::etcdserverpb::WatchResponse;

use super::watcher::Watcher;
use crate::store::Change;

/// So much may wait in a stream, in pieces and in bytes. A watch with more to come reads it from
/// the store's history, when these are sent.
const WAITING: usize = 16 * 1024;
const WAITING_BYTES: u64 = 16 << 20;

/// What a stream is to send, in this order.
#[derive(Debug)]
pub(super) enum Item {
    /// An answer to a request.
    Answer(WatchResponse),
    /// All changes of a revision, of which the watch wants some.
    Changes { watcher: Arc<Watcher>, revision: i64, changes: Arc<[Change]>, bytes: u64 },
    /// The watch reads a piece of the history that it missed.
    CatchUp(Arc<Watcher>),
}

/// What waits to be sent on a stream.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    bytes: u64,
    waker: Option<Waker>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next to send; without one, the task is woken when there is.
    pub(super) fn next(&self, context: &Context<'_>) -> Option<Item> {
        let mut waiting = self.lock();
        let item = waiting.items.pop_front();
        match &item {
            Some(Item::Changes { bytes, .. }) => waiting.bytes -= bytes,
            Some(_) => {}
            None => waiting.waker = Some(context.waker().clone()),
        }
        item
    }

    /// Whether so much waits that no more requests should be read.
    pub(super) fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    pub(super) fn answer(&self, response: WatchResponse) {
        self.push(|waiting| waiting.items.push_back(Item::Answer(response)));
    }

    pub(super) fn catch_up(&self, watcher: Arc<Watcher>) {
        self.push(|waiting| waiting.items.push_back(Item::CatchUp(watcher)));
    }

    /// Queues a revision's changes, or leaves them to history.
    pub(super) fn changes(
        &self,
        watcher: &Arc<Watcher>,
        revision: i64,
        changes: &Arc<[Change]>,
        bytes: u64,
    ) {
        let (watcher, changes) = (Arc::clone(watcher), Arc::clone(changes));
        self.push(|waiting| {
            if waiting.is_full() {
                watcher.reached(revision, true);
                waiting.items.push_back(Item::CatchUp(watcher));
            } else {
                watcher.reached(revision + 1, false);
                waiting.bytes += bytes;
                waiting.items.push_back(Item::Changes { watcher, revision, changes, bytes });
            }
        });
    }

    /// Lets all go: what waits holds on to watches, and they to this.
    pub(super) fn clear(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        drop(waiting);
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

impl Waiting {
    fn is_full(&self) -> bool {
        self.items.len() >= WAITING || self.bytes >= WAITING_BYTES
    }
}
