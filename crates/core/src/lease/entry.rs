use super::{JEOPARDY_AFTER, LeaseState, LossReason};
use crate::Moment;

/// One kept lease.
#[derive(Debug)]
pub(super) struct Lease {
    /// When it is lost: the local deadline, or when to give up on a lease never heard of.
    pub(super) deadline: Moment,
    /// When its renewal is due; once sent, when it was first sent.
    pub(super) since: Moment,
    pub(super) renewal: Progress,
    pub(super) health: Health,
    /// Under which instant it stands among the timers.
    pub(super) timer: Moment,
}

/// How far the next renewal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not due.
    Resting,
    /// Due, and waiting for room on a stream.
    Due,
    /// Sent on a stream that is gone, and waiting for the next.
    Again,
    /// On the stream, under this number.
    Sent(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Connecting,
    Healthy,
    Jeopardy,
}

impl Lease {
    /// A lease whose first renewal is at `due`.
    pub(super) fn new(deadline: Moment, due: Moment, health: Health) -> Self {
        let timer = deadline.min(due);
        Self { deadline, since: due, renewal: Progress::Resting, health, timer }
    }

    /// The next instant at which something happens to it by itself.
    pub(super) fn next_instant(&self, stream_open: bool) -> Moment {
        let due = match self.renewal {
            Progress::Resting => self.since,
            _ => Moment::FAR_FUTURE,
        };
        let jeopardy = self.jeopardy_at(stream_open).unwrap_or(Moment::FAR_FUTURE);
        self.deadline.min(due).min(jeopardy)
    }

    /// When it will be in jeopardy, unless answered. Waiting for room on a stream that moves is
    /// none: there the answers set the pace.
    pub(super) fn jeopardy_at(&self, stream_open: bool) -> Option<Moment> {
        let waits = match self.renewal {
            Progress::Resting => false,
            Progress::Due => !stream_open,
            Progress::Again | Progress::Sent(_) => true,
        };
        (waits && self.health == Health::Healthy).then(|| self.since + JEOPARDY_AFTER)
    }

    pub(super) fn send(&mut self, now: Moment, number: u64) {
        if self.renewal != Progress::Again {
            self.since = now;
        }
        self.renewal = Progress::Sent(number);
    }

    pub(super) fn state(&self) -> LeaseState {
        match self.health {
            Health::Connecting => LeaseState::Connecting,
            Health::Healthy => LeaseState::Healthy,
            Health::Jeopardy => LeaseState::Jeopardy { until: self.deadline },
        }
    }

    /// Why it is lost when its deadline passes.
    pub(super) fn reason(&self) -> LossReason {
        match self.health {
            Health::Connecting => LossReason::Unanswered,
            Health::Healthy | Health::Jeopardy => LossReason::Expired,
        }
    }
}
