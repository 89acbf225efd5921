mod world;

use super::*;
use crate::KeyValue;

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn listed(name: &str, created: i64, modified: i64) -> Listed {
    Listed { key: key(name), create_revision: Revision(created), mod_revision: Revision(modified) }
}

fn put(name: &str, created: i64, at: i64) -> Event {
    let kv = KeyValue {
        key: key(name),
        create_revision: Revision(created),
        mod_revision: Revision(at),
        ..KeyValue::default()
    };
    Event { kind: EventKind::Put, kv, prev_kv: None }
}

fn delete(name: &str, at: i64) -> Event {
    let kv = KeyValue { key: key(name), mod_revision: Revision(at), ..KeyValue::default() };
    Event { kind: EventKind::Delete, kv, prev_kv: None }
}

fn listing(revision: i64, keys: &[(&str, i64)]) -> Listing {
    let keys = keys.iter().map(|&(name, created)| listed(name, created, created)).collect();
    Listing { revision: Revision(revision), keys }
}

fn notices(queue: &mut WaitQueue) -> Vec<Notice> {
    std::iter::from_fn(|| queue.poll()).collect()
}

fn turn(name: &str) -> Notice {
    Notice::Turn(key(name))
}

fn deleted(name: &str) -> Notice {
    Notice::Deleted(key(name))
}

fn rewritten(name: &str, at: i64) -> Notice {
    Notice::Rewritten { key: key(name), mod_revision: Revision(at) }
}

/// A queue whose watch stands since revision 3, and which has ours at these revisions.
fn ours(keys: &[(&str, i64)]) -> WaitQueue {
    let mut queue = WaitQueue::new();
    queue.watch_opened(Revision(3));
    for (index, &(name, created)) in keys.iter().enumerate() {
        queue.enter(
            key(name),
            Revision(created),
            Rule::Everybody,
            Some(listing(created - 1, &keys[..index])),
            true,
        );
        queue.handle_events(vec![put(name, created, created)]);
    }
    queue
}

#[test]
fn the_first_to_come_has_its_turn_without_any_watch() {
    let mut queue = WaitQueue::new();
    queue.enter(key("a"), Revision(5), Rule::Everybody, Some(listing(4, &[])), true);
    assert_eq!(notices(&mut queue), [turn("a")]);
    assert_eq!(queue.ahead(&key("a")), Some(0));
}

#[test]
fn a_hand_over_is_one_event_where_the_watch_stood_before() {
    let mut queue = WaitQueue::new();
    queue.watch_opened(Revision(3));
    queue.enter(key("b"), Revision(5), Rule::Everybody, Some(listing(4, &[("a", 4)])), true);
    assert!(!queue.wants_listing(), "the acquire's own answer was one");
    assert_eq!(queue.ahead(&key("b")), Some(1));
    queue.handle_events(vec![put("a", 4, 4), put("b", 5, 5)]);
    assert_eq!(notices(&mut queue), []);
    queue.handle_events(vec![delete("a", 6)]);
    assert_eq!(notices(&mut queue), [turn("b")]);
}

#[test]
fn an_acquire_counts_as_a_listing_for_a_watch_that_is_heard_of_later() {
    let mut queue = WaitQueue::new();
    queue.enter(key("b"), Revision(5), Rule::Everybody, Some(listing(4, &[("a", 4)])), true);
    queue.watch_opened(Revision(5));
    assert!(!queue.wants_listing());
    assert_eq!(queue.ahead(&key("b")), Some(1));
    queue.handle_events(vec![delete("a", 6)]);
    assert_eq!(notices(&mut queue), [turn("b")]);
}

#[test]
fn an_acquire_that_saw_only_the_oldest_is_no_listing() {
    let mut queue = WaitQueue::new();
    queue.enter(key("b"), Revision(5), Rule::Everybody, Some(listing(4, &[("a", 3)])), false);
    queue.watch_opened(Revision(4));
    assert!(queue.wants_listing());
}

#[test]
fn what_came_before_the_answer_of_an_acquire_is_applied_after_it() {
    let mut queue = WaitQueue::new();
    queue.watch_opened(Revision(3));
    queue.handle_events(vec![put("a", 4, 4), put("b", 5, 5), delete("a", 6)]);
    queue.enter(key("b"), Revision(5), Rule::Everybody, Some(listing(4, &[("a", 4)])), true);
    assert_eq!(notices(&mut queue), [turn("b")]);
}

