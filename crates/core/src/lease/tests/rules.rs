use super::harness::{Harness, id, ms, secs};
use crate::lease::{
    Kept, LeaseEvent, LeaseSchedule, LeaseState, LossReason, Reopen, WINDOW, entry::Lease,
    local_deadline,
};

/// A harness with leases 1 to `count`, each with its first renewal on the stream.
fn renewing(count: i64, ttl: u64) -> Harness {
    let mut harness = Harness::opened();
    for n in 1..=count {
        harness.grant(id(n), secs(ttl));
        harness.renew_now(id(n));
    }
    harness
}

fn lost(n: i64, reason: LossReason) -> LeaseEvent {
    LeaseEvent::Lost { id: id(n), reason }
}

fn jeopardies(harness: &Harness) -> usize {
    harness.events.iter().filter(|event| matches!(event, LeaseEvent::Jeopardy { .. })).count()
}

#[test]
fn an_entry_stays_small() {
    // With key, timer and place in the queue that makes 110 to 190 bytes per lease in the trees.
    assert!(size_of::<Lease>() <= 48);
}

#[test]
fn a_deadline_counts_from_the_send_and_not_from_the_answer() {
    let mut harness = renewing(1, 30);
    let sent_at = harness.now;
    harness.advance(ms(1_200));
    harness.answer(20);
    assert_eq!(harness.machine.deadline(id(1)), Some(local_deadline(sent_at, secs(20))));
    assert_eq!(harness.machine.state(id(1)), Some(LeaseState::Healthy));
}

#[test]
fn jeopardy_begins_after_a_second_and_a_half_and_an_answer_ends_it() {
    let mut harness = renewing(2, 30);
    let until = local_deadline(harness.now, secs(30));
    harness.advance(ms(800));
    harness.answer(30);
    harness.advance(ms(699));
    assert_eq!(jeopardies(&harness), 0);
    harness.advance(ms(1));
    assert_eq!(harness.events.last(), Some(&LeaseEvent::Jeopardy { id: id(2), until }));
    assert_eq!(harness.machine.state(id(2)), Some(LeaseState::Jeopardy { until }));
    harness.answer(30);
    assert_eq!(harness.machine.state(id(2)), Some(LeaseState::Healthy));
    assert_eq!(jeopardies(&harness), 1);
}

#[test]
fn without_a_stream_a_due_lease_is_in_jeopardy_after_a_second_and_a_half() {
    let mut harness = Harness::default();
    harness.grant(id(1), secs(30));
    let due = harness.machine.poll_timeout().unwrap();
    harness.advance(due.since(harness.now));
    harness.advance(ms(1_499));
    assert_eq!(harness.machine.state(id(1)), Some(LeaseState::Healthy));
    harness.advance(ms(1));
    assert_eq!(jeopardies(&harness), 1);
    harness.open();
    assert_eq!(harness.unanswered.len(), 1);
}

#[test]
fn unanswered_time_adds_up_over_streams() {
    let mut harness = renewing(1, 30);
    harness.advance(ms(1_000));
    harness.lose_stream();
    harness.open();
    assert_eq!(harness.sends, 2);
    harness.advance(ms(500));
    assert_eq!(jeopardies(&harness), 1);
}

#[test]
fn a_late_answer_revives_nothing() {
    let mut harness = Harness::opened();
    harness.grant(id(1), secs(30));
    let deadline = local_deadline(harness.now, secs(30));
    harness.advance(secs(9));
    harness.renew_now(id(1));
    harness.now = deadline;
    harness.answer(30);
    assert_eq!(harness.events, [lost(1, LossReason::Expired)]);
    assert_eq!(harness.machine.poll_timeout(), None);
}

#[test]
fn the_server_s_word_ends_a_lease_at_once() {
    for ttl in [0, -1, i64::MIN] {
        let mut harness = renewing(1, 30);
        harness.answer(ttl);
        assert_eq!(harness.events, [lost(1, LossReason::Gone)]);
        assert!(!harness.machine.wants_stream());
    }
}

#[test]
fn a_lease_of_unknown_ttl_connects_by_its_first_answer() {
    let mut harness = Harness::opened();
    let give_up_at = harness.now + secs(5);
    harness.keep(id(1), Kept::Unknown { give_up_at });
    harness.keep(id(2), Kept::Unknown { give_up_at });
    assert_eq!(harness.unanswered.len(), 2);
    assert_eq!(harness.machine.state(id(1)), Some(LeaseState::Connecting));
    assert_eq!(harness.machine.deadline(id(1)), None);
    harness.answer(30);
    assert_eq!(harness.machine.state(id(1)), Some(LeaseState::Healthy));
    harness.advance(secs(5));
    assert_eq!(harness.events.last(), Some(&lost(2, LossReason::Unanswered)));
    assert_eq!(jeopardies(&harness), 0);
}

