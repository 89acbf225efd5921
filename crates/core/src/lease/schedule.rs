use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    Kept, LeaseEvent, LeaseState, LossReason, Reopen,
    entry::{Health, Lease, Progress},
    local_deadline,
    stream::Stream,
    table::Table,
    terms::next_renewal,
};
use crate::{LeaseId, Moment};

/// Keeps leases alive over one keep-alive stream; see the [module](super) for how to drive it.
///
/// `now` must come from a clock that counts suspend.
#[derive(Debug, Default)]
pub struct LeaseSchedule {
    leases: Table,
    /// The leases that wait for room on a stream, most urgent first: under their deadlines.
    waiting: BTreeSet<(Moment, LeaseId)>,
    stream: Stream,
    reopen: Option<Reopen>,
    events: VecDeque<LeaseEvent>,
}

impl LeaseSchedule {
    /// A schedule that keeps nothing, with no stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a lease from now on, until it is lost or forgotten. One that is kept already is
    /// started over with what is known now.
    pub fn keep(&mut self, now: Moment, id: LeaseId, kept: Kept) {
        self.forget(id);
        let lease = match kept {
            Kept::Granted { sent_at, ttl } => Lease::new(
                local_deadline(sent_at, ttl),
                next_renewal(id, sent_at, ttl),
                Health::Healthy,
            ),
            Kept::Unknown { give_up_at } => Lease::new(give_up_at, now, Health::Connecting),
        };
        self.leases.insert(id, lease);
        self.catch_up(now);
    }

    /// Makes the next renewal due at once, unless one is on its way already.
    pub fn renew_now(&mut self, now: Moment, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(id)
            && lease.renewal == Progress::Resting
        {
            lease.since = lease.since.min(now);
            self.arm(id);
        }
        self.catch_up(now);
    }

    /// Keeps a lease no longer, and says nothing more of it. A renewal on its way stays so.
    pub fn forget(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(id) {
            self.waiting.remove(&(lease.deadline, id));
        }
    }

    /// Renewals can be written to a new stream. Any earlier one is gone: its answers must not
    /// be handed in any more.
    ///
    /// The server may not have said anything yet; etcd sends its headers with the first answer.
    pub fn stream_opened(&mut self, now: Moment) {
        self.stream_lost(now);
        self.stream.open();
        self.reopen = None;
    }

    /// The stream ended, whoever ended it. What it left unanswered is sent again on the next.
    pub fn stream_lost(&mut self, now: Moment) {
        self.close();
        self.catch_up(now);
    }

    /// An answer on the stream: the lease's TTL in seconds, or none left.
    pub fn handle_answer(&mut self, now: Moment, id: LeaseId, ttl_seconds: i64) {
        // Not `handle_timeout`: a stream that answers, however late, has not stalled.
        self.catch_up(now);
        if !self.stream.is_open() {
            return;
        }
        match self.stream.answer(now, id) {
            Some(renewal) => {
                // Else the answer is for a lease that was lost or forgotten meanwhile.
                if self.leases.get(id).is_some_and(|l| l.renewal == Progress::Sent(renewal.number))
                {
                    self.renewed(now, id, renewal.sent_at, ttl_seconds);
                }
            }
            None => self.give_up_stream(Reopen::OutOfOrder),
        }
        self.catch_up(now);
    }

