use std::time::Duration;

use super::Verdict;
use crate::Moment;

/// How long a call may take, and how often it may be tried.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whether doing it twice is as good as once.
    pub repeatable: bool,
    /// When the call ends, answered or not.
    pub deadline: Moment,
    /// How long the first attempts of a repeatable call wait for an answer.
    pub attempt: Duration,
    /// How many times a call may be tried again.
    pub retries: u32,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Try again after this pause, on another endpoint if there is one.
    Again {
        /// Zero until a majority of the endpoints was tried.
        pause: Duration,
    },
    /// Fetch a fresh token, then try again.
    RefreshToken,
    /// The failure is the answer.
    GiveUp,
}

/// The first pause after a majority was tried; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Fresh tokens one call may ask for: one cures an expired token, the others a busy auth store.
const REFRESHES: u32 = 3;

/// The attempts of one call.
///
/// A failed attempt moves to the next endpoint at once; after each majority of the endpoints
/// there is a pause, since by then the fault lies with the cluster. An attempt of a repeatable
/// call waits a fixed time at first, twice as long after each round over all endpoints, so that
/// an answer which takes long is found too.
#[derive(Debug)]
pub struct Attempts {
    policy: Policy,
    endpoints: u32,
    failed: u32,
    refreshes: u32,
}

impl Attempts {
    /// No attempt was made yet, on `endpoints` endpoints.
    pub fn new(policy: Policy, endpoints: usize) -> Self {
        let endpoints = u32::try_from(endpoints).unwrap_or(u32::MAX).max(1);
        Self { policy, endpoints, failed: 0, refreshes: 0 }
    }

    /// How long the next attempt may take; zero when the time is up.
    pub fn patience(&self, now: Moment) -> Duration {
        let rest = self.rest(now);
        if !self.policy.repeatable {
            return rest;
        }
        let round = (self.failed / self.endpoints).min(16);
        self.policy.attempt.saturating_mul(1 << round).min(rest)
    }

    /// How long the call has still to go.
    pub fn rest(&self, now: Moment) -> Duration {
        self.policy.deadline.since(now)
    }

    /// Takes in a failed attempt.
    pub fn handle_failure(&mut self, now: Moment, verdict: Verdict) -> Step {
        match verdict {
            Verdict::RefreshToken => {
                self.refreshes += 1;
                if self.refreshes > REFRESHES { Step::GiveUp } else { Step::RefreshToken }
            }
            Verdict::Again => self.again(now),
            // Everybody was asked and said the same.
            Verdict::Elsewhere if self.failed + 1 >= self.endpoints => Step::GiveUp,
            Verdict::Elsewhere => self.again(now),
            Verdict::Refused | Verdict::Failed | Verdict::Indeterminate => Step::GiveUp,
        }
    }

    /// How many attempts failed so far.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    fn again(&mut self, now: Moment) -> Step {
        self.failed = self.failed.saturating_add(1);
        if self.failed > self.policy.retries {
            return Step::GiveUp;
        }
        let majority = self.endpoints / 2 + 1;
        let pause = if self.failed.is_multiple_of(majority) {
            let rounds = (self.failed / majority - 1).min(8);
            FIRST_PAUSE.saturating_mul(1 << rounds).min(LONGEST_PAUSE)
        } else {
            Duration::ZERO
        };
        // An attempt that is cut off soon after its pause only hides the reason of this failure.
        let worth_it = now + 2 * pause < self.policy.deadline;
        if worth_it { Step::Again { pause } } else { Step::GiveUp }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn read() -> Policy {
        Policy { repeatable: true, deadline: at(10_000), attempt: SECOND, retries: 100 }
    }

    #[test]
    fn the_second_member_is_asked_at_once_and_a_majority_is_followed_by_a_pause() {
        let mut attempts = Attempts::new(read(), 3);
        let steps: Vec<_> =
            (0..4).map(|_| attempts.handle_failure(at(0), Verdict::Again)).collect();
        let now = Step::Again { pause: Duration::ZERO };
        let later = |ms| Step::Again { pause: Duration::from_millis(ms) };
        assert_eq!(steps, [now, later(25), now, later(50)]);
    }

    #[test]
    fn attempts_grow_after_each_round_and_never_outlive_the_call() {
        let mut attempts = Attempts::new(read(), 1);
        let mut now = at(0);
        let mut taken = Vec::new();
        loop {
            let patience = attempts.patience(now);
            taken.push(patience.as_millis() as u64);
            now = now + patience;
            match attempts.handle_failure(now, Verdict::Again) {
                Step::Again { pause } => now = now + pause,
                _ => break,
            }
        }
        assert_eq!(taken[..3], [1000, 2000, 4000]);
        assert!(now <= at(10_000));
    }

    #[test]
    fn no_pause_is_made_for_an_attempt_without_time() {
        let mut attempts = Attempts::new(Policy { deadline: at(100), ..read() }, 1);
        let pause = Duration::from_millis(25);
        assert_eq!(attempts.handle_failure(at(0), Verdict::Again), Step::Again { pause });
        assert_eq!(attempts.handle_failure(at(25), Verdict::Again), Step::GiveUp, "50 + 50 ms");
    }

    #[test]
    fn a_write_has_all_the_time_in_one_attempt() {
        let policy = Policy { repeatable: false, deadline: at(8_000), ..read() };
        let mut attempts = Attempts::new(policy, 3);
        assert_eq!(attempts.patience(at(0)), 8 * SECOND);
        assert_eq!(attempts.handle_failure(at(0), Verdict::Indeterminate), Step::GiveUp);
    }

    #[test]
    fn no_leader_is_asked_of_everybody_once() {
        let mut attempts = Attempts::new(read(), 3);
        let mut tries = 1;
        while attempts.handle_failure(at(0), Verdict::Elsewhere) != Step::GiveUp {
            tries += 1;
        }
        assert_eq!(tries, 3);
    }

    #[test]
    fn a_token_that_is_refused_again_and_again_ends_the_call() {
        let mut attempts = Attempts::new(read(), 3);
        for _ in 0..REFRESHES {
            assert_eq!(attempts.handle_failure(at(0), Verdict::RefreshToken), Step::RefreshToken);
        }
        assert_eq!(attempts.handle_failure(at(0), Verdict::RefreshToken), Step::GiveUp);
    }

    proptest! {
        #[test]
        fn a_call_ends_by_its_deadline_and_does_not_storm(
            endpoints in 1usize..6,
            costs in prop::collection::vec(0u64..3000, 1..50),
        ) {
            let mut attempts = Attempts::new(read(), endpoints);
            let (mut now, mut made) = (at(0), 0u64);
            for cost in costs.iter().cycle() {
                let patience = attempts.patience(now);
                made += 1;
                now = now + patience.min(Duration::from_millis(*cost));
                match attempts.handle_failure(now, Verdict::Again) {
                    Step::Again { pause } => now = now + pause,
                    _ => break,
                }
            }
            prop_assert!(now <= at(10_000));
            // A majority at once per pause, and pauses reach 200 ms.
            prop_assert!(made <= 101);
        }
    }
}
