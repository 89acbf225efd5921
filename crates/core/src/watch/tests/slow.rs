use super::*;

/// A live watch with room for four events.
fn narrow() -> (Registry, WatchKey) {
    let mut registry = opened();
    let limit = Weight { events: 4, bytes: 1000 };
    let key = registry.add(Spec { limit, ..spec(0) });
    transmits(&mut registry);
    registry.handle_response(START, created(1, 5));
    items(&mut registry);
    (registry, key)
}

fn taken(events: usize) -> Weight {
    Weight { events, bytes: 0 }
}

#[test]
fn what_does_not_fit_pauses_a_watch_until_half_is_consumed() {
    let (mut registry, key) = narrow();
    registry.handle_response(START, events(1, &[6, 7, 8]));
    registry.handle_response(START, events(1, &[9, 10]));
    let accepted = [delivered(&[6, 7, 8]), delivered(&[9]), Item::Interrupted];
    assert_eq!(items(&mut registry), accepted);
    assert_eq!(transmits(&mut registry), [Transmit::Cancel { id: 1 }]);
    assert_eq!(registry.state(key), Some(State::Paused));
    registry.consumed(key, taken(1));
    assert_eq!(transmits(&mut registry), []);
    registry.consumed(key, taken(1));
    // From 10, but what did not fit is in the store already, so one earlier at once.
    assert_eq!(creations(&mut registry), [(2, 9)]);
    registry.handle_response(START, created(2, 10));
    registry.handle_response(START, events(2, &[9, 10]));
    assert_eq!(items(&mut registry), [Item::Resumed, delivered(&[10])]);
}

#[test]
fn a_big_revision_waits_until_it_fits() {
    let (mut registry, key) = narrow();
    registry.handle_response(START, events(1, &[6, 7]));
    registry.handle_response(START, events(1, &[8, 8, 8, 8, 8, 8]));
    assert_eq!(items(&mut registry), [delivered(&[6, 7]), Item::Interrupted]);
    registry.consumed(key, taken(1));
    assert_eq!(creations(&mut registry), []);
    registry.consumed(key, taken(1));
    assert_eq!(creations(&mut registry), [(2, 7)]);
    registry.handle_response(START, created(2, 8));
    registry.handle_response(START, events(2, &[7, 8, 8, 8, 8, 8, 8, 9]));
    let accepted = [Item::Resumed, delivered(&[8, 8, 8, 8, 8, 8]), Item::Interrupted];
    assert_eq!(items(&mut registry), accepted);
}

#[test]
fn a_slow_consumer_does_not_stall_its_siblings() {
    let (mut registry, slow) = narrow();
    let quick = registry.add(spec(0));
    transmits(&mut registry);
    registry.handle_response(START, created(2, 5));
    for revision in 6..50 {
        registry.handle_response(START, events(1, &[revision]));
        registry.handle_response(START, events(2, &[revision]));
    }
    assert_eq!(registry.state(slow), Some(State::Paused));
    assert_eq!(registry.state(quick), Some(State::Live));
    assert_eq!(transmits(&mut registry), [Transmit::Cancel { id: 1 }]);
    assert_eq!(items(&mut registry).len(), 1 + 4 + 1 + 44);
}

#[test]
fn a_paused_watch_stays_so_when_the_stream_is_lost() {
    let (mut registry, key) = narrow();
    registry.handle_response(START, events(1, &[6, 7, 8, 9, 10]));
    registry.stream_opened(START);
    assert_eq!((transmits(&mut registry), registry.poll_timeout()), (vec![], None));
    assert_eq!(registry.state(key), Some(State::Paused));
    registry.consumed(key, taken(4));
    assert_eq!(creations(&mut registry), [(2, 9)]);
}

#[test]
fn progress_that_does_not_fit_is_left_out() {
    let (mut registry, key) = narrow();
    registry.handle_response(START, events(1, &[6, 7, 8, 9]));
    for id in [1, -1] {
        registry.handle_response(START, Response { id, revision: 20, ..Response::default() });
    }
    assert_eq!(items(&mut registry), [delivered(&[6, 7, 8, 9])]);
    registry.consumed(key, taken(4));
    registry.handle_response(START, Response { id: 1, revision: 21, ..Response::default() });
    assert_eq!(items(&mut registry), [Item::Progress { revision: Revision(21) }]);
}
