use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use tenure::wire::{
    etcdserverpb::{
        WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
};

use super::{
    naive::{Naive, header},
    raw::{Raw, RawStream, Received},
    watching::{Opened, Watch},
    wire::{self, SOON},
};

/// The watches of one stream. Their ids are their places.
pub(crate) struct Watches {
    stream: RawStream,
    all: Vec<Watching>,
    /// What came that was not events.
    said: VecDeque<WatchResponse>,
}

struct Watching {
    request: WatchCreateRequest,
    /// Gone, when there is none.
    watch: Option<Watch>,
    /// The revision up to which `expected` goes.
    settled: i64,
    expected: Vec<Event>,
    received: Vec<Event>,
    /// What it is told at last, if its start is compacted.
    canceled: Option<WatchResponse>,
}

impl Watches {
    pub(crate) fn open(raw: &Raw) -> Self {
        let stream = raw.open("/etcdserverpb.Watch/Watch", &[]);
        Self { stream, all: Vec::new(), said: VecDeque::new() }
    }

    pub(crate) async fn create(
        &mut self,
        store: &Naive,
        request: &WatchCreateRequest,
    ) -> Result<(), String> {
        self.send(RequestUnion::CreateRequest(request.clone()));
        let (created, watch, canceled) = match store.watch(request, self.all.len() as i64) {
            Opened::Refused(refused) => return self.says(refused).await,
            Opened::Compacted(created, canceled) => (created, None, Some(canceled)),
            Opened::Watching(created, watch) => (created, Some(watch), None),
        };
        self.all.push(Watching {
            request: request.clone(),
            settled: watch.as_ref().map_or(0, |watch| watch.start - 1),
            watch,
            expected: Vec::new(),
            received: Vec::new(),
            canceled,
        });
        self.says(created).await
    }

    /// A watch of all keys whose start is the current revision: once it is told of that, so are
    /// those created before, of all they were to be told of the past.
    pub(crate) async fn create_probe(&mut self, store: &Naive) -> Result<(), String> {
        let all = Bytes::from_static(b"\0");
        let request = WatchCreateRequest {
            key: all.clone(),
            range_end: all,
            start_revision: store.revision(),
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        self.create(store, &request).await
    }

    /// Cancels a watch, if there is one to cancel.
    pub(crate) async fn cancel(&mut self, store: &Naive, choice: usize) -> Result<(), String> {
        let live: Vec<usize> =
            (1..self.all.len()).filter(|&place| self.all[place].watch.is_some()).collect();
        let Some(&place) = live.get(choice % live.len().max(1)) else { return Ok(()) };
        // What etcd has not sent yet when it is asked, it may send or not.
        self.settle(store).await?;
        let watch_id = place as i64;
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
        self.all[place].watch = None;
        let canceled = WatchResponse {
            header: header(store.revision()),
            watch_id,
            canceled: true,
            ..WatchResponse::default()
        };
        self.says(canceled).await
    }

    /// Waits until each watch was told all it is to be told up to now, and nothing else.
    pub(crate) async fn settle(&mut self, store: &Naive) -> Result<(), String> {
        let now = store.revision();
        for watching in &mut self.all {
            let Some(watch) = &watching.watch else { continue };
            let new = watching.settled + 1..=now;
            watching.expected.extend(new.flat_map(|revision| store.told(watch, revision)));
            watching.settled = watching.settled.max(now);
        }
        loop {
            for (id, watching) in self.all.iter().enumerate() {
                watching.is_told_right().map_err(|wrong| format!("watch {id} {wrong}"))?;
            }
            let Some(late) = self.all.iter().position(Watching::waits) else { break };
            self.receive().await.map_err(|error| {
                let Watching { request, expected, received, canceled, .. } = &self.all[late];
                let left = (&expected[received.len()..], canceled, &self.said);
                format!("{error}; watch {late} {request:?} waits for {left:#?}")
            })?;
        }
        match self.said.front() {
            None => Ok(()),
            Some(said) => Err(format!("nobody asked for {said:?}")),
        }
    }

    fn send(&self, request: RequestUnion) {
        self.stream.send(WatchRequest { request_union: Some(request) }.encode_to_vec());
    }

    /// The next thing said that is not events must be this.
    async fn says(&mut self, expected: WatchResponse) -> Result<(), String> {
        while self.said.is_empty() {
            self.receive().await.map_err(|error| format!("{error}, not {expected:?}"))?;
        }
        let said = self.said.pop_front();
        if said.as_ref() != Some(&expected) {
            return Err(format!("of a watch, the model says {expected:?}, the server {said:?}"));
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), String> {
        let response: WatchResponse = match self.stream.recv(SOON).await {
            Received::Message(bytes) => wire::decode(&bytes)?,
            other => return Err(format!("the stream of watches: {other:?}")),
        };
        let place = usize::try_from(response.watch_id).ok();
        let watching = place.and_then(|place| self.all.get_mut(place));
        if response.events.is_empty() {
            match watching {
                Some(Watching { canceled, .. }) if canceled.as_ref() == Some(&response) => {
                    *canceled = None;
                }
                _ => self.said.push_back(response),
            }
            return Ok(());
        }
        let Some(watching) = watching else {
            return Err(format!("events of no watch: {response:?}"));
        };
        let is_plain = !response.created && !response.canceled && !response.fragment;
        let at = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let first = response.events.first().map_or(0, at);
        let last = response.events.last().map_or(0, at);
        let is_whole = watching.received.last().map_or(0, at) < first;
        let is_later = response.header.is_some_and(|header| header.revision >= last);
        if !is_plain || !is_whole || !is_later {
            return Err(format!(
                "events are told by revisions, each whole: {response:?} after {:?}",
                watching.received.last()
            ));
        }
        watching.received.extend(response.events);
        Ok(())
    }
}

impl Watching {
    fn waits(&self) -> bool {
        self.canceled.is_some() || self.received.len() < self.expected.len()
    }

    /// So far; what came after all that is known to be right is for later.
    fn is_told_right(&self) -> Result<(), String> {
        let mut both = self.expected.iter().zip(&self.received);
        let differs = both.position(|(expected, received)| expected != received);
        let place = match differs {
            Some(place) => place,
            None if self.received.len() <= self.expected.len() => return Ok(()),
            None => self.expected.len(),
        };
        Err(format!(
            "{:?} differs at event {place}: the model says {:?}, the server {:?}",
            self.request,
            self.expected.get(place),
            self.received.get(place)
        ))
    }
}
