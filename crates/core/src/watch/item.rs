use super::{WatchKey, Weight};
use crate::{Event, Revision};

/// Something for the consumer of one watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whose it is.
    pub key: WatchKey,
    /// What it is.
    pub item: Item,
}

/// What a watch has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The server accepted the watch, for the first time, at this revision of the store.
    Created {
        /// The server's revision then.
        revision: Revision,
    },
    /// Changes in order. Never empty; all events of a revision are in one item.
    Events {
        /// The events.
        events: Vec<Event>,
        /// The last of their revisions, which is complete.
        revision: Revision,
    },
    /// The server says that it has reported everything up to this revision.
    ///
    /// Servers before 3.4.25 and 3.5.8 say it too early when asked on request.
    Progress {
        /// That revision.
        revision: Revision,
    },
    /// The server refused to create the watch. It is parked until
    /// [`retry`](super::Registry::retry), [`end`](super::Registry::end) or
    /// [`remove`](super::Registry::remove).
    Refused {
        /// The server's words.
        reason: String,
    },
    /// The watch is off the server for now, and the registry sees to it.
    /// [`state`](super::Registry::state) tells why. This and `Resumed` weigh nothing: they are
    /// for a place that shows the state, not for the consumer's queue.
    Interrupted,
    /// The watch goes on where it stopped.
    Resumed,
    /// The last item of this watch, which is gone.
    End(End),
}

impl Item {
    /// What to report to [`consumed`](super::Registry::consumed) once this item is taken.
    pub fn weight(&self) -> Weight {
        match self {
            Self::Events { events, .. } => Weight::of(events),
            Self::Progress { .. } => Weight { events: 1, bytes: 0 },
            _ => Weight::ZERO,
        }
    }
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Events it had still to see are compacted away: read the state anew.
    Compacted {
        /// The revision of the compaction.
        revision: Revision,
    },
    /// The server refused to create it.
    Refused {
        /// The server's words.
        reason: String,
    },
    /// The server cancelled it without being asked.
    Canceled {
        /// The server's words; may be empty.
        reason: String,
    },
}

/// Where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The server has never accepted it so far.
    Connecting,
    /// Events come as they happen.
    Live,
    /// It was live, and is being created again.
    Resuming,
    /// The consumer is slow; it goes on when half of the queue is consumed.
    Paused,
}