#[test]
fn a_watch_that_came_too_late_needs_a_listing_and_loses_nothing_meanwhile() {
    let mut queue = WaitQueue::new();
    queue.enter(key("b"), Revision(5), Rule::Everybody, Some(listing(4, &[("a", 4)])), true);
    assert!(!queue.wants_listing());
    queue.watch_opened(Revision(7));
    assert!(queue.wants_listing());
    queue.handle_events(vec![delete("a", 9)]);
    assert_eq!(notices(&mut queue), [], "who else is there is not known");
    queue.handle_listing(listing(8, &[("a", 4), ("b", 5)]));
    assert_eq!(notices(&mut queue), [turn("b")]);
}

#[test]
fn a_listing_older_than_the_watch_is_of_no_use() {
    let mut queue = WaitQueue::new();
    queue.enter(key("b"), Revision(5), Rule::Everybody, Some(listing(4, &[("a", 4)])), true);
    queue.watch_opened(Revision(7));
    queue.handle_listing(listing(6, &[("b", 5)]));
    assert!(queue.wants_listing());
    assert_eq!(notices(&mut queue), []);
}

#[test]
fn a_backlog_that_grew_too_long_is_given_up_for_a_newer_listing() {
    let mut queue = WaitQueue::new();
    queue.enter(key("b"), Revision(5), Rule::Everybody, Some(listing(4, &[("a", 4)])), true);
    queue.watch_opened(Revision(7));
    let last = 8 + BACKLOG as i64;
    queue.handle_events((8..=last).map(|at| put("x", 8, at)).collect());
    queue.handle_listing(listing(last - 1, &[("b", 5), ("x", 8)]));
    assert_eq!(notices(&mut queue), []);
    queue.handle_listing(listing(last, &[("b", 5), ("x", 8)]));
    assert_eq!(notices(&mut queue), [turn("b")]);
}

#[test]
fn a_key_of_ours_that_somebody_deletes_is_told_also_across_a_gap() {
    let mut queue = ours(&[("a", 5), ("b", 6)]);
    assert_eq!(notices(&mut queue), [turn("a")]);
    queue.handle_events(vec![delete("b", 7)]);
    queue.watch_lost();
    queue.watch_opened(Revision(9));
    queue.handle_listing(listing(9, &[]));
    assert_eq!(notices(&mut queue), [deleted("b"), deleted("a")]);
}

#[test]
fn a_key_that_was_deleted_before_its_acquire_was_answered_never_has_its_turn() {
    let mut queue = ours(&[("b", 5)]);
    queue.handle_events(vec![delete("b", 6), put("c", 7, 7), delete("c", 8)]);
    queue.enter(key("c"), Revision(7), Rule::Everybody, Some(listing(6, &[])), true);
    assert_eq!(notices(&mut queue), [deleted("b"), deleted("c")]);
}

#[test]
fn the_turn_of_a_later_key_ends_that_of_an_earlier_one() {
    let mut queue = WaitQueue::new();
    queue.enter(key("a"), Revision(5), Rule::Everybody, Some(listing(4, &[])), true);
    assert_eq!(notices(&mut queue), [turn("a")]);
    queue.enter(key("c"), Revision(9), Rule::Everybody, Some(listing(8, &[])), false);
    assert_eq!(notices(&mut queue), [deleted("a"), turn("c")]);
    queue.enter(key("b"), Revision(7), Rule::Everybody, Some(listing(6, &[])), true);
    assert_eq!(notices(&mut queue), [deleted("b")], "an answer that comes too late");
}

#[test]
fn an_acquire_that_sees_nobody_tells_all_of_ours_before_it_that_they_are_gone() {
    let mut queue = WaitQueue::new();
    queue.enter(key("a"), Revision(5), Rule::Everybody, Some(listing(4, &[])), true);
    queue.enter(key("b"), Revision(6), Rule::Everybody, Some(listing(5, &[("a", 5)])), true);
    assert_eq!(notices(&mut queue), [turn("a")]);
    queue.enter(key("c"), Revision(9), Rule::Everybody, Some(listing(8, &[])), false);
    assert_eq!(notices(&mut queue), [deleted("a"), deleted("b"), turn("c")]);
}

#[test]
fn what_an_acquire_saw_tells_another_key_of_ours_that_it_is_the_oldest() {
    let mut queue = WaitQueue::new();
    queue.enter(key("b"), Revision(5), Rule::Everybody, Some(listing(4, &[("a", 4)])), true);
    queue.enter(key("c"), Revision(7), Rule::Everybody, Some(listing(6, &[("b", 5)])), false);
    assert_eq!(notices(&mut queue), [turn("b")]);
}

#[test]
fn an_acquire_that_finds_its_key_put_already_has_seen_a_later_revision() {
    let mut queue = WaitQueue::new();
    queue.watch_opened(Revision(3));
    queue.enter(
        key("b"),
        Revision(5),
        Rule::Everybody,
        Some(listing(8, &[("b", 5), ("c", 7)])),
        true,
    );
    assert_eq!(notices(&mut queue), [turn("b")]);
    queue.enter(key("d"), Revision(9), Rule::Everybody, Some(listing(8, &[("b", 5)])), false);
    assert_eq!(queue.ahead(&key("d")), Some(2));
}

