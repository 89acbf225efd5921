use std::time::Duration;

use crate::{LeaseId, Moment};

/// The least by which the local deadline stays ahead of the server's.
const LEAST_MARGIN: u128 = 500_000_000;

/// The moment by which a lease must be taken for lost here, whatever the server may still say.
///
/// `sent_at` is when the last acknowledged renewal (or the grant) was *sent*: the server cannot
/// have started its own count before. `ttl` is what it granted. From that are taken 1 % for
/// clocks that run at different speeds, and a margin of half a second or a twentieth of the TTL,
/// whichever is more:
///
/// ```
/// use std::time::Duration;
/// use tenure_core::{Moment, lease::local_deadline};
///
/// let sent_at = Moment::default();
/// let after = |ttl| local_deadline(sent_at, Duration::from_secs(ttl)).since(sent_at);
/// assert_eq!(after(1), Duration::from_millis(490));
/// assert_eq!(after(10), Duration::from_millis(9_400));
/// assert_eq!(after(60), Duration::from_millis(56_400));
/// ```
///
/// Never before `sent_at`, and never past [`Moment::FAR_FUTURE`].
pub fn local_deadline(sent_at: Moment, ttl: Duration) -> Moment {
    let ttl = ttl.as_nanos();
    let margin = LEAST_MARGIN.max(ttl / 20);
    sent_at + span((ttl - ttl / 100).saturating_sub(margin))
}

/// When to renew next: a third of the TTL after the send, less up to a tenth of that.
///
/// The tenth spreads leases that were granted together over the two to four slots in it. It is
/// taken from the id, so that it needs no source of randomness. What is due in the same slot is
/// written together: each wake-up costs more than the renewals.
pub(super) fn next_renewal(id: LeaseId, sent_at: Moment, ttl: Duration) -> Moment {
    // Multiplying by 2^64 / golden ratio scatters neighbouring ids over the whole range.
    let scatter = (id.get() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let third = ttl.as_nanos() / 3;
    let due = sent_at + span(third - ((third * u128::from(scatter)) >> 32) / 10);
    let slot = slot(ttl);
    let begin = due - Duration::from_nanos(due.as_nanos() % slot);
    let too_early = begin.since(sent_at).as_nanos() < third - third / 10;
    if too_early { begin + Duration::from_nanos(slot) } else { begin }
}

/// The length of a slot in nanoseconds: a power of two, so that different TTLs share them.
fn slot(ttl: Duration) -> u64 {
    let most = (ttl / 60).as_nanos().max(1);
    1 << most.ilog2().min(29)
}

fn span(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
