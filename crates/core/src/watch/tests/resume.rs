use std::time::Duration;

use super::{world::World, *};

/// Where the watch would start on the next stream.
fn next(registry: &mut Registry) -> i64 {
    registry.stream_opened(START);
    creations(registry)[0].1
}

#[test]
fn from_now_goes_on_after_the_revision_of_its_creation() {
    let (mut registry, key) = live();
    registry.stream_lost();
    assert_eq!(registry.state(key), Some(State::Resuming));
    assert_eq!(next(&mut registry), 6);
    registry.handle_response(START, created(2, 5));
    assert_eq!(items(&mut registry), [Item::Interrupted, Item::Resumed]);
}

#[test]
fn an_unanswered_creation_is_asked_again_as_it_was() {
    let mut registry = opened();
    let key = registry.add(spec(0));
    assert_eq!(creations(&mut registry), [(1, 0)]);
    registry.stream_lost();
    assert_eq!(registry.state(key), Some(State::Connecting));
    registry.stream_opened(START);
    assert_eq!(creations(&mut registry), [(2, 0)]);
    assert_eq!(items(&mut registry), []);
}

#[test]
fn only_complete_revisions_and_own_progress_move_a_watch() {
    let (mut registry, _) = live();
    registry.handle_response(START, events(1, &[6, 8, 8]));
    registry.handle_response(START, Response { id: -1, revision: 50, ..Response::default() });
    assert_eq!(next(&mut registry), 9);
    registry.handle_response(START, created(2, 8));
    registry.handle_response(START, Response { id: 2, revision: 20, ..Response::default() });
    registry.handle_response(START, Response { id: 2, revision: 10, ..Response::default() });
    assert_eq!(next(&mut registry), 21);
}

#[test]
fn progress_does_not_pull_a_watch_back_from_a_later_start() {
    let mut registry = opened();
    registry.add(spec(40));
    transmits(&mut registry);
    registry.handle_response(START, created(1, 5));
    registry.handle_response(START, Response { id: 1, revision: 5, ..Response::default() });
    assert_eq!(next(&mut registry), 40);
}

#[test]
fn fragments_are_handed_on_at_revision_borders() {
    let (mut registry, _) = live();
    registry.handle_response(START, fragment(1, &[6, 7]));
    registry.handle_response(START, fragment(1, &[7]));
    registry.handle_response(START, fragment(1, &[7, 8, 9]));
    registry.handle_response(START, events(1, &[9]));
    let batches = [delivered(&[6]), delivered(&[7, 7, 7, 8]), delivered(&[9, 9])];
    assert_eq!(items(&mut registry), batches);
}

#[test]
fn progress_says_nothing_about_a_watch_in_the_middle_of_a_revision() {
    let (mut registry, _) = live();
    registry.handle_response(START, fragment(1, &[6]));
    registry.handle_response(START, Response { id: -1, revision: 6, ..Response::default() });
    assert_eq!(items(&mut registry), []);
    registry.handle_response(START, Response { id: 1, revision: 6, ..Response::default() });
    assert_eq!(items(&mut registry), [delivered(&[6])]);
}

#[test]
fn what_a_lost_stream_left_unfinished_comes_again() {
    let (mut registry, _) = live();
    registry.handle_response(START, fragment(1, &[6, 7]));
    assert_eq!(next(&mut registry), 7);
    registry.handle_response(START, created(2, 6));
    registry.handle_response(START, events(2, &[7, 7]));
    let all = [delivered(&[6]), Item::Interrupted, Item::Resumed, delivered(&[7, 7])];
    assert_eq!(items(&mut registry), all);
}

#[test]
fn revisions_out_of_order_cost_the_stream_and_are_not_delivered() {
    for second in [events(1, &[9, 8]), events(1, &[6])] {
        let (mut registry, _) = live();
        registry.handle_response(START, events(1, &[6, 7]));
        registry.handle_response(START, second);
        assert!(matches!(registry.poll_reopen(), Some(Reopen::Protocol(_))));
        assert_eq!(items(&mut registry), [delivered(&[6, 7]), Item::Interrupted]);
        assert_eq!(next(&mut registry), 8);
    }
}

