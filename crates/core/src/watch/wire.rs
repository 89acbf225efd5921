use super::Spec;
use crate::Event;

/// One message of the watch stream, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Which watch of the stream; -1 for none or all.
    pub id: i64,
    /// Whether it answers a creation.
    pub created: bool,
    /// Whether the watch is over, or was refused.
    pub canceled: bool,
    /// Not 0: the watch is over because of a compaction at this revision.
    pub compact_revision: i64,
    /// Why it was cancelled or refused, if the server says so.
    pub reason: String,
    /// Whether the next response of this id continues this one.
    pub fragment: bool,
    /// The revision in the header.
    pub revision: i64,
    /// The changes.
    pub events: Vec<Event>,
}

impl Response {
    /// The id of an answer that concerns no watch in particular.
    pub(super) const ANY: i64 = -1;

    pub(super) fn is_cancel(&self) -> bool {
        self.canceled || self.compact_revision != 0
    }
}

/// One message to write to the watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Create a watch.
    Create {
        /// The id to ask for.
        id: i64,
        /// What to watch; `start` is where to begin this time.
        spec: Spec,
    },
    /// Cancel a watch.
    Cancel {
        /// Its id.
        id: i64,
    },
    /// Ask how far the stream is.
    Progress,
}

/// Why the stream must be given up for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopen {
    /// Nothing came in time: the member is best left for another.
    Silent,
    /// The server said something that the protocol does not allow.
    Protocol(&'static str),
}
