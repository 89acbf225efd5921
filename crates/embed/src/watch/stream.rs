use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream::BoxStream};
use tenure::wire::{
    etcdserverpb::{
        ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::{
    fragment::fragments,
    queue::{Item, Queue},
    watcher::Watcher,
};
use crate::{
    node::{Node, State},
    refusal::{self, Refusal},
    store::{Change, Record, Span},
    token::Token,
};

/// So many revisions of history go into one response, as etcd has it.
const REVISIONS_AT_ONCE: usize = 1000;
/// About so many bytes, too; and so many records are looked at while nobody else can do anything.
const BYTES_AT_ONCE: u64 = 4 << 20;
const RECORDS_AT_ONCE: usize = 20_000;
/// So many requests are read before answers are sent again.
const REQUESTS_AT_ONCE: usize = 64;
/// The id of an answer that concerns no watch.
const NO_WATCH: i64 = -1;

/// A watch stream's answers; it reads the requests as it is polled.
pub(crate) struct WatchStream {
    node: Arc<Node>,
    requests: Option<BoxStream<'static, Result<WatchRequest, Status>>>,
    token: Token,
    queue: Arc<Queue>,
    /// None, where history was taken from under a watch: its id stays taken until it is cancelled.
    watchers: HashMap<i64, Option<Arc<Watcher>>>,
    next_id: i64,
    outbox: VecDeque<WatchResponse>,
    /// Watches that want to hear of progress now and then.
    expecting: HashMap<i64, Arc<Watcher>>,
    progress: Option<Pin<Box<Sleep>>>,
}

impl WatchStream {
    pub(crate) fn new(
        node: Arc<Node>,
        token: Token,
        requests: impl Stream<Item = Result<WatchRequest, Status>> + Send + 'static,
    ) -> Self {
        node.lock().hub.streams += 1;
        Self {
            node,
            requests: Some(Box::pin(requests)),
            token,
            queue: Arc::default(),
            watchers: HashMap::new(),
            next_id: 0,
            outbox: VecDeque::new(),
            expecting: HashMap::new(),
            progress: None,
        }
    }

    fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(&create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.tell_progress(),
            None => {}
        }
    }

    fn create(&mut self, create: &WatchCreateRequest) {
        let node = Arc::clone(&self.node);
        let mut state = node.lock();
        let header = state.header();
        let answer = match self.admit(&mut state, create) {
            Ok(id) => {
                let next = match create.start_revision {
                    0 => state.store.revision() + 1,
                    start => start,
                };
                let watcher = Arc::new(Watcher::new(id, create, next, &self.queue));
                self.watchers.insert(id, Some(Arc::clone(&watcher)));
                if create.progress_notify {
                    self.expect_progress(Arc::clone(&watcher));
                }
                let created = WatchResponse { watch_id: id, created: true, ..answer_of(header) };
                // Before the first of its changes.
                self.queue.answer(created);
                let behind = next <= state.store.revision();
                watcher.reached(next, behind);
                state.hub.add(Arc::clone(&watcher));
                if behind {
                    self.queue.catch_up(watcher);
                }
                return;
            }
            Err(reason) => WatchResponse {
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason: reason,
                ..answer_of(header)
            },
        };
        self.queue.answer(answer);
    }

    /// The id of the watch to be, or the reason why there is none.
    fn admit(&mut self, state: &mut State, create: &WatchCreateRequest) -> Result<i64, String> {
        state.may_watch(&self.token, create, Instant::now()).map_err(|refusal| in_go(&refusal))?;
        if create.start_revision < 0 {
            return Err(refusal::COMPACTED.text.into_owned());
        }
        let span = Span::new(&create.key, &create.range_end);
        if span.is_empty() {
            return Err("mvcc: watcher range is empty".to_owned());
        }
        if create.watch_id != 0 {
            return match self.watchers.contains_key(&create.watch_id) {
                true => Err("mvcc: duplicate watch ID provided on the WatchStream".to_owned()),
                false => Ok(create.watch_id),
            };
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        Ok(id)
    }

    fn cancel(&mut self, id: i64) {
        let Some(watcher) = self.watchers.remove(&id) else { return };
        let mut state = self.node.lock();
        if let Some(watcher) = watcher {
            state.hub.remove(&watcher);
        }
        self.expecting.remove(&id);
        let header = state.header();
        self.queue.answer(WatchResponse { watch_id: id, canceled: true, ..answer_of(header) });
    }

    /// Says how far the stream is; nothing while a watch of it is not there yet.
    fn tell_progress(&self) {
        let state = self.node.lock();
        let revision = state.store.revision();
        // One that lost its history is never there, until it is cancelled.
        let is_there = |watcher: &Option<Arc<Watcher>>| {
            watcher.as_ref().is_some_and(|watcher| watcher.is_synced(revision))
        };
        if !self.watchers.is_empty() && self.watchers.values().all(is_there) {
            let header = state.header();
            self.queue.answer(WatchResponse { watch_id: NO_WATCH, ..answer_of(header) });
        }
    }

    fn expect_progress(&mut self, watcher: Arc<Watcher>) {
        self.expecting.insert(watcher.id, watcher);
        let interval = self.node.settings().progress_interval;
        self.progress.get_or_insert_with(|| Box::pin(tokio::time::sleep(interval)));
    }

    /// Tells those who expect it how far they are, if nothing else did meanwhile.
    fn poll_progress(&mut self, context: &mut Context<'_>) {
        while let Some(progress) = &mut self.progress {
            if progress.as_mut().poll(context).is_pending() {
                return;
            }
            if self.expecting.is_empty() {
                self.progress = None;
                return;
            }
            let interval: Duration = self.node.settings().progress_interval;
            progress.as_mut().reset(Instant::now() + interval);
            let state = self.node.lock();
            for watcher in self.expecting.values() {
                if watcher.was_quiet() && watcher.is_synced(state.store.revision()) {
                    let header = state.header();
                    self.queue.answer(WatchResponse { watch_id: watcher.id, ..answer_of(header) });
                }
            }
        }
    }

    fn poll_requests(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        for _ in 0..REQUESTS_AT_ONCE {
            if self.queue.is_full() {
                return Ok(());
            }
            let Some(requests) = &mut self.requests else { return Ok(()) };
            match requests.as_mut().poll_next(context) {
                Poll::Ready(Some(request)) => {
                    self.node.lock().is_running()?;
                    self.handle(request?);
                }
                // Whoever says no more still listens.
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return Ok(()),
            }
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    /// Hands a watch a piece of the history it missed.
    fn catch_up(&mut self, watcher: &Arc<Watcher>) {
        let known = self.watchers.get(&watcher.id).and_then(Option::as_ref);
        if !known.is_some_and(|known| Arc::ptr_eq(known, watcher)) {
            // Cancelled meanwhile.
            return;
        }
        let node = Arc::clone(&self.node);
        let mut state = node.lock();
        if watcher.next() < state.store.compacted() {
            self.lose(&mut state, watcher);
            return;
        }
        let current = state.store.revision();
        let (events, next) = missed(&state, watcher);
        watcher.reached(next, next <= current);
        if watcher.is_behind() {
            self.queue.catch_up(Arc::clone(watcher));
        }
        if !events.is_empty() {
            self.send(watcher, state.header_at(current), events);
        }
    }

    /// The history that a watch needs is gone.
    fn lose(&mut self, state: &mut State, watcher: &Arc<Watcher>) {
        state.hub.remove(watcher);
        self.watchers.insert(watcher.id, None);
        self.expecting.remove(&watcher.id);
        self.outbox.push_back(WatchResponse {
            watch_id: watcher.id,
            canceled: true,
            compact_revision: state.store.compacted(),
            ..answer_of(state.header_at(0))
        });
    }

    fn send(&mut self, watcher: &Watcher, header: ResponseHeader, events: Vec<Event>) {
        watcher.heard();
        self.node.events_sent(events.len());
        let response = WatchResponse { watch_id: watcher.id, events, ..answer_of(header) };
        match watcher.fragment {
            true => self.outbox.extend(fragments(response, self.node.settings().max_message())),
            false => self.outbox.push_back(response),
        }
    }
}

/// What a watch has missed, as far as it goes into one response, and where it goes on.
fn missed(state: &State, watcher: &Watcher) -> (Vec<Event>, i64) {
    let store = &state.store;
    let records: Box<dyn Iterator<Item = &Arc<Record>> + '_> = match &watcher.span {
        // Its own history is shorter than everybody's.
        Span::One(key) => Box::new(store.changes_of(key, watcher.next()).iter()),
        _ => Box::new(store.changes_from(watcher.next())),
    };
    let (mut events, mut bytes, mut revisions, mut last) = (Vec::new(), 0, 0, 0);
    for (looked_at, record) in records.enumerate() {
        if record.revision() != last {
            // Never between changes of one revision.
            let enough = revisions >= REVISIONS_AT_ONCE || bytes >= BYTES_AT_ONCE;
            if enough || looked_at >= RECORDS_AT_ONCE {
                return (events, record.revision());
            }
            last = record.revision();
            revisions += usize::from(watcher.wants(record));
        }
        if watcher.wants(record) {
            bytes += record.size();
            let before = if watcher.prev_kv { store.before(record) } else { None };
            events.push(watcher.event(record, before));
        }
    }
    (events, store.revision() + 1)
}

fn answer_of(header: ResponseHeader) -> WatchResponse {
    WatchResponse { header: Some(header), ..WatchResponse::default() }
}

/// A refusal as Go prints the error it is there: etcd gives that as the reason.
fn in_go(refusal: &Refusal) -> String {
    format!("rpc error: code = {:?} desc = {}", refusal.code, refusal.text)
}

impl Stream for WatchStream {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(response) = this.outbox.pop_front() {
                return Poll::Ready(Some(Ok(response)));
            }
            if let Err(error) = this.poll_requests(context) {
                this.requests = None;
                return Poll::Ready(Some(Err(error)));
            }
            this.poll_progress(context);
            match this.queue.next(context) {
                Some(Item::Answer(response)) => return Poll::Ready(Some(Ok(response))),
                Some(Item::Changes { watcher, revision, changes, .. }) => {
                    let wanted = changes.iter().filter(|change| watcher.wants(&change.record));
                    let event =
                        |change: &Change| watcher.event(&change.record, change.before.as_ref());
                    let events = wanted.map(event).collect();
                    let header = this.node.header_at(revision);
                    this.send(&watcher, header, events);
                }
                Some(Item::CatchUp(watcher)) => this.catch_up(&watcher),
                None => return Poll::Pending,
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let mut state = self.node.lock();
        // None, if a restart took the hub it was counted in.
        state.hub.streams = state.hub.streams.saturating_sub(1);
        for watcher in self.watchers.values().flatten() {
            state.hub.remove(watcher);
        }
        drop(state);
        self.queue.clear();
    }
}