#[test]
fn a_key_that_was_left_is_waited_for_until_it_is_gone() {
    let mut queue = ours(&[("a", 5), ("b", 6)]);
    notices(&mut queue);
    queue.leave(&key("a"));
    assert_eq!(queue.ahead(&key("b")), Some(1));
    assert_eq!(notices(&mut queue), []);
    queue.handle_events(vec![delete("a", 7)]);
    assert_eq!(notices(&mut queue), [turn("b")]);
}

#[test]
fn nothing_is_said_of_a_key_that_was_left() {
    let mut queue = ours(&[("a", 5), ("b", 6)]);
    queue.leave(&key("a"));
    assert_eq!(notices(&mut queue), [], "not even what was to be said before");
    queue.handle_events(vec![put("a", 5, 7), delete("a", 8)]);
    assert_eq!(notices(&mut queue), [turn("b")]);
    assert!(!queue.is_idle());
    queue.leave(&key("b"));
    assert!(queue.is_idle());
}

#[test]
fn a_key_of_ours_that_is_put_again_is_told_and_its_creation_is_not() {
    let mut queue = ours(&[("a", 5)]);
    assert_eq!(notices(&mut queue), [turn("a")]);
    queue.handle_events(vec![put("a", 5, 7)]);
    queue.handle_events(vec![put("a", 5, 7)]);
    assert_eq!(notices(&mut queue), [rewritten("a", 7)]);
}

#[test]
fn a_key_of_ours_that_is_put_again_is_told_also_across_a_gap_and_before_its_answer() {
    let mut queue = ours(&[("a", 5)]);
    notices(&mut queue);
    queue.handle_events(vec![put("b", 7, 7), put("b", 7, 8)]);
    queue.enter(key("b"), Revision(7), Rule::Everybody, Some(listing(6, &[("a", 5)])), true);
    assert_eq!(notices(&mut queue), [rewritten("b", 8)]);
    queue.watch_opened(Revision(12));
    let keys = vec![listed("a", 5, 11), listed("b", 7, 8)];
    queue.handle_listing(Listing { revision: Revision(12), keys });
    assert_eq!(notices(&mut queue), [rewritten("a", 11)]);
}

#[test]
fn all_that_are_older_are_counted_ours_and_those_of_others() {
    let mut queue = WaitQueue::new();
    queue.watch_opened(Revision(3));
    queue.enter(
        key("a"),
        Revision(6),
        Rule::Everybody,
        Some(listing(5, &[("x", 4), ("y", 5)])),
        true,
    );
    let before = [("x", 4), ("y", 5), ("a", 6), ("z", 7)];
    queue.handle_events(vec![put("z", 7, 7)]);
    queue.enter(key("b"), Revision(8), Rule::Everybody, Some(listing(7, &before)), true);
    assert_eq!(queue.ahead(&key("b")), Some(4));
    assert_eq!(queue.ahead(&key("a")), Some(2));
    assert_eq!(queue.ahead(&key("z")), None, "it is not ours");
}

#[test]
fn keys_that_one_transaction_put_know_of_one_another() {
    let both = |queue: &mut WaitQueue, older: &[(&str, i64)]| {
        // What was there before, and what was put together.
        let before = listing(4, &[older, &[("read/b", 5), ("write/b", 5)]].concat());
        let before = Listing { revision: Revision(4), ..before };
        queue.enter(key("read/b"), Revision(5), Rule::Everybody, Some(before), true);
        queue.enter(key("write/b"), Revision(5), Rule::Nobody, None, false);
    };
    for watched in [false, true] {
        let mut queue = WaitQueue::new();
        if watched {
            queue.watch_opened(Revision(3));
        }
        both(&mut queue, &[]);
        assert_eq!(notices(&mut queue), [turn("read/b"), turn("write/b")]);
        queue.handle_events(vec![put("read/b", 5, 5), put("write/b", 5, 5), delete("write/b", 6)]);
        let told = if watched { vec![deleted("write/b")] } else { vec![] };
        assert_eq!(notices(&mut queue), told);

        let mut queue = WaitQueue::new();
        both(&mut queue, &[("read/a", 4)]);
        queue.watch_opened(Revision(5));
        assert_eq!(notices(&mut queue), [turn("write/b")]);
        queue.handle_events(vec![delete("read/a", 6)]);
        assert_eq!(notices(&mut queue), [turn("read/b")]);
    }
}
