use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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
fn neighbouring_ids_and_ids_that_differ_only_at_the_top_are_spread_over_a_few_slots() {
    for shift in [0, 20, 48] {
        let mut slots = BTreeMap::new();
        for id in (1..=1_000).filter_map(|n: i64| LeaseId::new(n << shift)) {
            *slots.entry(next_renewal(id, START, Duration::from_secs(30))).or_insert(0) += 1;
        }
        assert!((3..=5).contains(&slots.len()), "{slots:?} at {shift}");
        assert!(slots.values().all(|&n| n <= 500), "{slots:?} at {shift}");
    }
}

#[test]
fn leases_share_slots_whatever_their_ttls() {
    let ids = || (1..=1_000).filter_map(LeaseId::new);
    let due: BTreeSet<_> = [30, 45, 60]
        .into_iter()
        .flat_map(|ttl| ids().map(move |id| next_renewal(id, START, Duration::from_secs(ttl))))
        .collect();
    // The windows overlap by little; each holds at most five slots.
    assert!(due.len() <= 15, "{due:?}");
}
