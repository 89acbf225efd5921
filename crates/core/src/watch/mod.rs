//! All watches that share one watch stream.
//!
//! A [`Registry`] knows what each watch has still to see. Its owner opens streams, feeds what
//! they answer and writes what the registry asks for; consumers get every event of their range
//! exactly once and in order, whatever happens to the streams, or are told why not.

mod answers;
mod entry;
mod item;
mod joiner;
mod spec;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::Moment;
use entry::{Entry, Phase};
pub use item::{Delivery, End, Item, State};
pub use spec::{Spec, WatchKey, Weight};
pub use stream::Config;
use stream::{Stream, Timer};
pub use wire::{Reopen, Response, Transmit};

/// The watches of one stream.
///
/// After every call that changes it, empty [`poll_transmit`](Self::poll_transmit) and
/// [`poll_delivery`](Self::poll_delivery), look at [`poll_reopen`](Self::poll_reopen), and arm
/// one timer at [`poll_timeout`](Self::poll_timeout). What there is to write is bounded, since no
/// more than 256 creations are unanswered at a time: buffer it, and do not wait for room.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    /// Boxed because the nodes of a tree are half empty.
    watches: BTreeMap<WatchKey, Box<Entry>>,
    /// The watches whose phase is `Waiting`.
    waiting: BTreeSet<WatchKey>,
    stream: Option<Stream>,
    /// How many streams were opened.
    streams: u64,
    last_key: u64,
    /// The last id on the wire; 3.4 flushes old events into an id that is used again.
    last_id: i64,
    /// Whether a progress request is to be sent.
    progress: bool,
    deliveries: VecDeque<Delivery>,
    reopen: Option<Reopen>,
}

