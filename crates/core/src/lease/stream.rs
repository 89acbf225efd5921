use std::{collections::VecDeque, time::Duration};

use super::{RETRY_AFTER, STALLED_AFTER, WINDOW};
use crate::{LeaseId, Moment};

/// The one keep-alive stream, as far as the schedule must know it: what is unanswered on it, in
/// the order of sending, and for how long it has been silent.
#[derive(Debug)]
pub(super) struct Stream {
    open: bool,
    unanswered: VecDeque<Renewal>,
    /// The number the next renewal gets; never used twice.
    next_number: u64,
    /// The later of the last answer and the moment `unanswered` became non-empty.
    quiet_since: Moment,
    /// How long it may be silent.
    patience: Duration,
}

/// A renewal on the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    pub(super) id: LeaseId,
    /// Tells a lease's own renewal from one of a namesake that was forgotten.
    pub(super) number: u64,
    pub(super) sent_at: Moment,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            open: false,
            unanswered: VecDeque::new(),
            next_number: 0,
            quiet_since: Moment::default(),
            patience: STALLED_AFTER,
        }
    }
}

impl Stream {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn has_room(&self) -> bool {
        self.open && self.unanswered.len() < WINDOW
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// Closes it and hands back what will never be answered.
    pub(super) fn close(&mut self) -> VecDeque<Renewal> {
        self.open = false;
        std::mem::take(&mut self.unanswered)
    }

    /// The next stream is given less time, until something answers.
    pub(super) fn lose_patience(&mut self) {
        self.patience = RETRY_AFTER;
    }

    /// When it counts as stalled, if nothing comes back till then.
    pub(super) fn stalls_at(&self) -> Option<Moment> {
        (!self.unanswered.is_empty()).then(|| self.quiet_since + self.patience)
    }

    /// Notes a renewal as sent, and returns its number.
    pub(super) fn send(&mut self, now: Moment, id: LeaseId) -> u64 {
        if self.unanswered.is_empty() {
            self.quiet_since = now;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.unanswered.push_back(Renewal { id, number, sent_at: now });
        number
    }

    /// The renewal that an answer for `id` belongs to: the first unanswered one, or none.
    pub(super) fn answer(&mut self, now: Moment, id: LeaseId) -> Option<Renewal> {
        let renewal = *self.unanswered.front().filter(|first| first.id == id)?;
        self.unanswered.pop_front();
        self.quiet_since = now;
        self.patience = STALLED_AFTER;
        Some(renewal)
    }
}