    /// Does what is due at `now`. May be called at any time, early or late.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.stall_check().is_some_and(|at| at <= now) {
            self.stream.lose_patience();
            self.give_up_stream(Reopen::Silent);
        }
        self.catch_up(now);
    }

    /// The next renewal to write; call until `None`. It counts as sent at `now`.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<LeaseId> {
        self.handle_timeout(now);
        if !self.stream.has_room() {
            return None;
        }
        let (_, id) = self.waiting.pop_first()?;
        let number = self.stream.send(now, id);
        self.leases.get_mut(id)?.send(now, number);
        self.arm(id);
        Some(id)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest; after the draining
    /// of [`poll_transmit`](Self::poll_transmit) never in the past.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let timer = self.leases.next().map(|(at, _)| at);
        timer.into_iter().chain(self.stall_check()).min()
    }

    /// What happened to the leases since the last call, in order; call until `None`.
    pub fn poll_event(&mut self) -> Option<LeaseEvent> {
        self.events.pop_front()
    }

    /// Whether the stream has to be replaced by one on another member, said once. The old one
    /// counts as lost already.
    pub fn poll_reopen(&mut self) -> Option<Reopen> {
        self.reopen.take()
    }

    /// Whether a stream is of use: whether any lease is kept.
    pub fn wants_stream(&self) -> bool {
        !self.is_empty()
    }

    /// When a lease will be lost, if nothing more is answered; `None` while nothing ever was.
    pub fn deadline(&self, id: LeaseId) -> Option<Moment> {
        let lease = self.leases.get(id)?;
        (lease.health != Health::Connecting).then_some(lease.deadline)
    }

    /// How a lease stands; `None` when it is not kept, or not any more.
    pub fn state(&self, id: LeaseId) -> Option<LeaseState> {
        self.leases.get(id).map(Lease::state)
    }

    /// How many leases are kept.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.leases.len() == 0
    }

    fn renewed(&mut self, now: Moment, id: LeaseId, sent_at: Moment, ttl_seconds: i64) {
        let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0));
        if ttl.is_zero() {
            return self.lose(id, LossReason::Gone);
        }
        let Some(lease) = self.leases.get_mut(id) else { return };
        let deadline = local_deadline(sent_at, ttl);
        *lease = Lease {
            timer: lease.timer,
            ..Lease::new(deadline, next_renewal(id, sent_at, ttl), Health::Healthy)
        };
        if deadline > now {
            self.events.push_back(LeaseEvent::Renewed { id, deadline, ttl });
        }
        self.arm(id);
    }

    fn lose(&mut self, id: LeaseId, reason: LossReason) {
        self.forget(id);
        self.events.push_back(LeaseEvent::Lost { id, reason });
    }

    fn stall_check(&self) -> Option<Moment> {
        self.stream.stalls_at().filter(|_| self.wants_stream())
    }

    fn give_up_stream(&mut self, why: Reopen) {
        self.close();
        self.reopen = Some(why);
    }

    fn close(&mut self) {
        if !self.stream.is_open() {
            return;
        }
        for renewal in self.stream.close() {
            if let Some(lease) = self.leases.get_mut(renewal.id)
                && lease.renewal == Progress::Sent(renewal.number)
            {
                lease.renewal = Progress::Again;
                self.waiting.insert((lease.deadline, renewal.id));
            }
        }
        // Without a stream, waiting leads to jeopardy.
        for &(_, id) in &self.waiting {
            self.leases.arm(id, false);
        }
    }

    /// Does all that leases do by themselves up to `now`. Ends, since each turn moves the timer
    /// it takes past `now`.
    fn catch_up(&mut self, now: Moment) {
        while let Some((at, id)) = self.leases.next()
            && at <= now
        {
            self.tick(now, id);
        }
    }

    fn tick(&mut self, now: Moment, id: LeaseId) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        if lease.deadline <= now {
            let reason = lease.reason();
            return self.lose(id, reason);
        }
        if lease.renewal == Progress::Resting && lease.since <= now {
            lease.renewal = Progress::Due;
            self.waiting.insert((lease.deadline, id));
        }
        if lease.jeopardy_at(self.stream.is_open()).is_some_and(|at| at <= now) {
            lease.health = Health::Jeopardy;
            self.events.push_back(LeaseEvent::Jeopardy { id, until: lease.deadline });
        }
        self.arm(id);
    }

    fn arm(&mut self, id: LeaseId) {
        self.leases.arm(id, self.stream.is_open());
    }
}
