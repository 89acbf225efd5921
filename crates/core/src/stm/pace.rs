use std::time::Duration;

/// So many tries are made without a pause: what the last one was told is still fresh.
const AT_ONCE: u32 = 3;
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(100);

/// When a transaction that met a conflict is tried again, and for how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    tries: u32,
    failed: u32,
}

impl Pace {
    /// For so many tries in all.
    pub fn new(tries: u32) -> Self {
        Self { tries, failed: 0 }
    }

    /// A try failed: how long to wait before the next one, or `None` if it was the last. The first
    /// two follow at once; then it is 1 ms, twice as long each time up to 100 ms, less up to a half
    /// of it by `chance`, any number, so that contenders part.
    pub fn again(&mut self, chance: u32) -> Option<Duration> {
        self.failed = self.failed.saturating_add(1);
        if self.failed >= self.tries {
            return None;
        }
        let Some(doublings) = self.failed.checked_sub(AT_ONCE) else { return Some(Duration::ZERO) };
        let longest = FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST);
        let less = longest.mul_f64(f64::from(chance) / f64::from(u32::MAX) / 2.0);
        Some(longest.saturating_sub(less))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(tries: u32, chance: u32) -> Vec<Duration> {
        let mut pace = Pace::new(tries);
        std::iter::from_fn(|| pace.again(chance)).collect()
    }

    #[test]
    fn there_are_so_many_tries_and_no_more() {
        assert_eq!(pauses(1, 0), []);
        assert_eq!(pauses(2, 0), [Duration::ZERO]);
        assert_eq!(pauses(100, 0).len(), 99);
    }

    #[test]
    fn pauses_begin_late_and_grow_to_a_tenth_of_a_second() {
        let millis = |chance| -> Vec<_> {
            pauses(14, chance).iter().map(|pause| pause.as_micros()).collect()
        };
        let whole = [0, 0, 1, 2, 4, 8, 16, 32, 64, 100, 100, 100, 100].map(|millis| millis * 1000);
        assert_eq!(millis(0), whole);
        assert_eq!(millis(u32::MAX), whole.map(|micros| micros / 2));
    }
}
