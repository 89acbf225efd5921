use std::time::Duration;

use super::{world::World, *};

const QUIET: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_millis(1500);

#[test]
fn a_silent_stream_is_asked_for_a_sign_of_life() {
    let (mut registry, _) = live();
    let quiet = START + QUIET;
    assert_eq!(registry.poll_timeout(), Some(quiet));
    registry.handle_timeout(quiet);
    assert_eq!(registry.poll_timeout(), None);
    let Some(Transmit::Create { id: 2, spec }) = registry.poll_transmit(quiet) else {
        panic!("no pulse");
    };
    assert!(spec.no_put && spec.no_delete);
    assert_eq!(registry.poll_timeout(), Some(quiet + PATIENCE));
    registry.handle_response(quiet, created(2, 5));
    assert_eq!(transmits(&mut registry), [Transmit::Cancel { id: 2 }]);
    assert_eq!(items(&mut registry), []);
    assert_eq!(registry.poll_timeout(), Some(quiet + QUIET));
}

#[test]
fn a_stream_that_speaks_up_in_time_is_not_asked() {
    let (mut registry, _) = live();
    registry.handle_timeout(START + QUIET);
    registry.handle_response(START + QUIET, events(1, &[6]));
    assert_eq!(transmits(&mut registry), []);
    assert_eq!(registry.poll_timeout(), Some(START + QUIET + QUIET));
}

#[test]
fn a_refused_pulse_is_a_sign_of_life_too() {
    let (mut registry, _) = live();
    registry.handle_timeout(START + QUIET);
    assert_eq!(creations(&mut registry), [(2, 0)]);
    registry.handle_response(START + QUIET, refused("permission denied"));
    assert_eq!((transmits(&mut registry), items(&mut registry)), (vec![], vec![]));
    assert_eq!(registry.poll_reopen(), None);
}

#[test]
fn a_stream_that_does_not_answer_a_pulse_is_left() {
    let (mut registry, key) = live();
    let quiet = START + QUIET;
    registry.handle_timeout(quiet);
    assert!(registry.poll_transmit(quiet).is_some());
    registry.handle_timeout(quiet + PATIENCE);
    assert_eq!(registry.poll_reopen(), Some(Reopen::Silent));
    assert_eq!(registry.state(key), Some(State::Resuming));
    assert_eq!(registry.poll_timeout(), None);
}

#[test]
fn an_unanswered_creation_is_waited_for_as_long_as_anything_comes() {
    let (mut registry, _) = live();
    let sent = START + QUIET / 2;
    registry.add(spec(0));
    assert!(registry.poll_transmit(sent).is_some());
    assert_eq!(registry.poll_timeout(), Some(sent + PATIENCE));
    let heard = sent + PATIENCE / 2;
    registry.handle_response(heard, events(1, &[6]));
    registry.handle_timeout(sent + PATIENCE);
    assert_eq!(registry.poll_reopen(), None);
    registry.handle_timeout(heard + PATIENCE);
    assert_eq!(registry.poll_reopen(), Some(Reopen::Silent));
    let reopened = heard + QUIET;
    registry.stream_opened(reopened);
    while registry.poll_transmit(reopened).is_some() {}
    assert_eq!(registry.poll_timeout(), Some(reopened + PATIENCE));
    registry.handle_timeout(reopened + PATIENCE);
    assert_eq!(registry.poll_reopen(), Some(Reopen::Silent));
}

#[test]
fn a_stream_without_watches_is_left_alone() {
    let (mut registry, key) = live();
    registry.remove(key);
    transmits(&mut registry);
    assert_eq!(registry.poll_timeout(), None);
}

#[test]
fn a_frozen_member_costs_nothing_but_time() {
    let mut world = World::new(false);
    world.open();
    world.add(spec(0));
    for _ in 0..20 {
        world.wait(PATIENCE);
        if world.conn.is_none() {
            world.open();
        }
    }
    assert_eq!([world.opened, world.creates, world.pulses], [21, 21, 0]);
    world.settle();
    world.check();
}
