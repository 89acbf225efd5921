//! Items that many put in and many take out, each once.

mod actor;
mod append;
mod delivery;
mod enqueue;
mod inspect;
mod item;
mod layout;
mod news;
mod priority;
mod receipts;
mod requeue;
mod take;
mod work;

use std::fmt;

use tenure_core::Key;

pub use self::{
    actor::{AckJob, EnqueueJob, Job, NackJob, TakeJob, WorkQueueActor},
    delivery::Delivery,
    enqueue::Enqueue,
    inspect::{Queued, QueuedState},
    item::QueueItem,
    priority::PriorityQueue,
    take::Take,
};
use self::{
    delivery::take_to_work,
    item::{InTransit, take_for_good},
    layout::{Discipline, Layout},
    take::Patience,
    work::{Work, bounded, limited},
};
use super::name::Kind;
use crate::{client::Client, error::Result, ops::IntoValue, session::Session};

const KIND: Kind = Kind { path: "queue", name: "queue name", prefix: "queue prefix" };

/// A queue that any number of processes put items into and take them out of: first in, first out,
/// in the order in which etcd wrote them.
///
/// ```no_run
/// use tenure::{Queue, Session};
///
/// # async fn example(session: Session) -> tenure::Result<()> {
/// let mails = Queue::new(&session, "mails");
/// mails.enqueue("to all").await?;
///
/// // Taken for good: at most once.
/// let item = mails.take().await?;
/// println!("{:?}", item.value);
///
/// // Taken to be worked on: at least once.
/// let delivery = mails.take_leased().await?;
/// println!("{:?}, for the {}. time", delivery.value(), delivery.attempts());
/// delivery.ack().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// An item that was put is there once, though answers are lost. Of those who want it one gets it:
/// [`take`](Self::take) for good, so that it is lost with a process that dies at that moment, or
/// [`take_leased`](Self::take_leased) until it is acknowledged, so that it comes again, as the
/// last, when its worker dies. One worker at a time has an item, and each delivery has a higher
/// [fence](Delivery::fence) than the one before.
///
/// Consumers that find nothing stand in line: one item wakes one of them. Whoever comes when there
/// is an item takes it at once. While the first in line is frozen or cut off, only they do, until
/// its session ends.
///
/// etcd reads the whole queue to find its first item, and has every item in memory: queues of some
/// thousand items are what it is good for.
///
/// # Keys
///
/// `tenure/queue/<name>/<nanoseconds>`, or a raw prefix ([`at`](Self::at)), the layout of `Queue` of
/// Go's recipes. An item that comes back is called `<nanoseconds>.<failures>`. Go's consumers take
/// all keys that begin with the prefix, so what is worked on, and who waits, is elsewhere: under
/// `tenure/queue-work/<prefix>/`. Besides, keys under `tenure/session/` are read and written. Where
/// etcd has users, theirs must be allowed all of them.
///
/// A session that is [resumed](Session::resume) gives up the earlier process's places in line once
/// it uses the queue, and has its deliveries for nobody: they come back when the session ends.
#[derive(Clone)]
pub struct Queue {
    work: Result<Work>,
}

