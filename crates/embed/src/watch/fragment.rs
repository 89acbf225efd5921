use prost::Message;
use tenure::wire::{etcdserverpb::WatchResponse, mvccpb::Event};

/// Cuts a response into several that are each below `max_bytes`, as far as single events are.
pub(super) fn fragments(mut response: WatchResponse, max_bytes: usize) -> Vec<WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < max_bytes {
        return vec![response];
    }
    let events = std::mem::take(&mut response.events);
    response.fragment = true;
    // Two bytes say that it is a fragment, once the last one is none.
    let empty = response.encoded_len();
    let mut cut = Vec::new();
    let (mut size, mut held) = (empty, Vec::new());
    for event in events {
        let added = length_in_message(&event);
        if !held.is_empty() && size + added >= max_bytes {
            cut.push(WatchResponse { events: std::mem::take(&mut held), ..response.clone() });
            size = empty;
        }
        size += added;
        held.push(event);
    }
    cut.push(WatchResponse { events: held, fragment: false, ..response });
    cut
}

/// An event with its tag and its length.
fn length_in_message(event: &Event) -> usize {
    let length = event.encoded_len();
    1 + prost::length_delimiter_len(length) + length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use tenure::wire::{
        etcdserverpb::WatchResponse,
        mvccpb::{Event, KeyValue},
    };

    use super::fragments;

    fn event(size: usize) -> Event {
        let kv = KeyValue { value: vec![0; size].into(), ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    proptest! {
        #[test]
        fn fragments_together_are_the_response_and_fit(
            sizes in prop::collection::vec(0..300usize, 0..20), max_bytes in 10..500usize,
        ) {
            let events: Vec<Event> = sizes.into_iter().map(event).collect();
            let whole = WatchResponse { watch_id: 3, events: events.clone(), ..Default::default() };
            let cut = fragments(whole, max_bytes);
            for part in &cut {
                prop_assert!(part.events.len() < 2 || part.encoded_len() < max_bytes + 2);
                prop_assert_eq!(part.watch_id, 3);
            }
            let (last, others) = cut.split_last().unwrap();
            prop_assert!(!last.fragment && others.iter().all(|part| part.fragment));
            let joined: Vec<Event> = cut.into_iter().flat_map(|part| part.events).collect();
            prop_assert_eq!(joined, events);
        }
    }
}
