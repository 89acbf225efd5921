use bytes::Bytes;
use tenure::wire::{
    etcdserverpb::{WatchCreateRequest, WatchResponse, watch_create_request::FilterType},
    mvccpb::{Event, event::EventType},
};

use super::naive::{Naive, header, within};

/// A watch as etcd understands it.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    request: WatchCreateRequest,
    /// The first revision it is told of.
    pub(crate) start: i64,
}

/// What becomes of a request for a watch.
pub(crate) enum Opened {
    Refused(WatchResponse),
    /// Created, and canceled then.
    Compacted(WatchResponse, WatchResponse),
    Watching(WatchResponse, Watch),
}

impl Naive {
    /// `watch_id` is the one it gets if it gets one.
    pub(crate) fn watch(&self, request: &WatchCreateRequest, watch_id: i64) -> Opened {
        let mut request = request.clone();
        if request.key.is_empty() {
            request.key = Bytes::from_static(b"\0");
        }
        let created = WatchResponse {
            header: self.header(),
            watch_id,
            created: true,
            ..WatchResponse::default()
        };
        let end = &request.range_end[..];
        if !matches!(end, [] | [0]) && request.key[..] >= *end {
            return Opened::Refused(WatchResponse {
                watch_id: -1,
                canceled: true,
                cancel_reason: "mvcc: watcher range is empty".to_owned(),
                ..created
            });
        }
        let start = match request.start_revision {
            0 => self.revision() + 1,
            start => start,
        };
        if start < self.compacted {
            let canceled = WatchResponse {
                header: header(0),
                watch_id,
                canceled: true,
                compact_revision: self.compacted,
                ..WatchResponse::default()
            };
            return Opened::Compacted(created, canceled);
        }
        Opened::Watching(created, Watch { request, start })
    }

    /// What it is told of a revision from its start on, as long as no more is compacted than now.
    pub(crate) fn told(&self, watch: &Watch, revision: i64) -> Vec<Event> {
        let Watch { request, .. } = watch;
        let mut told = Vec::new();
        for event in &self.events[revision as usize] {
            let kv = event.kv.as_ref().expect("an event is of a key");
            let filter = match event.r#type() {
                EventType::Put => FilterType::Noput,
                EventType::Delete => FilterType::Nodelete,
            };
            if !within(&kv.key, &request.key, &request.range_end)
                || request.filters.contains(&(filter as i32))
            {
                continue;
            }
            let mut event = event.clone();
            let is_new = event.r#type() == EventType::Put && kv.create_revision == revision;
            if request.prev_kv && !is_new && revision > self.compacted {
                event.prev_kv = self.at(revision - 1).get(&kv.key).cloned();
            }
            told.push(event);
        }
        told
    }

    /// Whether the events of a revision tell more than the keys after it.
    pub(crate) fn is_more_than_its_keys(&self, revision: i64) -> bool {
        let Ok(place) = usize::try_from(revision) else { return false };
        let left = self.keys[place].values().filter(|kv| kv.mod_revision == revision);
        left.count() != self.events[place].len()
    }

    /// Whether a key that is there after a revision was deleted at it.
    pub(crate) fn is_put_again(&self, revision: i64) -> bool {
        let Some(place) = usize::try_from(revision).ok().filter(|&at| at < self.keys.len()) else {
            return false;
        };
        let deleted = self.events[place].iter().filter(|event| event.r#type() == EventType::Delete);
        let mut keys = deleted.filter_map(|event| event.kv.as_ref()).map(|kv| &kv.key);
        keys.any(|key| self.keys[place].contains_key(key))
    }
}