impl Registry {
    /// A registry without watches and without a stream.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            watches: BTreeMap::new(),
            waiting: BTreeSet::new(),
            stream: None,
            streams: 0,
            last_key: 0,
            last_id: 0,
            progress: false,
            deliveries: VecDeque::new(),
            reopen: None,
        }
    }

    /// Adds a watch, to be created as soon as there is a stream.
    pub fn add(&mut self, spec: Spec) -> WatchKey {
        self.last_key += 1;
        let key = WatchKey(self.last_key);
        self.watches.insert(key, Box::new(Entry::new(spec)));
        self.waiting.insert(key);
        key
    }

    /// Forgets a watch. Nothing more is delivered for it.
    pub fn remove(&mut self, key: WatchKey) {
        self.deliveries.retain(|delivery| delivery.key != key);
        self.forget(key);
    }

    /// Ends a watch for a reason the caller knows, in whatever phase it is; delivers `end` after
    /// what was delivered before.
    pub fn end(&mut self, key: WatchKey, end: End) {
        if self.forget(key) {
            self.deliver(key, Item::End(end));
        }
    }

    /// Tries a refused watch again, on the first stream opened after the refusal: the one of now
    /// if there was another in between, else the next. Nobody but the caller opens that one.
    pub fn retry(&mut self, key: WatchKey) {
        let Some(entry) = self.watches.get_mut(&key) else { return };
        let Phase::Refused { stream } = entry.phase else { return };
        if self.stream.is_some() && stream == self.streams {
            entry.phase = Phase::Retrying;
        } else {
            entry.phase = Phase::Waiting { back: false };
            self.waiting.insert(key);
        }
    }

    /// Reports that a consumer took this much of what was delivered: sums of
    /// [`Item::weight`], or of [`Weight::of`] parts of it.
    pub fn consumed(&mut self, key: WatchKey, weight: Weight) {
        let Some(entry) = self.watches.get_mut(&key) else { return };
        if entry.consumed(weight) {
            // What did not fit lies in the store already, so there is nothing to find out first.
            entry.phase = Phase::Waiting { back: entry.has_earlier_start() };
            self.waiting.insert(key);
        }
    }

    /// Asks the server, once, how far it is, if there is a watch; at the latest when one is live
    /// again.
    pub fn request_progress(&mut self) {
        // Without a watch there is nobody to answer.
        self.progress = !self.watches.is_empty();
    }

    /// A new stream takes requests from now on; whether the server has said anything on it does
    /// not matter. A stream that was open before is lost.
    pub fn stream_opened(&mut self, now: Moment) {
        self.stream_lost();
        self.reopen = None;
        self.streams += 1;
        self.stream = Some(Stream::new(now));
    }

    /// The stream is gone. Every watch is created again on the next one.
    pub fn stream_lost(&mut self) {
        if self.stream.take().is_none() {
            return;
        }
        for (&key, entry) in &mut self.watches {
            match entry.phase {
                Phase::Paused { .. } | Phase::Refused { .. } => continue,
                Phase::Live { .. } => {
                    self.deliveries.push_back(Delivery { key, item: Item::Interrupted });
                }
                Phase::Waiting { .. } | Phase::Creating { .. } | Phase::Retrying => {}
            }
            entry.phase = Phase::Waiting { back: false };
            self.waiting.insert(key);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        let Some(stream) = &mut self.stream else { return };
        match stream.timer(&self.config) {
            Some((at, Timer::Quiet)) if at <= now => stream.want_pulse(),
            Some((at, Timer::Patience)) if at <= now => self.give_up(Reopen::Silent),
            _ => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.stream.as_ref()?.timer(&self.config).map(|(at, _)| at)
    }

    /// The next message to write.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<Transmit> {
        let stream = self.stream.as_mut()?;
        if let Some(id) = stream.poll_cancel() {
            return Some(Transmit::Cancel { id });
        }
        let creation = if stream.poll_pulse() {
            Some((None, Spec::pulse()))
        } else if stream.has_room() {
            self.waiting.pop_first().and_then(|key| {
                let entry = self.watches.get_mut(&key)?;
                let Phase::Waiting { back } = entry.phase else { return None };
                entry.phase = Phase::Creating { id: self.last_id + 1, back };
                Some((Some(key), entry.request(back)))
            })
        } else {
            None
        };
        if let Some((key, spec)) = creation {
            self.last_id += 1;
            stream.creating(now, self.last_id, key);
            return Some(Transmit::Create { id: self.last_id, spec });
        }
        if self.progress && !stream.live.is_empty() {
            self.progress = false;
            return Some(Transmit::Progress);
        }
        None
    }

    /// The next item for a consumer.
    pub fn poll_delivery(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front();
        if delivery.is_none() {
            // A lost stream interrupts every watch at once; that much room is not kept.
            self.deliveries.shrink_to(64);
        }
        delivery
    }

    /// Whether the stream must be dropped for a new one. It is already lost to the registry, and
    /// nothing that it still says may be handed in. How soon to open the next is up to the caller.
    pub fn poll_reopen(&mut self) -> Option<Reopen> {
        self.reopen.take()
    }

    /// Where a watch stands; `None` once it is removed or ended.
    pub fn state(&self, key: WatchKey) -> Option<State> {
        self.watches.get(&key).map(|entry| entry.state())
    }

    /// Whether a stream is of any use.
    pub fn wants_stream(&self) -> bool {
        !self.watches.is_empty()
    }

    /// How many watches there are.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Drops a watch here and at the server; whether it was there.
    fn forget(&mut self, key: WatchKey) -> bool {
        let Some(entry) = self.watches.remove(&key) else { return false };
        self.waiting.remove(&key);
        if let (Some(stream), Some(id)) = (&mut self.stream, entry.id()) {
            stream.cancel(id);
        }
        true
    }

    fn deliver(&mut self, key: WatchKey, item: Item) {
        self.deliveries.push_back(Delivery { key, item });
    }

    fn give_up(&mut self, why: Reopen) {
        self.stream_lost();
        self.reopen = Some(why);
    }
}