#[test]
fn a_silent_stream_is_reopened_after_a_second_and_a_half_and_then_every_second() {
    let mut harness = renewing(1, 60);
    harness.advance(ms(1_499));
    assert_eq!(harness.reopen, None);
    harness.advance(ms(1));
    assert_eq!(harness.reopen.take(), Some(Reopen::Silent));
    for _ in 0..3 {
        harness.open();
        harness.advance(ms(999));
        assert_eq!(harness.reopen, None);
        harness.advance(ms(1));
        assert_eq!(harness.reopen.take(), Some(Reopen::Silent));
    }
    harness.open();
    harness.answer(60);
    harness.renew_now(id(1));
    harness.advance(ms(1_499));
    assert_eq!(harness.reopen, None);
    assert_eq!(harness.sends, 6);
}

#[test]
fn a_slow_stream_that_moves_is_not_reopened() {
    let mut harness = renewing(100, 300);
    for _ in 0..100 {
        harness.advance(ms(1_400));
        harness.answer(300);
    }
    assert_eq!(harness.reopen, None);
}

#[test]
fn a_late_answer_is_no_stall() {
    let mut harness = renewing(1, 60);
    harness.now = harness.now + secs(9);
    harness.answer(60);
    assert_eq!(harness.reopen, None);
    assert_eq!(harness.machine.state(id(1)), Some(LeaseState::Healthy));
}

#[test]
fn an_answer_out_of_order_breaks_the_stream_and_does_not_count() {
    let mut harness = renewing(2, 30);
    let deadline = harness.machine.deadline(id(2));
    harness.advance(ms(100));
    harness.answer_out_of_order(id(2));
    assert_eq!(harness.reopen, Some(Reopen::OutOfOrder));
    assert_eq!(harness.machine.deadline(id(2)), deadline);
    harness.open();
    assert_eq!(harness.unanswered.len(), 2);
}

#[test]
fn an_answer_for_a_forgotten_lease_says_nothing_about_its_namesake() {
    let mut harness = renewing(1, 30);
    harness.forget(id(1));
    harness.grant(id(1), secs(30));
    harness.renew_now(id(1));
    harness.answer(0);
    assert_eq!(harness.machine.state(id(1)), Some(LeaseState::Healthy));
    harness.answer(30);
    assert_eq!(harness.events.len(), 1);
}

#[test]
fn a_burst_is_paced_by_the_answers_and_the_most_urgent_go_first() {
    let mut harness = Harness::default();
    for n in 1..=3_000 {
        harness.keep(id(n), Kept::Unknown { give_up_at: harness.now + secs(4_000 - n as u64) });
    }
    harness.open();
    assert_eq!(harness.unanswered.len(), WINDOW);
    assert_eq!(harness.unanswered[0].id, id(3_000));
    harness.answer(30);
    assert_eq!(harness.unanswered.len(), WINDOW);
    assert_eq!(harness.sends, WINDOW as u64 + 1);
}

#[test]
fn waiting_for_room_is_no_jeopardy_until_the_stream_is_lost() {
    let mut harness = renewing(WINDOW as i64 + 9, 300);
    for _ in 0..3 {
        harness.advance(ms(1_000));
        harness.answer(300);
    }
    // All of the first window but the one answered in time, and the first to take a place in it.
    assert_eq!(jeopardies(&harness), WINDOW);
    harness.lose_stream();
    // Now also the six that never had a place.
    assert_eq!(jeopardies(&harness), WINDOW + 6);
}

#[test]
fn asking_twice_at_once_sends_once() {
    let mut harness = renewing(1, 30);
    harness.renew_now(id(1));
    harness.renew_now(id(9));
    assert_eq!(harness.sends, 1);
}

#[test]
fn after_a_suspend_a_lease_is_lost_before_anything_is_sent() {
    let mut harness = Harness::opened();
    harness.grant(id(1), secs(30));
    harness.advance(secs(3_600));
    assert_eq!(harness.events, [lost(1, LossReason::Expired)]);
    assert_eq!(harness.sends, 0);
}

#[test]
fn nothing_kept_asks_for_nothing() {
    let mut schedule = LeaseSchedule::new();
    let now = Harness::opened().now;
    schedule.stream_opened(now);
    assert!(schedule.is_empty() && !schedule.wants_stream());
    assert_eq!((schedule.poll_transmit(now), schedule.poll_timeout()), (None, None));

    let mut harness = renewing(1, 30);
    harness.forget(id(1));
    harness.advance(secs(9));
    assert_eq!((harness.machine.poll_timeout(), harness.reopen), (None, None));
}
