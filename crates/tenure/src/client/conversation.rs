use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, SpawnHandle};
use tenure_core::{Moment, backoff::Outage};

use crate::transport::{Outgoing, link::Link};

/// A long-lived stream to some member, and what is remembered between one and the next.
///
/// The actor that owns it feeds each answer's stream number back, so that an answer which was
/// already on its way when the stream was given up is not taken for one of the next.
pub(crate) struct Conversation<Q> {
    open: Option<Open<Q>>,
    /// The number of the stream that is open, or was last.
    number: u64,
    avoid: Option<Arc<Link>>,
    outage: Option<Outage>,
    not_before: Moment,
}

struct Open<Q> {
    outgoing: Outgoing<Q>,
    reader: SpawnHandle,
    link: Arc<Link>,
    token: u64,
}

impl<Q> Conversation<Q> {
    pub(crate) fn new() -> Self {
        Self { open: None, number: 0, avoid: None, outage: None, not_before: Moment::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether `number` is the stream that is open.
    pub(crate) fn is_current(&self, number: u64) -> bool {
        self.is_open() && number == self.number
    }

    /// The member not to go to next.
    pub(crate) fn avoid(&self) -> Option<&Arc<Link>> {
        self.avoid.as_ref()
    }

    /// When the next stream may be opened.
    pub(crate) fn not_before(&self) -> Moment {
        self.not_before
    }

    /// The generation of the token that the open stream was opened with.
    pub(crate) fn opened_with(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.token)
    }

    /// The number that the next stream will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// Takes over a stream that was opened, read by `reader`.
    pub(crate) fn opened(
        &mut self,
        outgoing: Outgoing<Q>,
        link: Arc<Link>,
        token: u64,
        reader: SpawnHandle,
    ) {
        self.number += 1;
        self.open = Some(Open { outgoing, reader, link, token });
    }

    /// Queues a request. False when the connection does not take any: the stream is of no use.
    pub(crate) fn send(&self, request: Q) -> bool {
        self.open.as_ref().is_some_and(|open| open.outgoing.try_send(request).is_ok())
    }

    /// How many more requests the connection takes now.
    pub(crate) fn room(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.outgoing.capacity())
    }

    /// Something came back: what was wrong is over.
    pub(crate) fn answered(&mut self) {
        self.outage = None;
        self.avoid = None;
    }

    /// Ends the stream, if one is open; the member is named.
    pub(crate) fn close<A>(&mut self, ctx: &mut Context<A>) -> Option<Arc<Link>>
    where
        A: Actor<Context = Context<A>>,
    {
        let open = self.open.take()?;
        ctx.cancel_future(open.reader);
        Some(open.link)
    }

    /// Goes to another member next, at once.
    pub(crate) fn leave(&mut self, link: Arc<Link>) {
        self.avoid = Some(link);
    }

    /// Ends the stream because it failed: the next goes to another member, after a pause that
    /// grows with the outage. Names the member that is left.
    pub(crate) fn fail<A>(&mut self, now: Moment, ctx: &mut Context<A>) -> Option<Arc<Link>>
    where
        A: Actor<Context = Context<A>>,
    {
        let left = self.close(ctx);
        self.avoid = left.clone().or_else(|| self.avoid.take());
        let pause = self.outage.get_or_insert_with(|| Outage::new(now)).pause(now);
        self.not_before = now + pause;
        left
    }
}
