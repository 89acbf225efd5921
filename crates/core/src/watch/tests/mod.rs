mod consumer;
mod garbage;
mod model;
mod pulse;
mod resume;
mod schedules;
mod slow;
mod world;

use bytes::Bytes;

use super::*;
use crate::{Event, EventKind, KeyValue, Moment, Revision};

const START: Moment = Moment::from_nanos(1_000_000_000);

/// A registry with a stream.
fn opened() -> Registry {
    let mut registry = Registry::new(Config::default());
    registry.stream_opened(START);
    registry
}

fn spec(start: i64) -> Spec {
    let limit = Weight { events: 100, bytes: 1000 };
    Spec { key: Bytes::from_static(b"k"), start: Revision(start), limit, ..Spec::default() }
}

/// A registry with one watch that is live under id 1, the store being at revision 5.
fn live() -> (Registry, WatchKey) {
    let mut registry = opened();
    let key = registry.add(spec(0));
    transmits(&mut registry);
    registry.handle_response(START, created(1, 5));
    assert_eq!(items(&mut registry), [Item::Created { revision: Revision(5) }]);
    (registry, key)
}

fn transmits(registry: &mut Registry) -> Vec<Transmit> {
    std::iter::from_fn(|| registry.poll_transmit(START)).collect()
}

/// The ids and starts of the creations among what is to be written.
fn creations(registry: &mut Registry) -> Vec<(i64, i64)> {
    let creation = |transmit| match transmit {
        Transmit::Create { id, spec } => Some((id, spec.start.0)),
        _ => None,
    };
    transmits(registry).into_iter().filter_map(creation).collect()
}

fn items(registry: &mut Registry) -> Vec<Item> {
    std::iter::from_fn(|| registry.poll_delivery()).map(|delivery| delivery.item).collect()
}

fn created(id: i64, revision: i64) -> Response {
    Response { id, revision, created: true, ..Response::default() }
}

fn refused(reason: &str) -> Response {
    Response { canceled: true, reason: reason.into(), ..created(-1, 5) }
}

fn batch(revisions: &[i64]) -> Vec<Event> {
    let event = |&revision: &i64| {
        let kv = KeyValue { mod_revision: Revision(revision), ..KeyValue::default() };
        Event { kind: EventKind::Put, kv, prev_kv: None }
    };
    revisions.iter().map(event).collect()
}

/// Events of these revisions, under a header that is far ahead.
fn events(id: i64, revisions: &[i64]) -> Response {
    Response { id, revision: 1000, events: batch(revisions), ..Response::default() }
}

fn fragment(id: i64, revisions: &[i64]) -> Response {
    Response { fragment: true, ..events(id, revisions) }
}

fn delivered(revisions: &[i64]) -> Item {
    let revision = Revision(*revisions.last().expect("a test delivers something"));
    Item::Events { events: batch(revisions), revision }
}

#[test]
fn creations_are_pipelined_up_to_a_window_and_answered_in_order() {
    let mut registry = opened();
    let keys: Vec<_> = (0..300).map(|_| registry.add(spec(0))).collect();
    let ids: Vec<_> = creations(&mut registry).iter().map(|&(id, _)| id).collect();
    assert_eq!(ids, (1..=256).collect::<Vec<_>>());
    registry.handle_response(START, created(1, 5));
    assert_eq!(creations(&mut registry), [(257, 0)]);
    assert_eq!(registry.state(keys[0]), Some(State::Live));
    assert_eq!(registry.state(keys[1]), Some(State::Connecting));
}

#[test]
fn a_refusal_concerns_the_oldest_unanswered_creation() {
    let mut registry = opened();
    let (first, second) = (registry.add(spec(0)), registry.add(spec(0)));
    transmits(&mut registry);
    registry.handle_response(START, refused("permission denied"));
    registry.handle_response(START, created(2, 5));
    let reason = "permission denied".into();
    let refusal = Delivery { key: first, item: Item::Refused { reason } };
    assert_eq!(registry.poll_delivery(), Some(refusal));
    assert_eq!(registry.state(second), Some(State::Live));
    assert_eq!(items(&mut registry), [Item::Created { revision: Revision(5) }]);
    let end = End::Refused { reason: "permission denied".into() };
    registry.end(first, end.clone());
    assert_eq!(items(&mut registry), [Item::End(end)]);
    assert_eq!((registry.state(first), registry.len()), (None, 1));
    assert_eq!(transmits(&mut registry), []);
}

#[test]
fn a_refusal_because_of_compaction_is_final() {
    let mut registry = opened();
    registry.add(spec(3));
    transmits(&mut registry);
    registry.handle_response(START, Response { compact_revision: 7, ..refused("") });
    let revision = Revision(7);
    assert_eq!(items(&mut registry), [Item::End(End::Compacted { revision })]);
    assert!(registry.is_empty() && transmits(&mut registry).is_empty());
}

