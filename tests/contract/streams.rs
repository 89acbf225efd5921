//! The streams of a case.

use std::{collections::VecDeque, time::Duration};

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, Value};
use ring::digest::{SHA256, digest};
use tokio::time::Instant;

use super::answer::Answer;
use super::raw::{Raw, RawStream, Received};

/// What ends a snapshot: the SHA-256 of all that stands before it.
const CHECKSUM: usize = 32;

/// A stream, with what came of it before somebody asked.
#[derive(Debug)]
pub(crate) struct Stream {
    stream: RawStream,
    aside: VecDeque<Received>,
    method: MethodDescriptor,
    kind: MessageDescriptor,
}

/// Events, whether more fragments follow, and the revision of the header.
pub(crate) type Batch = (usize, bool, i64);

impl Stream {
    pub(crate) fn open(raw: &Raw, method: &MethodDescriptor, metadata: &[(&str, &str)]) -> Self {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let stream = raw.open(&path, metadata);
        Self { stream, aside: VecDeque::new(), method: method.clone(), kind: method.output() }
    }

    /// What its messages are.
    pub(crate) fn kind(&self) -> &MessageDescriptor {
        &self.kind
    }

    /// Closes its own half with it, where there is to be one request only.
    pub(crate) fn send(&mut self, request: Vec<u8>) {
        self.stream.send(request);
        if !self.method.is_client_streaming() {
            self.stream.half_close();
        }
    }

    pub(crate) fn half_close(&mut self) {
        self.stream.half_close();
    }

    pub(crate) async fn recv(&mut self, within: Duration) -> Answer {
        Answer::received(self.next(within).await, &self.kind)
    }

    /// As [`recv`](Self::recv), and leaves it there.
    pub(crate) async fn peek(&mut self, within: Duration) -> Answer {
        let next = self.next(within).await;
        self.aside.extend(Some(next.clone()).filter(|next| *next != Received::TimedOut));
        Answer::received(next, &self.kind)
    }

    async fn next(&mut self, within: Duration) -> Received {
        match self.aside.pop_front() {
            Some(received) => received,
            None => self.stream.recv(within).await,
        }
    }

    /// So many events, of this watch if one is given, over however many responses, as one response
    /// with nothing but events; and how they were packed. Other responses are for others to take.
    pub(crate) async fn collect(
        &mut self,
        n: usize,
        watch_id: Option<i64>,
        within: Duration,
    ) -> (Answer, Vec<Batch>) {
        let until = Instant::now() + within;
        let mut events = Vec::new();
        let mut batches = Vec::new();
        let mut others = VecDeque::new();
        let missing = loop {
            if events.len() >= n {
                break None;
            }
            let left = until.saturating_duration_since(Instant::now());
            let message = match self.recv(left).await {
                Answer::Message(message) => message,
                end => break Some(end),
            };
            if watch_id.is_some_and(|id| number(&message, "watch_id") != id) {
                others.push_back(Received::Message(message.encode_to_vec().into()));
            } else if let Some(more) = events_of(&message) {
                let header = message.get_field_by_name("header");
                let revision =
                    header.and_then(|header| Some(number(header.as_message()?, "revision")));
                let fragment = message.get_field_by_name("fragment").and_then(|is| is.as_bool());
                batches.push((
                    more.len(),
                    fragment.unwrap_or_default(),
                    revision.unwrap_or_default(),
                ));
                events.extend(more);
            }
        };
        others.append(&mut self.aside);
        self.aside = others;
        match missing {
            Some(end) if events.is_empty() => (end, batches),
            _ => {
                let mut all = DynamicMessage::new(self.kind.clone());
                all.set_field_by_name("events", Value::List(events));
                (Answer::Message(all), batches)
            }
        }
    }

    /// Takes it for a snapshot, and sees which properties of one it has.
    pub(crate) async fn snapshot(mut self, within: Duration) -> Answer {
        let mut body = Vec::new();
        let mut remaining = Vec::new();
        self.send(Vec::new());
        loop {
            match self.recv(within).await {
                Answer::Message(message) => {
                    let blob = message.get_field_by_name("blob");
                    body.extend(blob.iter().filter_map(|blob| blob.as_bytes()).flatten());
                    let left = message.get_field_by_name("remaining_bytes");
                    remaining.extend(left.and_then(|left| left.as_u64()));
                }
                Answer::End => break,
                other => return other,
            }
        }
        let (body, sum) = body.split_at(body.len().saturating_sub(CHECKSUM));
        let check = [
            ("trailing_sha256_of_body_matches", digest(&SHA256, body).as_ref() == sum),
            ("remaining_never_grows", remaining.is_sorted_by(|before, after| before >= after)),
            ("last_remaining_is_zero", remaining.last() == Some(&0)),
            ("body_is_multiple_of_512", body.len() % 512 == 0 && !body.is_empty()),
        ];
        Answer::Snapshot(check.map(|(name, holds)| (name.to_owned(), holds)).into())
    }
}

fn number(message: &DynamicMessage, field: &str) -> i64 {
    message.get_field_by_name(field).and_then(|value| value.as_i64()).unwrap_or_default()
}

/// None if it has none.
fn events_of(message: &DynamicMessage) -> Option<Vec<Value>> {
    let events = message.get_field_by_name("events")?;
    events.as_list().filter(|events| !events.is_empty()).map(<[Value]>::to_vec)
}