#[test]
fn a_resume_within_the_history_starts_one_revision_earlier() {
    let (mut registry, key) = live();
    registry.stream_lost();
    assert_eq!(next(&mut registry), 6);
    registry.handle_response(START, created(2, 6));
    let spec = Spec { start: Revision(5), ..spec(0) };
    let again = [Transmit::Cancel { id: 2 }, Transmit::Create { id: 3, spec }];
    assert_eq!(transmits(&mut registry), again);
    assert_eq!(registry.state(key), Some(State::Resuming));
    registry.handle_response(START, events(2, &[6]));
    registry.handle_response(START, created(3, 6));
    registry.handle_response(START, events(3, &[5, 6]));
    assert_eq!(items(&mut registry), [Item::Interrupted, Item::Resumed, delivered(&[6])]);
    assert_eq!(transmits(&mut registry), []);
}

#[test]
fn a_deletion_at_the_compacted_revision_is_not_lost() {
    let mut world = World::new(true);
    world.store.put(0);
    world.open();
    let watch = world.add(Spec { key: model::key(0), ..spec(0) });
    world.serve(1);
    world.receive(1);
    world.cut();
    world.store.delete(0);
    world.store.compact(3);
    world.settle();
    let end = world.consumers[&watch].end.clone();
    assert_eq!(end, Some(End::Compacted { revision: Revision(3) }));
    world.check();
}

#[test]
fn a_compaction_told_to_one_watch_ends_all_that_were_too_late_for_it() {
    let (mut registry, _quick) = live();
    registry.handle_response(START, events(1, &[6, 7, 8, 9]));
    let past: Vec<_> = [2, 3, 6, 7].map(|start| registry.add(spec(start))).into();
    let to_come = registry.add(spec(20));
    transmits(&mut registry);
    for id in 2..=5 {
        registry.handle_response(START, created(id, 9));
    }
    items(&mut registry);
    // 3 has caught up, 6 is in the middle of it, 7 is not answered yet, 2 is told.
    registry.handle_response(START, events(3, &[4, 8]));
    registry.handle_response(START, events(4, &[6]));
    items(&mut registry);
    let unsent = registry.add(spec(4));
    let end = Response { id: 2, canceled: true, compact_revision: 8, ..Response::default() };
    registry.handle_response(START, end);
    let ended: Vec<_> = std::iter::from_fn(|| registry.poll_delivery())
        .map(|Delivery { key, item }| {
            assert_eq!(item, Item::End(End::Compacted { revision: Revision(8) }));
            key
        })
        .collect();
    assert_eq!(ended, [past[0], past[2], past[3], unsent]);
    let cancels = [Transmit::Cancel { id: 4 }, Transmit::Cancel { id: 5 }];
    assert_eq!(transmits(&mut registry), cancels);
    assert_eq!(registry.state(past[1]), Some(State::Live));
    assert_eq!(registry.state(to_come), Some(State::Connecting));
}

#[test]
fn a_watch_that_came_up_long_ago_is_no_concern_of_a_compaction() {
    let (mut registry, _) = live();
    let quiet = registry.add(spec(3));
    transmits(&mut registry);
    registry.handle_response(START, created(2, 5));
    let later = START + Duration::from_secs(6);
    let late = registry.add(spec(2));
    while registry.poll_transmit(later).is_some() {}
    registry.handle_response(later, created(3, 9));
    let end = Response { id: 3, canceled: true, compact_revision: 8, ..Response::default() };
    registry.handle_response(later, end);
    assert_eq!(registry.state(late), None);
    assert_eq!(registry.state(quiet), Some(State::Live));
}

#[test]
fn a_refused_watch_is_tried_again_on_a_stream_opened_after_the_refusal() {
    for reopened_before in [false, true] {
        let mut registry = opened();
        let key = registry.add(spec(0));
        transmits(&mut registry);
        registry.handle_response(START, refused("invalid auth token"));
        if reopened_before {
            registry.stream_opened(START);
            assert_eq!(transmits(&mut registry), []);
            registry.retry(key);
        } else {
            registry.retry(key);
            assert_eq!(transmits(&mut registry), []);
            registry.stream_opened(START);
        }
        assert_eq!(creations(&mut registry), [(2, 0)]);
    }
}
