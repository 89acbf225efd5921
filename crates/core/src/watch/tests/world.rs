//! A registry, its consumers and a server, stepped by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::super::*;
use super::{
    consumer::Consumer,
    model::{Conn, Store},
};

/// More than there ever is.
const ALL: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) now: Moment,
    pub(super) store: Store,
    pub(super) conn: Option<Conn>,
    pub(super) consumers: BTreeMap<WatchKey, Consumer>,
    /// A consumer was refused, and wants a stream with better credentials.
    stale: bool,
    ids: BTreeSet<i64>,
    pub(super) creates: u64,
    pub(super) pulses: u64,
    pub(super) opened: u64,
    pub(super) pauses: u64,
    pub(super) added: u64,
}

impl World {
    pub(super) fn new(defect: bool) -> Self {
        Self {
            registry: Registry::new(Config::default()),
            now: Moment::from_nanos(0),
            store: Store::new(defect),
            conn: None,
            consumers: BTreeMap::new(),
            stale: false,
            ids: BTreeSet::new(),
            creates: 0,
            pulses: 0,
            opened: 0,
            pauses: 0,
            added: 0,
        }
    }

    pub(super) fn add(&mut self, spec: Spec) -> WatchKey {
        let key = self.registry.add(spec.clone());
        self.consumers.insert(key, Consumer::new(spec));
        self.added += 1;
        self.drain();
        key
    }

    pub(super) fn remove(&mut self, key: WatchKey) {
        self.registry.remove(key);
        self.consumers.remove(&key);
        self.drain();
    }

    pub(super) fn open(&mut self) {
        self.conn = Some(Conn::default());
        self.opened += 1;
        self.registry.stream_opened(self.now);
        self.drain();
    }

    pub(super) fn cut(&mut self) {
        self.conn = None;
        self.registry.stream_lost();
        self.drain();
    }

    pub(super) fn serve(&mut self, messages: usize) {
        let Some(conn) = &mut self.conn else { return };
        for _ in 0..messages.min(conn.inbox.len()) {
            conn.serve(&self.store);
        }
    }

    pub(super) fn sync_all(&mut self) {
        let Some(conn) = &mut self.conn else { return };
        for id in conn.ids() {
            conn.sync(&self.store, id, ALL, 2);
        }
    }

    pub(super) fn receive(&mut self, messages: usize) {
        for _ in 0..messages {
            let Some(response) = self.conn.as_mut().and_then(|conn| conn.outbox.pop_front()) else {
                return;
            };
            self.registry.handle_response(self.now, response);
            self.drain();
        }
    }

    pub(super) fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        let mut wakes = 0;
        while self.registry.poll_timeout().is_some_and(|at| at <= self.now) {
            self.registry.handle_timeout(self.now);
            self.drain();
            wakes += 1;
            assert!(wakes < 3, "timeouts make no progress");
        }
    }

    /// A consumer takes some items.
    pub(super) fn consume(&mut self, key: WatchKey, items: usize) {
        for _ in 0..items {
            let Some(consumer) = self.consumers.get_mut(&key) else { return };
            let Some(item) = consumer.queue.pop_front() else { return };
            self.registry.consumed(key, item.weight());
            consumer.take(item);
            self.drain();
        }
    }

    /// What the owner of a registry does after each call.
    fn drain(&mut self) {
        while let Some(transmit) = self.registry.poll_transmit(self.now) {
            if let Transmit::Create { id, spec } = &transmit {
                assert!(*id >= 1 && self.ids.insert(*id), "id {id} again");
                let pulse = spec.key == "tenure/pulse";
                *(if pulse { &mut self.pulses } else { &mut self.creates }) += 1;
            }
            self.conn.as_mut().expect("transmitted without a stream").inbox.push_back(transmit);
        }
        while let Some(Delivery { key, item }) = self.registry.poll_delivery() {
            let consumer = self.consumers.get_mut(&key).expect("delivered after the removal");
            match &item {
                Item::Refused { .. } => {
                    self.registry.retry(key);
                    self.stale = true;
                }
                Item::Interrupted if self.registry.state(key) == Some(State::Paused) => {
                    self.pauses += 1;
                }
                _ => {}
            }
            consumer.queue.push_back(item);
            consumer.check_queue();
        }
        if self.registry.poll_reopen().is_some() {
            self.conn = None;
        }
    }

    /// No more trouble and no more writes: everything that is due arrives.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.conn.is_none() || std::mem::take(&mut self.stale) {
                self.cut();
                self.open();
            }
            self.serve(ALL);
            self.sync_all();
            self.receive(ALL);
            let keys: Vec<_> = self.consumers.keys().copied().collect();
            for key in keys {
                self.consume(key, ALL);
            }
            let quiet = |conn: &Conn| {
                conn.inbox.is_empty() && conn.outbox.is_empty() && conn.is_synced(&self.store)
            };
            if !self.stale && self.conn.as_ref().is_some_and(quiet) {
                return;
            }
        }
        panic!("never comes to rest");
    }

    /// Whether everybody saw what the uncut history has for them.
    pub(super) fn check(&self) {
        for (key, consumer) in &self.consumers {
            let state = self.registry.state(*key);
            let start = consumer.start;
            let due = |from: i64| self.store.events(&consumer.spec, from, self.store.revision);
            match (&consumer.end, start) {
                (None, Some(start)) => {
                    assert_eq!(state, Some(State::Live));
                    assert!(consumer.live);
                    assert_eq!(consumer.seen, due(start));
                }
                (Some(End::Compacted { revision }), Some(start)) => {
                    assert_eq!(state, None);
                    assert!(due(start).starts_with(&consumer.seen));
                    assert!(start.max(consumer.last + 1) <= revision.0);
                    assert!(revision.0 <= self.store.compacted);
                }
                other => panic!("{key:?} came to {other:?}"),
            }
        }
        let watches = self.added * self.opened;
        assert!(self.creates <= 2 * watches + self.pauses, "a storm of creations");
        let elapsed = self.now.since(Moment::from_nanos(0));
        assert!(u128::from(self.pulses) <= elapsed.as_nanos() / Config::default().quiet.as_nanos());
    }
}
