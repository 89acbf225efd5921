use std::time::Duration;

use crate::{LeaseId, Moment};

/// What is known of a lease when its keeping begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The server granted it.
    Granted {
        /// When the grant was first sent.
        sent_at: Moment,
        /// The TTL of the server's answer.
        ttl: Duration,
    },
    /// It is another's, or of an earlier life of this process: its TTL is learnt from the first
    /// answered renewal, which is due at once.
    Unknown {
        /// When it is [`LossReason::Unanswered`].
        give_up_at: Moment,
    },
}

/// How a kept lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Nothing was ever heard of it: [`Kept::Unknown`], still unanswered.
    Connecting,
    /// Held, and renewed in time.
    Healthy,
    /// Held, but its renewal is overdue.
    Jeopardy {
        /// When it will be lost.
        until: Moment,
    },
}

/// What happened to a kept lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The server answered a renewal: the lease is healthy, also if it was in jeopardy.
    Renewed {
        /// The lease.
        id: LeaseId,
        /// Its new local deadline.
        deadline: Moment,
        /// The TTL the server gave.
        ttl: Duration,
    },
    /// Its renewal went unanswered, or could not be sent, for [`JEOPARDY_AFTER`].
    ///
    /// [`JEOPARDY_AFTER`]: super::JEOPARDY_AFTER
    Jeopardy {
        /// The lease.
        id: LeaseId,
        /// When it will be lost.
        until: Moment,
    },
    /// It is no longer kept, and nothing more will be said of it.
    Lost {
        /// The lease.
        id: LeaseId,
        /// Why.
        reason: LossReason,
    },
}

/// Why a lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// Its local deadline passed; the server may still hold it for a moment.
    Expired,
    /// The server does not know it, or not any more: revoked or expired.
    Gone,
    /// A [`Kept::Unknown`] lease was not answered for in time.
    Unanswered,
}

/// Why the stream must be given up for one on another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopen {
    /// Renewals are on it, and nothing comes back. Reopen at once: the schedule paces this.
    Silent,
    /// An answer was not for the renewal sent first. Reopen with back-off.
    OutOfOrder,
}