impl Queue {
    /// The queue of this name. Names are independent of one another, whatever is in them.
    ///
    /// A bad name (empty, or with a NUL) is told by every call.
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        let layout = Layout::named(&KIND, Discipline::Fifo, name.as_ref());
        Self { work: layout.map(|layout| Work::new(session, layout)) }
    }

    /// The queue on a raw prefix, to share with Go's `NewQueue` of that prefix: its items are all
    /// keys under `<prefix>/`.
    ///
    /// Go's consumers take what begins with the prefix even without the slash, so no prefix should
    /// begin another one's.
    pub fn at(session: &Session, prefix: impl Into<Key>) -> Self {
        let layout = Layout::raw(&KIND, Discipline::Fifo, prefix.into());
        Self { work: layout.map(|layout| Work::new(session, layout)) }
    }

    /// Lets [`enqueue`](Self::enqueue) of this handle add nothing while `most` items wait.
    ///
    /// Those that are worked on do not count, and come back even if there is no room. Handles
    /// without a bound, and Go's, do not mind it.
    #[must_use]
    pub fn bounded(self, most: u64) -> Self {
        Self { work: bounded(self.work, most) }
    }

    /// Makes an item that was delivered so often without being acknowledged a dead letter, which
    /// nobody takes. By default it comes again for ever. All consumers should say the same: the
    /// one that sees to it decides.
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Self {
        Self { work: limited(self.work, attempts) }
    }

    /// Puts an item at the end, and answers with its key: bytes, or a value as
    /// [`Json`](crate::Json). Of a [`bounded`](Self::bounded) queue,
    /// [`timeout`](Enqueue::timeout) waits for room.
    ///
    /// A value should be a few kilobytes below what etcd takes in a request (1.5 MiB), so that it can
    /// be moved with what tells who works on it.
    ///
    /// Repeated until it is answered, for as long as the session lives; there is one item however
    /// often. Dropped, it gives up waiting for room; what was sent goes on in the background.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, bound or value, `Full`, `Timeout` after the timeout, `Lost` if
    /// the session is lost before, `Indeterminate` if it is lost and nobody can say; what etcd
    /// refuses (a full database, too large a value).
    pub fn enqueue(&self, value: impl IntoValue) -> Enqueue {
        Enqueue::new(self.work.clone(), 0, value.into_value())
    }

    /// Takes the first item for good, and waits for one if there is none.
    /// [`timeout`](Take::timeout) limits the waiting; without it only the session does.
    ///
    /// Cancel safe: an item that was taken for a future that is dropped is put back, as the last.
    /// It is lost if this process, or its session, ends at that very moment.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Timeout` after the timeout, `Lost` if the session is lost,
    /// `Indeterminate` if it is lost while an item is being taken, `PermissionDenied`, and what
    /// etcd refuses.
    pub fn take(&self) -> Take<QueueItem> {
        Take::new(self.work.clone(), Patience::Wait, take_for_good, |taken| {
            taken.and_then(InTransit::hand_over).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Takes the first item for good, if there is one. Errors and cancel safety are those of
    /// [`take`](Self::take).
    pub fn try_take(&self) -> Take<Option<QueueItem>> {
        Take::new(self.work.clone(), Patience::Try, take_for_good, |taken| {
            Ok(taken.and_then(InTransit::hand_over))
        })
    }

    /// Takes the first item to work on it: it is gone only when it is
    /// [acknowledged](Delivery::ack), and comes again when this worker dies or gives it
    /// [back](Delivery::nack). Waits as [`take`](Self::take) does.
    ///
    /// Cancel safe: an item that was taken for a future that is dropped is put back, as the last.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Timeout` after the timeout, `Lost` if the session is lost,
    /// `PermissionDenied`, and what etcd refuses.
    pub fn take_leased(&self) -> Take<Delivery> {
        Take::new(self.work.clone(), Patience::Wait, take_to_work, |taken| {
            taken.map(Delivery::hand_over).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Takes the first item to work on it, if there is one. Errors and cancel safety are those of
    /// [`take_leased`](Self::take_leased).
    pub fn try_take_leased(&self) -> Take<Option<Delivery>> {
        Take::new(self.work.clone(), Patience::Try, take_to_work, |taken| {
            Ok(taken.map(Delivery::hand_over))
        })
    }

    /// Deletes an item that waits, or a dead letter, by its key; false if there is none. One that
    /// is worked on stays.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other key, else those of [`Client::delete`].
    pub async fn remove(&self, key: impl Into<Key>) -> Result<bool> {
        inspect::remove(&self.work.clone()?, key.into()).await
    }

    /// What waits, in its order, then what is worked on, then dead letters.
    ///
    /// # Errors
    ///
    /// Those of [`Client::get`].
    pub async fn items(&self) -> Result<Vec<Queued>> {
        let work = self.work.clone()?;
        inspect::items(work.client(), work.layout()).await
    }

    /// The same for a name, without a session.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::get`].
    pub async fn inspect(client: &Client, name: impl AsRef<str>) -> Result<Vec<Queued>> {
        let layout = Layout::named(&KIND, Discipline::Fifo, name.as_ref())?;
        inspect::items(client, &layout).await
    }

    /// The same for a raw prefix; see [`at`](Self::at).
    ///
    /// # Errors
    ///
    /// Those of [`inspect`](Self::inspect).
    pub async fn inspect_at(client: &Client, prefix: impl Into<Key>) -> Result<Vec<Queued>> {
        let layout = Layout::raw(&KIND, Discipline::Fifo, prefix.into())?;
        inspect::items(client, &layout).await
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.work.as_ref().map(|work| work.layout().prefix().clone());
        f.debug_struct("Queue").field("prefix", &prefix).finish_non_exhaustive()
    }
}
