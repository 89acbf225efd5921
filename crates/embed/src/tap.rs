use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tenure::{Code, Revision, wire::etcdserverpb::ResponseHeader};
use tokio::time::Instant;

/// A call with one request and one answer, as it was seen at the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// The path that was called, such as `/etcdserverpb.KV/Put`.
    pub path: String,
    /// The request's message, in etcd's wire format.
    pub request: Bytes,
    /// The answer's message, or the code and text of its status; nothing, if the answer was never
    /// made.
    pub answer: Option<Result<Bytes, (Code, String)>>,
    /// The revision in the answer's header.
    pub revision: Option<Revision>,
    /// When it came, since the server's start on its clock.
    pub at: Duration,
    /// How long the answer took.
    pub took: Duration,
}

/// What was asked and answered since it was made: the last so many calls. Streams of answers are
/// not in it, nor what a fault kept from being carried out. Dropping it ends the recording.
pub struct Tap(Arc<Mutex<Kept>>);

struct Kept {
    calls: VecDeque<Recorded>,
    capacity: usize,
    missed: usize,
}

impl Tap {
    /// Takes the calls that were recorded, in the order in which they ended.
    pub fn take(&self) -> Vec<Recorded> {
        lock(&self.0).calls.drain(..).collect()
    }

    /// How many older calls had no room.
    pub fn missed(&self) -> usize {
        lock(&self.0).missed
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are nobody's business.
        f.debug_struct("Tap").field("calls", &lock(&self.0).calls.len()).finish_non_exhaustive()
    }
}

/// All taps of a server.
pub(crate) struct Taps {
    open: Mutex<Vec<Weak<Mutex<Kept>>>>,
    start: Instant,
}

impl Taps {
    pub(crate) fn new(start: Instant) -> Self {
        Self { open: Mutex::default(), start }
    }

    pub(crate) fn open(&self, capacity: usize) -> Tap {
        let kept = Kept { calls: VecDeque::new(), capacity, missed: 0 };
        let kept = Arc::new(Mutex::new(kept));
        lock(&self.open).push(Arc::downgrade(&kept));
        Tap(kept)
    }

    /// Whether anybody listens.
    pub(crate) fn are_open(&self) -> bool {
        let mut open = lock(&self.open);
        open.retain(|tap| tap.strong_count() > 0);
        !open.is_empty()
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn record(&self, call: &Recorded) {
        for tap in lock(&self.open).iter().filter_map(Weak::upgrade) {
            let mut kept = lock(&tap);
            if kept.calls.len() >= kept.capacity {
                kept.calls.pop_front();
                kept.missed += 1;
            }
            if kept.capacity > 0 {
                kept.calls.push_back(call.clone());
            }
        }
    }
}

/// Any answer, as far as its header goes: that is field 1 of them all.
#[derive(Clone, PartialEq, Message)]
struct Headed {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

/// The revision in the header of an answer's message.
pub(crate) fn revision_of(message: Bytes) -> Option<Revision> {
    let header = Headed::decode(message).ok()?.header?;
    (header.revision != 0).then_some(Revision(header.revision))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
