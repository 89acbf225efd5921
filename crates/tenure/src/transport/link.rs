use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tenure_core::Moment;
use tonic::{
    Status,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
};

use super::{channel::Channel, connector::Openings, tolerant::Tolerant};
use crate::{
    config::{Config, Endpoint},
    error::Result,
    runtime::Executor,
};

/// The way to one endpoint: a channel that connects when it is first used, and again after each
/// loss.
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    channel: Channel,
    openings: Arc<Openings>,
    answered_at: AtomicU64,
}

/// The state of a link before a call, to tell later whether the call can have left.
pub(super) struct Before {
    begun: u64,
    open: bool,
}

impl Link {
    pub(crate) fn new(endpoint: Endpoint, config: &Config, executor: Executor) -> Result<Self> {
        let openings = Arc::new(Openings::default());
        let channel = Channel::new(&endpoint.uri, config, Arc::clone(&openings), executor)?;
        Ok(Self { endpoint, channel, openings, answered_at: AtomicU64::new(0) })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.endpoint.name
    }

    /// What makes calls, on the connection there is or else the next one.
    pub(super) async fn grpc(&self, config: &Config) -> Result<Grpc<Tolerant>, Status> {
        let sender = self.channel.sender().await?;
        Ok(Grpc::with_origin(Tolerant(sender), self.endpoint.uri.clone())
            .max_decoding_message_size(config.max_receive_bytes))
    }

    pub(super) fn before(&self) -> Before {
        Before { begun: self.openings.begun(), open: self.openings.any() }
    }

    /// Whether there was a connection at any time since `before`.
    pub(super) fn was_open_since(&self, before: &Before) -> bool {
        before.open || self.openings.begun() > before.begun
    }

    pub(crate) fn answered(&self, now: Moment) {
        self.answered_at.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }

    /// What may be behind a connection that was closed, where the error itself cannot tell.
    pub(super) fn hint(&self) -> Option<&'static str> {
        let https = self.endpoint.uri.scheme_str() == Some("https");
        let answered = self.answered_at.load(Ordering::Relaxed) > 0;
        (https && !answered).then_some(
            "the server closed the connection before any answer, as one does that does not accept \
             the client's certificate, or misses one",
        )
    }

    /// Whether any call was answered after `moment`.
    pub(crate) fn answered_since(&self, moment: Moment) -> bool {
        self.answered_at.load(Ordering::Relaxed) > moment.as_nanos()
    }
}

/// A token, and how many were fetched before it.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) generation: u64,
    pub(crate) value: Option<MetadataValue<Ascii>>,
}

/// What a call needs to know, published by the Connection actor and read without asking it.
pub(crate) struct Route {
    pub(crate) links: Vec<Arc<Link>>,
    /// The links to call in turn, by their place.
    pub(crate) rotation: Vec<usize>,
    pub(crate) token: Token,
}

impl Route {
    /// The link that is next at `turn`, but for those that were tried; one of them if all were.
    pub(super) fn pick(&self, turn: usize, tried: &mut Vec<Arc<Link>>) -> Option<Arc<Link>> {
        let rotation = self.rotation.iter().cycle().skip(turn % self.rotation.len().max(1));
        let untried = rotation
            .take(self.rotation.len())
            .filter_map(|&place| self.links.get(place))
            .find(|link| !tried.iter().any(|old| Arc::ptr_eq(old, link)));
        let link = match untried {
            Some(link) => link,
            None => {
                tried.clear();
                let place = *self.rotation.get(turn % self.rotation.len().max(1))?;
                self.links.get(place)?
            }
        };
        Some(Arc::clone(link))
    }
}
