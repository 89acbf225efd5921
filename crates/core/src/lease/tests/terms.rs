use std::time::Duration;

use crate::{
    LeaseId, Moment,
    lease::{local_deadline, terms::next_renewal},
};

const START: Moment = Moment::from_nanos(7_000_000_000);

fn lives_for(ttl: Duration) -> Duration {
    local_deadline(START, ttl).since(START)
}

#[test]
fn a_twentieth_is_kept_back_of_long_ttls_and_half_a_second_of_short_ones() {
    assert_eq!(lives_for(Duration::from_secs(100)), Duration::from_secs(94));
    assert_eq!(lives_for(Duration::from_secs(5)), Duration::from_millis(4_450));
    assert_eq!(lives_for(Duration::from_secs(2)), Duration::from_millis(1_480));
}

#[test]
fn the_shortest_ttl_leaves_something_and_none_leaves_nothing() {
    assert_eq!(lives_for(Duration::from_secs(1)), Duration::from_millis(490));
    assert_eq!(lives_for(Duration::from_millis(300)), Duration::ZERO);
    assert_eq!(lives_for(Duration::ZERO), Duration::ZERO);
}

#[test]
fn absurd_ttls_end_in_the_far_future() {
    assert_eq!(local_deadline(START, Duration::MAX), Moment::FAR_FUTURE);
    assert_eq!(local_deadline(START, Duration::from_secs(i64::MAX as u64)), Moment::FAR_FUTURE);
    assert_eq!(local_deadline(Moment::FAR_FUTURE, Duration::from_secs(9)), Moment::FAR_FUTURE);
    let id = LeaseId::new(-1).unwrap();
    assert!(next_renewal(id, START, Duration::MAX) > START);
}

#[test]
fn a_renewal_is_due_in_the_last_tenth_before_a_third_of_the_ttl() {
    for id in (1..1_000).chain([i64::MIN, -1, i64::MAX]).filter_map(LeaseId::new) {
        let wait = next_renewal(id, START, Duration::from_secs(30)).since(START);
        assert!((Duration::from_secs(9)..=Duration::from_secs(10)).contains(&wait), "{wait:?}");
    }
}

#[test]
fn neighbouring_ids_and_ids_that_differ_only_at_the_top_are_spread() {
    for shift in [0, 20, 48] {
        let mut tenths = [0; 10];
        for id in (1..=1_000).filter_map(|n: i64| LeaseId::new(n << shift)) {
            let wait = next_renewal(id, START, Duration::from_secs(30)).since(START);
            tenths[((wait.as_millis() - 9_000) / 100).min(9) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (50..=200).contains(n)), "{tenths:?} at {shift}");
    }
}
