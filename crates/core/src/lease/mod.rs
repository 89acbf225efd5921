//! When to renew which lease, and when to call it lost.
//!
//! A [`LeaseSchedule`] keeps any number of leases alive over one keep-alive stream, which its
//! caller owns. After every input the caller drains it:
//!
//! 1. [`poll_transmit`](LeaseSchedule::poll_transmit) until `None`: write these renewals, in
//!    this order;
//! 2. [`poll_event`](LeaseSchedule::poll_event) until `None`: tell those who hold the leases;
//! 3. [`poll_reopen`](LeaseSchedule::poll_reopen): drop the stream, and
//!    open one on another member if one is still [wanted](LeaseSchedule::wants_stream);
//! 4. [`poll_timeout`](LeaseSchedule::poll_timeout): sleep until then at most, and call
//!    [`handle_timeout`](LeaseSchedule::handle_timeout).
//!
//! The inputs are [`keep`](LeaseSchedule::keep) and [`forget`](LeaseSchedule::forget), the fate
//! of the stream, and its answers. Inputs may come late: what passed in between is caught up
//! with first.
//!
//! # How often it sends
//!
//! A lease has at most one unanswered renewal on a stream. So a lease is sent at most as often
//! as it was answered plus once per stream, and all leases together at most as often as they
//! were answered plus [`WINDOW`] per stream. After a send that is answered a lease rests for
//! three tenths of its TTL at least (0.3 s for the shortest TTL there is), unless
//! [`renew_now`](LeaseSchedule::renew_now) says otherwise.

mod entry;
mod event;
mod schedule;
mod stream;
mod table;
mod terms;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use event::{Kept, LeaseEvent, LeaseState, LossReason, Reopen};
pub use schedule::LeaseSchedule;
pub use terms::local_deadline;

/// How many renewals may be unanswered on the stream.
pub const WINDOW: usize = 1024;

/// How long a renewal may be unanswered, or unsendable, before its lease is in jeopardy.
pub const JEOPARDY_AFTER: Duration = Duration::from_millis(1_500);

/// How long a stream with something unanswered on it may be silent.
pub const STALLED_AFTER: Duration = Duration::from_millis(1_500);

/// The same for each stream after a silent one, until something answers.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
