use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    LeaseId, Moment,
    lease::{
        JEOPARDY_AFTER, Kept, LeaseEvent, LeaseSchedule, LeaseState, LossReason, Reopen, WINDOW,
        local_deadline,
    },
};

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A lease of this number; not 0.
pub(super) fn id(number: i64) -> LeaseId {
    LeaseId::new(number).unwrap()
}

/// Drives a schedule as its caller must, and checks all it says against the rules.
#[derive(Default)]
pub(super) struct Harness {
    pub(super) machine: LeaseSchedule,
    pub(super) now: Moment,
    pub(super) open: bool,
    /// The renewals on the stream, in order.
    pub(super) unanswered: VecDeque<Sent>,
    pub(super) sends: u64,
    pub(super) reopen: Option<Reopen>,
    pub(super) events: Vec<LeaseEvent>,
    kept: BTreeMap<LeaseId, Watched>,
    keepings: u64,
    streams: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) id: LeaseId,
    pub(super) at: Moment,
    keeping: u64,
}

/// What the harness knows of a lease that is kept.
struct Watched {
    keeping: u64,
    deadline: Moment,
    connecting: bool,
    gone: bool,
    /// What a further send would break: the rest after an answered one, and this budget.
    rest_until: Moment,
    allowance: u64,
}

impl Harness {
    /// One with an open stream.
    pub(super) fn opened() -> Self {
        let mut this = Self { now: Moment::from_nanos(1_000_000_000), ..Self::default() };
        this.open();
        this
    }

    pub(super) fn keep(&mut self, id: LeaseId, kept: Kept) {
        let (deadline, connecting, rest_until) = match kept {
            Kept::Granted { sent_at, ttl } => {
                (local_deadline(sent_at, ttl), false, sent_at + ttl * 3 / 10)
            }
            Kept::Unknown { give_up_at } => (give_up_at, true, self.now),
        };
        self.keepings += 1;
        let watched = Watched {
            keeping: self.keepings,
            deadline,
            connecting,
            gone: false,
            rest_until,
            allowance: u64::from(self.open),
        };
        self.kept.insert(id, watched);
        self.machine.keep(self.now, id, kept);
        self.drain();
    }

    pub(super) fn grant(&mut self, id: LeaseId, ttl: Duration) {
        self.keep(id, Kept::Granted { sent_at: self.now, ttl });
    }

    pub(super) fn forget(&mut self, id: LeaseId) {
        self.kept.remove(&id);
        self.machine.forget(id);
        self.drain();
    }

    pub(super) fn renew_now(&mut self, id: LeaseId) {
        if let Some(watched) = self.kept.get_mut(&id) {
            watched.rest_until = Moment::default();
        }
        self.machine.renew_now(self.now, id);
        self.drain();
    }

    pub(super) fn open(&mut self) {
        self.open = true;
        self.streams += 1;
        self.unanswered.clear();
        self.kept.values_mut().for_each(|watched| watched.allowance += 1);
        self.machine.stream_opened(self.now);
        self.drain();
    }

    pub(super) fn lose_stream(&mut self) {
        self.open = false;
        self.unanswered.clear();
        self.machine.stream_lost(self.now);
        self.drain();
    }

    /// Answers the renewal that was sent first.
    pub(super) fn answer(&mut self, ttl: i64) {
        let Some(sent) = self.unanswered.pop_front() else { return };
        let mut renewed = None;
        if let Some(watched) = self.kept.get_mut(&sent.id)
            && watched.keeping == sent.keeping
            && watched.deadline > self.now
        {
            watched.allowance += 1;
            watched.gone = ttl <= 0;
            if ttl > 0 {
                let ttl = secs(ttl as u64);
                let deadline = local_deadline(sent.at, ttl);
                watched.deadline = deadline;
                watched.connecting = false;
                watched.rest_until = sent.at + ttl.saturating_mul(3) / 10;
                let event = LeaseEvent::Renewed { id: sent.id, deadline, ttl };
                renewed = (deadline > self.now).then_some(event);
            }
        }
        let heard = self.events.len();
        self.machine.handle_answer(self.now, sent.id, ttl);
        self.drain();
        let said = |event: &&LeaseEvent| matches!(event, LeaseEvent::Renewed { .. });
        assert_eq!(self.events[heard..].iter().find(said), renewed.as_ref());
    }

    /// An answer for a lease that is not the next.
    pub(super) fn answer_out_of_order(&mut self, id: LeaseId) {
        assert!(self.unanswered.front().is_none_or(|sent| sent.id != id));
        self.machine.handle_answer(self.now, id, 10);
        self.drain();
        assert!(!self.open);
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        self.machine.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(id) = self.machine.poll_transmit(self.now) {
            self.note_send(id);
        }
        while let Some(event) = self.machine.poll_event() {
            self.check_event(event);
            self.events.push(event);
        }
        if let Some(why) = self.machine.poll_reopen() {
            self.reopen = Some(why);
            self.open = false;
            self.unanswered.clear();
        }
        assert!(self.machine.poll_timeout().is_none_or(|at| at > self.now), "a busy loop");
    }

    fn note_send(&mut self, id: LeaseId) {
        let watched = self.kept.get_mut(&id).expect("only kept leases are renewed");
        assert!(self.open && watched.deadline > self.now);
        assert!(watched.rest_until <= self.now, "renewed too early");
        watched.allowance = watched.allowance.checked_sub(1).expect("a request storm");
        self.sends += 1;
        self.unanswered.push_back(Sent { id, at: self.now, keeping: watched.keeping });
        assert!(self.unanswered.len() <= WINDOW);
    }

    fn check_event(&mut self, event: LeaseEvent) {
        match event {
            LeaseEvent::Renewed { id, deadline, .. } => {
                assert_eq!(self.kept[&id].deadline, deadline);
            }
            LeaseEvent::Jeopardy { id, until } => {
                assert!(self.kept.contains_key(&id) && until > self.now);
            }
            LeaseEvent::Lost { id, reason } => {
                let watched = self.kept.remove(&id).expect("lost once, and nothing after");
                let expected = match (watched.gone, watched.connecting) {
                    (true, _) => LossReason::Gone,
                    (false, true) => LossReason::Unanswered,
                    (false, false) => LossReason::Expired,
                };
                assert_eq!(reason, expected);
                assert!(watched.gone || watched.deadline <= self.now, "lost too early");
            }
        }
    }

    /// Checks every lease; what is checked on the way is not repeated here.
    pub(super) fn audit(&self) {
        assert_eq!(self.machine.len(), self.kept.len());
        assert_eq!(self.machine.wants_stream(), !self.kept.is_empty());
        for (&id, watched) in &self.kept {
            assert!(!watched.gone && watched.deadline > self.now, "alive after its deadline");
            let deadline = (!watched.connecting).then_some(watched.deadline);
            assert_eq!(self.machine.deadline(id), deadline);
            let state = self.machine.state(id).expect("kept");
            assert_eq!(state == LeaseState::Connecting, watched.connecting);
            let unanswered = |sent: &&Sent| sent.id == id && sent.keeping == watched.keeping;
            if let Some(sent) = self.unanswered.iter().find(unanswered)
                && self.now >= sent.at + JEOPARDY_AFTER
            {
                assert_ne!(state, LeaseState::Healthy, "unanswered, and nothing said");
            }
        }
    }

    /// How many streams there were.
    pub(super) fn streams(&self) -> u64 {
        self.streams
    }
}
