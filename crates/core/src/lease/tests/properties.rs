use proptest::prelude::*;

use super::harness::{Harness, id, ms, secs};
use crate::{
    Moment,
    lease::{Kept, LeaseSchedule},
};

/// One thing that befalls a schedule. Leases have the numbers 1 to 6.
#[derive(Clone, Debug)]
enum Step {
    Grant {
        lease: i64,
        ttl: u64,
        age_ms: u64,
    },
    Attach {
        lease: i64,
        patience_ms: u64,
    },
    Forget {
        lease: i64,
    },
    RenewNow {
        lease: i64,
    },
    Open,
    LoseStream,
    Answer {
        ttl: i64,
    },
    OutOfOrder {
        lease: i64,
    },
    Advance {
        ms: u64,
    },
    AdvanceToTimeout,
    /// Time passes, and the next input comes before the timer.
    Oversleep {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let lease = || 1..7_i64;
    let ttl = prop_oneof![8 => 1..20_i64, 1 => -2..1_i64, 1 => Just(i64::MAX)];
    prop_oneof![
        2 => (lease(), 1..20_u64, 0..3_000_u64)
            .prop_map(|(lease, ttl, age_ms)| Step::Grant { lease, ttl, age_ms }),
        1 => (lease(), 0..5_000_u64)
            .prop_map(|(lease, patience_ms)| Step::Attach { lease, patience_ms }),
        1 => lease().prop_map(|lease| Step::Forget { lease }),
        1 => lease().prop_map(|lease| Step::RenewNow { lease }),
        3 => Just(Step::Open),
        1 => Just(Step::LoseStream),
        8 => ttl.prop_map(|ttl| Step::Answer { ttl }),
        1 => (1..8_i64).prop_map(|lease| Step::OutOfOrder { lease }),
        4 => (0..1_000_u64).prop_map(|ms| Step::Advance { ms }),
        1 => (0..100_000_u64).prop_map(|ms| Step::Advance { ms }),
        6 => Just(Step::AdvanceToTimeout),
        2 => (0..20_000_u64).prop_map(|ms| Step::Oversleep { ms }),
    ]
}

fn take(harness: &mut Harness, step: Step) {
    match step {
        Step::Grant { lease, ttl, age_ms } => {
            let sent_at = harness.now - ms(age_ms);
            harness.keep(id(lease), Kept::Granted { sent_at, ttl: secs(ttl) });
        }
        Step::Attach { lease, patience_ms } => {
            let give_up_at = harness.now + ms(patience_ms);
            harness.keep(id(lease), Kept::Unknown { give_up_at });
        }
        Step::Forget { lease } => harness.forget(id(lease)),
        Step::RenewNow { lease } => harness.renew_now(id(lease)),
        Step::Open => harness.open(),
        Step::LoseStream => harness.lose_stream(),
        Step::Answer { ttl } => harness.answer(ttl),
        Step::OutOfOrder { lease } => {
            if harness.open && harness.unanswered.front().is_none_or(|sent| sent.id != id(lease)) {
                harness.answer_out_of_order(id(lease));
            }
        }
        Step::Advance { ms: millis } => harness.advance(ms(millis)),
        // The audit has to wait until the schedule knows.
        Step::Oversleep { ms: millis } => return harness.now = harness.now + ms(millis),
        Step::AdvanceToTimeout => {
            if let Some(at) = harness.machine.poll_timeout()
                && at < Moment::FAR_FUTURE
            {
                harness.advance(at.since(harness.now));
            }
        }
    }
    harness.advance(ms(0));
    harness.audit();
}

/// What no caller in its senses does; only for whether it panics or never ends.
fn abuse(machine: &mut LeaseSchedule, (what, now, lease, value): (u8, u64, i64, i64)) {
    let (now, lease) = (Moment::from_nanos(now), id(lease));
    let at = Moment::from_nanos(value as u64);
    match what {
        0 => {
            machine.keep(now, lease, Kept::Granted { sent_at: at, ttl: secs(value.unsigned_abs()) })
        }
        1 => machine.keep(now, lease, Kept::Unknown { give_up_at: at }),
        2 => machine.renew_now(now, lease),
        3 => machine.forget(lease),
        4 => machine.stream_opened(now),
        5 => machine.stream_lost(now),
        6 => machine.handle_answer(now, lease, value),
        7 => machine.handle_timeout(now),
        _ => {
            while let Some(sent) = machine.poll_transmit(now) {
                machine.handle_answer(now, sent, value);
                if value % 2 == 0 {
                    break;
                }
            }
        }
    }
    machine.poll_timeout();
}

fn anything() -> impl Strategy<Value = (u8, u64, i64, i64)> {
    let extreme = || prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(i64::MAX), any::<i64>()];
    let now = prop_oneof![Just(u64::MAX), Just(0), any::<u64>(), 0..90_000_000_000_u64];
    (0..9_u8, now, prop_oneof![1..5_i64, Just(i64::MIN)], prop_oneof![1..30_i64, extreme()])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    /// The rules are in the harness: alive only before the deadline, which counts from the send
    /// of the answered renewal; lost once; no storm; no busy loop.
    #[test]
    fn the_rules_hold_whatever_happens(steps in prop::collection::vec(step(), 1..200)) {
        let mut harness = Harness::opened();
        for step in steps {
            take(&mut harness, step);
        }
    }

    #[test]
    fn no_input_panics_or_hangs(inputs in prop::collection::vec(anything(), 1..100)) {
        let mut machine = LeaseSchedule::new();
        for input in inputs {
            abuse(&mut machine, input);
        }
    }
}