#[test]
fn an_answer_that_fits_no_creation_costs_the_stream() {
    for answer in [created(2, 5), Response { id: 2, ..refused("") }] {
        let mut registry = opened();
        registry.add(spec(0));
        transmits(&mut registry);
        registry.handle_response(START, answer);
        assert!(matches!(registry.poll_reopen(), Some(Reopen::Protocol(_))));
        assert_eq!(registry.poll_reopen(), None);
        registry.stream_opened(START);
        assert_eq!(creations(&mut registry), [(2, 0)]);
    }
}

#[test]
fn a_watch_that_speaks_before_it_is_created_costs_the_stream() {
    let mut registry = opened();
    registry.add(spec(0));
    transmits(&mut registry);
    registry.handle_response(START, events(1, &[6]));
    assert!(matches!(registry.poll_reopen(), Some(Reopen::Protocol(_))));
    assert_eq!(items(&mut registry), []);
}

#[test]
fn a_first_creation_starts_exactly_where_asked() {
    let mut registry = opened();
    registry.add(spec(3));
    assert_eq!(creations(&mut registry), [(1, 3)]);
    registry.handle_response(START, created(1, 5));
    registry.handle_response(START, events(1, &[3, 5]));
    let created = Item::Created { revision: Revision(5) };
    assert_eq!(items(&mut registry), [created, delivered(&[3, 5])]);
    assert_eq!(transmits(&mut registry), []);
}

#[test]
fn a_watch_cancelled_by_the_server_says_so_even_without_a_reason() {
    for reason in ["", "no leader"] {
        let (mut registry, key) = live();
        let reason = String::from(reason);
        let cancel =
            Response { id: 1, canceled: true, reason: reason.clone(), ..Response::default() };
        registry.handle_response(START, cancel);
        assert_eq!(items(&mut registry), [Item::End(End::Canceled { reason })]);
        assert_eq!(registry.state(key), None);
        assert!(!registry.wants_stream());
    }
}

#[test]
fn a_removed_watch_is_cancelled_once_and_silent() {
    let (mut registry, key) = live();
    registry.handle_response(START, events(1, &[6]));
    registry.remove(key);
    registry.handle_response(START, events(1, &[7]));
    assert_eq!(transmits(&mut registry), [Transmit::Cancel { id: 1 }]);
    registry.handle_response(START, Response { id: 1, canceled: true, ..Response::default() });
    assert_eq!((transmits(&mut registry), items(&mut registry)), (vec![], vec![]));
}

#[test]
fn a_watch_removed_while_it_is_created_keeps_its_place_among_the_answers() {
    let mut registry = opened();
    let (first, second) = (registry.add(spec(0)), registry.add(spec(0)));
    transmits(&mut registry);
    registry.remove(first);
    assert_eq!(transmits(&mut registry), [Transmit::Cancel { id: 1 }]);
    registry.handle_response(START, created(1, 5));
    registry.handle_response(START, Response { id: 1, canceled: true, ..Response::default() });
    registry.handle_response(START, created(2, 5));
    assert_eq!(items(&mut registry).len(), 1);
    assert_eq!(registry.state(second), Some(State::Live));
}

#[test]
fn a_watch_nobody_knows_is_cancelled_once() {
    let (mut registry, key) = live();
    let cancel = Response { id: 1, canceled: true, ..Response::default() };
    registry.handle_response(START, cancel);
    registry.handle_response(START, events(1, &[6]));
    registry.handle_response(START, events(1, &[7]));
    registry.handle_response(START, events(99, &[7]));
    assert_eq!(transmits(&mut registry), [Transmit::Cancel { id: 1 }]);
    assert_eq!(registry.state(key), None);
}

#[test]
fn progress_of_the_stream_reaches_live_watches_and_waits_for_one() {
    let mut registry = opened();
    registry.request_progress();
    registry.add(spec(0));
    assert_eq!(creations(&mut registry).len(), 1, "nobody was there to ask for");
    registry.request_progress();
    assert_eq!(transmits(&mut registry), [], "it is not live yet");
    registry.handle_response(START, created(1, 5));
    assert_eq!(transmits(&mut registry), [Transmit::Progress]);
    registry.handle_response(START, Response { id: -1, revision: 9, ..Response::default() });
    let revision = Revision(9);
    assert_eq!(items(&mut registry)[1..], [Item::Progress { revision }]);
    assert_eq!(transmits(&mut registry), []);
}

#[test]
fn an_idle_watch_is_small() {
    // With its share of two trees, about 60 bytes.
    assert!(size_of::<entry::Entry>() <= 168, "{}", size_of::<entry::Entry>());
}
