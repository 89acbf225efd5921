use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;

use super::harness::{Harness, id, ms, secs};
use crate::{
    LeaseId, Moment,
    lease::{LeaseEvent, Reopen},
};

/// Members behind a network, their leases, and a caller that opens streams to them.
struct World {
    harness: Harness,
    dice: Dice,
    /// Each lease with its TTL and when the server lets it expire.
    server: BTreeMap<LeaseId, (u64, Moment)>,
    /// Answers on the wire: when they arrive and which TTL they bear.
    answers: VecDeque<(Moment, i64)>,
    seen: u64,
    member: Member,
    closes_at: Moment,
    opens_at: Moment,
}

/// How the member behind the stream behaves.
#[derive(Clone, Copy)]
enum Member {
    /// Answers within so many milliseconds.
    Answers(u64),
    /// Takes renewals, and answers nothing.
    Mute,
    /// Lets nothing through.
    Dead,
}

/// A source of chance that a seed determines.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

impl World {
    fn new(seed: u64, ttls: &[u64], member: Member) -> Self {
        let mut harness = Harness::opened();
        let mut server = BTreeMap::new();
        for (n, &ttl) in (1..).zip(ttls) {
            harness.grant(id(n), secs(ttl));
            server.insert(id(n), (ttl, harness.now + secs(ttl)));
        }
        Self {
            harness,
            dice: Dice(seed | 1),
            server,
            answers: VecDeque::new(),
            seen: 0,
            member,
            closes_at: Moment::FAR_FUTURE,
            opens_at: Moment::FAR_FUTURE,
        }
    }

    /// What was sent since the last call reaches the member, or not.
    fn deliver(&mut self) {
        let fresh = (self.harness.sends - self.seen) as usize;
        self.seen = self.harness.sends;
        let on_stream = self.harness.unanswered.len();
        for at in on_stream.saturating_sub(fresh)..on_stream {
            let sent = self.harness.unanswered[at];
            let delay = match self.member {
                Member::Answers(most) => self.dice.below(most * 1_000),
                Member::Mute => 0,
                Member::Dead => continue,
            };
            let arrives = sent.at + us(self.dice.below(delay + 1));
            let (ttl, expires) = self.server.get_mut(&sent.id).unwrap();
            // A server whose clock runs one in a hundred fast.
            let answer = if arrives < *expires {
                *expires = arrives + secs(*ttl) - ms(*ttl * 10);
                *ttl as i64
            } else {
                0
            };
            if matches!(self.member, Member::Answers(_)) {
                // In order, even if that makes it wait for the one before.
                let last = self.answers.back().map_or(sent.at, |answer| answer.0);
                self.answers.push_back((last.max(sent.at + us(delay)), answer));
            }
        }
    }

    /// One thing happens: an answer, an end or an opening of the stream, or only time.
    fn step(&mut self) {
        self.deliver();
        let answer_at = self.answers.front().map_or(Moment::FAR_FUTURE, |answer| answer.0);
        let timeout = self.harness.machine.poll_timeout().unwrap_or(Moment::FAR_FUTURE);
        let next = answer_at.min(timeout).min(self.closes_at).min(self.opens_at);
        self.harness.now = self.harness.now.max(next);
        if next == answer_at {
            let (_, ttl) = self.answers.pop_front().unwrap();
            self.harness.answer(ttl);
        } else if next == self.opens_at {
            self.open();
        } else if next == self.closes_at {
            self.answers.clear();
            self.closes_at = Moment::FAR_FUTURE;
            self.opens_at = next + ms(500);
            self.harness.lose_stream();
        } else {
            self.harness.advance(ms(0));
        }
        if let Some(why) = self.harness.reopen.take() {
            assert_eq!(why, Reopen::Silent);
            self.answers.clear();
            self.closes_at = Moment::FAR_FUTURE;
            self.opens_at = self.harness.now + ms(10);
        }
    }

    fn open(&mut self) {
        self.member = match self.dice.below(4) {
            0 => Member::Mute,
            1 => Member::Dead,
            _ => Member::Answers(1 + self.dice.below(1_600)),
        };
        self.opens_at = Moment::FAR_FUTURE;
        self.closes_at = self.harness.now + ms(self.dice.below(30_000));
        self.harness.open();
    }

    /// No lease is alive here that the server has let go.
    fn check_safety(&self) {
        for (&id, &(_, expires)) in &self.server {
            let alive = self.harness.machine.state(id).is_some();
            assert!(!alive || self.harness.now < expires, "{id} is held after the server's end");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    #[test]
    fn a_lease_answered_within_a_second_is_never_lost_nor_in_jeopardy(
        seed: u64, ttls in prop::collection::vec(3..90_u64, 1..40)
    ) {
        let mut world = World::new(seed, &ttls, Member::Answers(1_000));
        let end = world.harness.now + secs(200);
        while world.harness.now < end {
            world.step();
        }
        let calm = |event: &LeaseEvent| matches!(event, LeaseEvent::Renewed { .. });
        prop_assert!(world.harness.events.iter().all(calm));
        prop_assert_eq!(world.harness.streams(), 1);
    }

    #[test]
    fn nothing_is_held_after_the_server_let_it_go(
        seed: u64, ttls in prop::collection::vec(2..60_u64, 1..20)
    ) {
        let mut world = World::new(seed, &ttls, Member::Answers(300));
        world.closes_at = world.harness.now + secs(10);
        let end = world.harness.now + secs(300);
        while world.harness.now < end && world.harness.machine.wants_stream() {
            world.step();
            if world.dice.below(400) == 0 {
                // The machine sleeps.
                world.harness.now = world.harness.now + ms(world.dice.below(40_000));
                world.harness.advance(ms(0));
            }
            world.harness.audit();
            world.check_safety();
        }
    }
}

#[test]
fn ten_thousand_leases_granted_at_once_live_on_one_stream() {
    const COUNT: u64 = 10_000;
    const TTL: u64 = 15;
    let mut harness = Harness::opened();
    for n in 1..=COUNT {
        harness.grant(id(n as i64), secs(TTL));
    }
    let end = harness.now + secs(60);
    while harness.now < end {
        // The server takes 100 us for each, one after another.
        if harness.unanswered.is_empty() {
            let next = harness.machine.poll_timeout().unwrap();
            harness.advance(next.since(harness.now));
        } else {
            harness.now = harness.now + us(100);
            harness.answer(TTL as i64);
        }
    }
    assert!(harness.events.iter().all(|event| matches!(event, LeaseEvent::Renewed { .. })));
    assert_eq!((harness.reopen, harness.machine.len()), (None, COUNT as usize));
    let expected = COUNT * 60 / (TTL / 3);
    assert!((expected * 3 / 4..=expected * 5 / 4).contains(&harness.sends), "{}", harness.sends);
    harness.audit();
}
