//! How to pace attempts to end an outage.

use std::time::Duration;

use crate::Moment;

/// The first pause.
const FIRST: Duration = Duration::from_millis(5);
/// The longest pause while an outage is young: a server that restarts is found within this time.
const LONGEST_YOUNG: Duration = Duration::from_millis(40);
/// How long an outage counts as young.
const YOUNG: Duration = Duration::from_secs(10);
/// The longest pause ever.
const LONGEST: Duration = Duration::from_secs(1);
/// What lasted so long was no failure.
const LASTED: Duration = Duration::from_secs(60);
/// The pause after what did not.
const FIRST_COMEBACK: Duration = Duration::from_millis(500);
/// The longest pause between such.
const SLOWEST: Duration = Duration::from_secs(30);

/// An outage that lasts, and how to pace the attempts to end it.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    since: Moment,
    failures: u32,
}

impl Outage {
    /// It began with a failure now.
    pub fn new(now: Moment) -> Self {
        Self { since: now, failures: 0 }
    }

    /// How long to wait before the next attempt: 5 ms at first, twice as long each time, but no
    /// longer than 40 ms in the first ten seconds, and than a second later.
    pub fn pause(&mut self, now: Moment) -> Duration {
        let longest = if now.since(self.since) < YOUNG { LONGEST_YOUNG } else { LONGEST };
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

/// How to pace something that begins anew each time it ends: at once after it lasted, and ever
/// more slowly while it does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comebacks {
    in_a_row: u32,
}

impl Comebacks {
    /// How long to wait, it having lasted so long: nothing after a minute; else half a second, and
    /// twice as long each time, but no longer than 30 s.
    pub fn pause(&mut self, lasted: Duration) -> Duration {
        if lasted >= LASTED {
            self.in_a_row = 0;
            return Duration::ZERO;
        }
        let pause = FIRST_COMEBACK.saturating_mul(1 << self.in_a_row.min(16)).min(SLOWEST);
        self.in_a_row = self.in_a_row.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_last_comes_back_ever_more_slowly() {
        let mut comebacks = Comebacks::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<_> = (0..8).map(|_| comebacks.pause(short).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(comebacks.pause(LASTED), Duration::ZERO);
        assert_eq!(comebacks.pause(short), FIRST_COMEBACK);
    }

    #[test]
    fn attempts_are_quick_while_the_outage_is_young_and_rare_later() {
        let start = Moment::default();
        let (mut outage, mut now) = (Outage::new(start), start);
        let mut attempts = 0;
        while now.since(start) < Duration::from_secs(60) {
            now = now + outage.pause(now);
            attempts += 1;
        }
        assert!((250..350).contains(&attempts), "{attempts} attempts in a minute");
    }
}
