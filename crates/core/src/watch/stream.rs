use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    time::Duration,
};

use super::WatchKey;
use crate::{Moment, Revision};

/// How many creations may be unanswered.
const WINDOW: usize = 256;

/// How many cancelled ids are remembered until the server confirms; beyond that a stray event
/// costs one more cancel.
const REMEMBERED: usize = 1024;

/// How long after the creation of a watch the server may still have to tell it of the past. It
/// does so every 100 ms, for 512 watches.
const CATCHES_UP: Duration = Duration::from_secs(5);

/// How silence is judged. Both spans must be longer than a round trip.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long an open stream may be silent before it is asked for a sign of life.
    pub quiet: Duration,
    /// How long after such a question, or a creation, nothing may come before it counts as dead.
    pub patience: Duration,
}

impl Default for Config {
    /// 5 s of quiet, 1.5 s of patience.
    fn default() -> Self {
        Self { quiet: Duration::from_secs(5), patience: Duration::from_millis(1500) }
    }
}

/// What is known of the one open stream, and dies with it.
#[derive(Debug)]
pub(super) struct Stream {
    /// Whose watches the server has.
    pub(super) live: BTreeMap<i64, WatchKey>,
    /// Creations in the order sent, which is the order of the answers; no key: a pulse.
    pub(super) unanswered: VecDeque<(i64, Option<WatchKey>)>,
    /// Cancels to be sent.
    cancels: VecDeque<i64>,
    /// Ids whose cancel is not confirmed.
    cancelled: BTreeSet<i64>,
    /// Live watches that begin in the past, when they were accepted, and where they begin. In that
    /// order; those of long ago are forgotten.
    catching_up: VecDeque<(Moment, i64, Revision)>,
    /// The last sign of life, or when the oldest unanswered creation was sent if that is later.
    since: Moment,
    /// Whether a pulse is to be sent.
    pulse: bool,
}

/// What the stream waits for.
pub(super) enum Timer {
    /// Silence with nothing asked: time for a pulse.
    Quiet,
    /// Silence although something was asked: the stream is dead.
    Patience,
}

impl Stream {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            live: BTreeMap::new(),
            unanswered: VecDeque::new(),
            cancels: VecDeque::new(),
            cancelled: BTreeSet::new(),
            catching_up: VecDeque::new(),
            since: now,
            pulse: false,
        }
    }

    pub(super) fn heard(&mut self, now: Moment) {
        self.since = now;
        self.pulse = false;
        while self.catching_up.front().is_some_and(|&(at, ..)| at + CATCHES_UP < now) {
            self.catching_up.pop_front();
            if self.catching_up.is_empty() {
                self.catching_up = VecDeque::new();
            }
        }
    }

    /// The server has accepted a watch that begins at a revision which is there already.
    pub(super) fn catches_up(&mut self, now: Moment, id: i64, from: Revision) {
        self.catching_up.push_back((now, id, from));
    }

    /// The watches that were lately to be told of what lies before `revision`.
    pub(super) fn caught_before(&mut self, revision: Revision) -> Vec<WatchKey> {
        let before = self.catching_up.iter().filter(|&&(_, _, from)| from < revision);
        before.filter_map(|(_, id, _)| self.live.get(id).copied()).collect()
    }

    pub(super) fn has_room(&self) -> bool {
        self.unanswered.len() < WINDOW
    }

    pub(super) fn creating(&mut self, now: Moment, id: i64, key: Option<WatchKey>) {
        if self.unanswered.is_empty() {
            self.since = now;
        }
        self.unanswered.push_back((id, key));
    }

    /// Whether the creation of this id is sent and unanswered. Ids only grow, so they are sorted.
    pub(super) fn is_unanswered(&self, id: i64) -> bool {
        self.unanswered.binary_search_by_key(&id, |&(id, _)| id).is_ok()
    }

    /// Sees to it that the server drops this id, once.
    pub(super) fn cancel(&mut self, id: i64) {
        self.live.remove(&id);
        if self.cancelled.insert(id) {
            self.cancels.push_back(id);
        }
        if self.cancelled.len() > REMEMBERED {
            self.cancelled.pop_first();
        }
    }

    pub(super) fn confirm_cancel(&mut self, id: i64) {
        self.cancelled.remove(&id);
    }

    pub(super) fn poll_cancel(&mut self) -> Option<i64> {
        self.cancels.pop_front()
    }

    pub(super) fn want_pulse(&mut self) {
        self.pulse = true;
    }

    pub(super) fn poll_pulse(&mut self) -> bool {
        mem::take(&mut self.pulse)
    }

    pub(super) fn timer(&self, config: &Config) -> Option<(Moment, Timer)> {
        if !self.unanswered.is_empty() {
            Some((self.since + config.patience, Timer::Patience))
        } else if !self.live.is_empty() && !self.pulse {
            Some((self.since + config.quiet, Timer::Quiet))
        } else {
            None
        }
    }
}
