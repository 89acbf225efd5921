use proptest::{collection::vec, prelude::*};

use super::super::*;
use crate::{Event, EventKind, KeyValue, Revision};

fn event() -> impl Strategy<Value = Event> {
    let revision = prop_oneof![-2..8i64, Just(i64::MAX), Just(i64::MIN)];
    revision.prop_map(|revision| {
        let kv = KeyValue { mod_revision: Revision(revision), ..KeyValue::default() };
        Event { kind: EventKind::Put, kv, prev_kv: None }
    })
}

fn response() -> impl Strategy<Value = Response> {
    let number = || prop_oneof![6 => -2..12i64, 1 => any::<i64>()];
    let flag = || prop::bool::weighted(0.3);
    let compact = prop_oneof![4 => Just(0), 1 => any::<i64>()];
    (number(), flag(), flag(), compact, flag(), number(), vec(event(), 0..4)).prop_map(
        |(id, created, canceled, compact_revision, fragment, revision, events)| {
            let reason = String::new();
            Response { id, created, canceled, compact_revision, reason, fragment, revision, events }
        },
    )
}

/// The calls of an owner who lost the thread.
#[derive(Clone, Debug)]
enum Call {
    Respond(Response),
    Add(i64),
    Remove(u64),
    End(u64),
    Retry(u64),
    Consumed(u64, usize),
    Opened,
    Lost,
    Timeout(u64),
    Transmit,
    Deliver,
}

fn call() -> impl Strategy<Value = Call> {
    let start = prop_oneof![-1..6i64, Just(i64::MIN), Just(i64::MAX)];
    prop_oneof![
        12 => response().prop_map(Call::Respond),
        3 => start.prop_map(Call::Add),
        1 => (0..6u64).prop_map(Call::Remove),
        1 => (0..6u64).prop_map(Call::End),
        1 => (0..6u64).prop_map(Call::Retry),
        1 => (0..6u64, any::<usize>()).prop_map(|(key, events)| Call::Consumed(key, events)),
        2 => Just(Call::Opened),
        1 => Just(Call::Lost),
        1 => any::<u64>().prop_map(Call::Timeout),
        6 => Just(Call::Transmit),
        2 => Just(Call::Deliver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_server_says_makes_it_panic(calls in vec(call(), 1..100)) {
        let mut registry = Registry::new(Config::default());
        let mut now = Moment::default();
        for call in calls {
            match call {
                Call::Respond(response) => registry.handle_response(now, response),
                Call::Add(start) => {
                    registry.add(Spec { start: Revision(start), ..Spec::default() });
                }
                Call::Remove(key) => registry.remove(WatchKey(key)),
                Call::End(key) => {
                    registry.end(WatchKey(key), End::Refused { reason: String::new() });
                }
                Call::Retry(key) => registry.retry(WatchKey(key)),
                Call::Consumed(key, events) => {
                    registry.consumed(WatchKey(key), Weight { events, bytes: events });
                }
                Call::Opened => registry.stream_opened(now),
                Call::Lost => registry.stream_lost(),
                Call::Timeout(nanos) => {
                    now = Moment::from_nanos(nanos);
                    registry.handle_timeout(now);
                }
                Call::Transmit => while registry.poll_transmit(now).is_some() {},
                Call::Deliver => while registry.poll_delivery().is_some() {},
            }
        }
        prop_assert!(registry.len() as u64 <= registry.last_key);
    }
}
