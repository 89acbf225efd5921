use std::fmt;

use tenure_core::Key;

use super::{
    delivery::{Delivery, take_to_work},
    enqueue::Enqueue,
    inspect::{self, Queued},
    item::{InTransit, QueueItem, take_for_good},
    layout::{Discipline, Layout},
    take::{Patience, Take},
    work::{Work, bounded, limited},
};
use crate::{client::Client, error::Result, ops::IntoValue, recipes::name::Kind, session::Session};

const KIND: Kind =
    Kind { path: "priority_queue", name: "priority queue name", prefix: "priority queue prefix" };

/// A queue whose items have priorities: the lowest number is the first, and of one priority the
/// item that was put first.
///
/// ```no_run
/// use tenure::{PriorityQueue, Session};
///
/// # async fn example(session: Session) -> tenure::Result<()> {
/// let mails = PriorityQueue::new(&session, "mails");
/// mails.enqueue(9, "to all").await?;
/// mails.enqueue(1, "to the boss").await?;
/// assert_eq!(mails.take().await?.value, "to the boss");
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// Those of [`Queue`](crate::Queue). A delivery that comes back is the last of its priority. One that is dropped,
/// or whose worker dies, comes back when somebody looks for an item.
///
/// # Keys
///
/// `tenure/priority_queue/<name>/<priority>/<number>`, and `__tenure/priority_queue/<name>/<priority>`
/// so that no number is given twice; or the same behind a raw prefix ([`at`](Self::at)), the
/// layout of `PriorityQueue` of Go's recipes. All else is where [`Queue`](crate::Queue) has it.
#[derive(Clone)]
pub struct PriorityQueue {
    work: Result<Work>,
}

impl PriorityQueue {
    /// The queue of this name. Names are independent of one another, whatever is in them.
    ///
    /// A bad name (empty, or with a NUL) is told by every call.
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        let layout = Layout::named(&KIND, Discipline::Priority, name.as_ref());
        Self { work: layout.map(|layout| Work::new(session, layout)) }
    }

    /// The queue on a raw prefix, to share with Go's `NewPriorityQueue` of that prefix.
    pub fn at(session: &Session, prefix: impl Into<Key>) -> Self {
        let layout = Layout::raw(&KIND, Discipline::Priority, prefix.into());
        Self { work: layout.map(|layout| Work::new(session, layout)) }
    }

    /// Lets [`enqueue`](Self::enqueue) add nothing while `most` items wait; see
    /// [`Queue::bounded`](crate::Queue::bounded).
    #[must_use]
    pub fn bounded(self, most: u64) -> Self {
        Self { work: bounded(self.work, most) }
    }

    /// After how many deliveries an item is a dead letter; see
    /// [`Queue::max_attempts`](crate::Queue::max_attempts).
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Self {
        Self { work: limited(self.work, attempts) }
    }

    /// Puts an item behind those of its priority; lower priorities are taken first. Otherwise as
    /// [`Queue::enqueue`](crate::Queue::enqueue).
    ///
    /// # Errors
    ///
    /// Those of [`Queue::enqueue`](crate::Queue::enqueue); `Protocol` if a key of somebody else's is among the items.
    pub fn enqueue(&self, priority: u16, value: impl IntoValue) -> Enqueue {
        Enqueue::new(self.work.clone(), priority, value.into_value())
    }

    /// Takes the first item for good, and waits for one if there is none; see [`Queue::take`](crate::Queue::take).
    ///
    /// # Errors
    ///
    /// Those of [`Queue::take`](crate::Queue::take).
    pub fn take(&self) -> Take<QueueItem> {
        Take::new(self.work.clone(), Patience::Wait, take_for_good, |taken| {
            taken.and_then(InTransit::hand_over).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Takes the first item for good, if there is one.
    pub fn try_take(&self) -> Take<Option<QueueItem>> {
        Take::new(self.work.clone(), Patience::Try, take_for_good, |taken| {
            Ok(taken.and_then(InTransit::hand_over))
        })
    }

    /// Takes the first item to work on it; see [`Queue::take_leased`](crate::Queue::take_leased).
    ///
    /// # Errors
    ///
    /// Those of [`Queue::take_leased`](crate::Queue::take_leased).
    pub fn take_leased(&self) -> Take<Delivery> {
        Take::new(self.work.clone(), Patience::Wait, take_to_work, |taken| {
            taken.map(Delivery::hand_over).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Takes the first item to work on it, if there is one.
    pub fn try_take_leased(&self) -> Take<Option<Delivery>> {
        Take::new(self.work.clone(), Patience::Try, take_to_work, |taken| {
            Ok(taken.map(Delivery::hand_over))
        })
    }

    /// Deletes an item that waits, or a dead letter; see [`Queue::remove`](crate::Queue::remove).
    ///
    /// # Errors
    ///
    /// Those of [`Queue::remove`](crate::Queue::remove).
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
        let layout = Layout::named(&KIND, Discipline::Priority, name.as_ref())?;
        inspect::items(client, &layout).await
    }

    /// The same for a raw prefix; see [`at`](Self::at).
    ///
    /// # Errors
    ///
    /// Those of [`inspect`](Self::inspect).
    pub async fn inspect_at(client: &Client, prefix: impl Into<Key>) -> Result<Vec<Queued>> {
        let layout = Layout::raw(&KIND, Discipline::Priority, prefix.into())?;
        inspect::items(client, &layout).await
    }
}

impl fmt::Debug for PriorityQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.work.as_ref().map(|work| work.layout().prefix().clone());
        f.debug_struct("PriorityQueue").field("prefix", &prefix).finish_non_exhaustive()
    }
}
