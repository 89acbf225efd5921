use std::{collections::HashMap, sync::Arc};

use actix::{AsyncContext, Context, SpawnHandle};
use futures::StreamExt;
use tenure_core::{
    EtcdError, Moment,
    endpoints::Report,
    watch::{Config, Registry, Reopen, WatchKey},
};

use super::actor::WatchActor;
use crate::{
    client::conversation::Conversation,
    error::{Error, ErrorKind, Result},
    ops::CallOptions,
    transport::{
        Transport,
        watch::{request, response},
    },
    wire::etcdserverpb as pb,
};

/// All watches that share a stream: those with the same requirement. Credentials are the
/// client's.
pub(super) struct Lane {
    transport: Transport,
    options: CallOptions,
    pub(super) registry: Registry,
    pub(super) subscribers: HashMap<WatchKey, u64>,
    stream: Conversation<pb::WatchRequest>,
    /// A fresh token is on its way; no stream is opened until it is there.
    pub(super) refreshing: bool,
    pub(super) timer: Option<(Moment, SpawnHandle)>,
    /// What the last stream ended with, until another one answers.
    pub(super) trouble: Option<Error>,
}

/// What a stream said, and which one it was.
pub(super) struct Heard {
    pub(super) lane: usize,
    number: u64,
    answer: Result<pb::WatchResponse>,
}

/// How long a stream may be silent before it is asked for a sign of life, and how long that may
/// take.
const SILENCE: Config = Config {
    quiet: std::time::Duration::from_secs(5),
    patience: std::time::Duration::from_millis(1500),
};

impl Lane {
    pub(super) fn new(transport: Transport, options: CallOptions) -> Self {
        Self {
            transport,
            options,
            registry: Registry::new(SILENCE),
            subscribers: HashMap::new(),
            stream: Conversation::new(),
            refreshing: false,
            timer: None,
            trouble: None,
        }
    }

    /// Takes in what the stream said. Answers with the generation of the stream's token if that
    /// is what it ended for.
    pub(super) fn hear(&mut self, heard: Heard, ctx: &mut Context<WatchActor>) -> Option<u64> {
        if !self.stream.is_current(heard.number) {
            return None;
        }
        let now = self.transport.now();
        match heard.answer {
            Ok(answer) => {
                self.stream.answered();
                self.trouble = None;
                self.registry.handle_response(now, response(answer));
                None
            }
            Err(error) => {
                tracing::debug!(%error, "a watch stream ended");
                self.trouble = Some(error.clone());
                let token = self.opened_with();
                self.registry.stream_lost();
                self.stream.fail(now, ctx);
                token.filter(|_| error.etcd_error().is_some_and(EtcdError::wants_token))
            }
        }
    }

    /// Writes what the registry wants to say, and sees that there is a stream to say it on.
    pub(super) fn write(&mut self, lane: usize, ctx: &mut Context<WatchActor>) {
        let now = self.transport.now();
        loop {
            while self.stream.room() > 0
                && let Some(transmit) = self.registry.poll_transmit(now)
            {
                if !self.stream.send(request(transmit)) {
                    self.registry.stream_lost();
                    self.stream.fail(now, ctx);
                }
            }
            match self.registry.poll_reopen() {
                None => {}
                Some(Reopen::Silent) => {
                    if let Some(link) = self.stream.fail(now, ctx) {
                        tracing::warn!(endpoint = %link.name(), "a watch stream is silent");
                        let error = Error::new(ErrorKind::Timeout, "watch", "the stream is silent");
                        self.trouble = Some(error.at(link.name()));
                        self.transport.report(&link, Report::Slow);
                    }
                }
                Some(Reopen::Protocol(rule)) => {
                    if let Some(link) = self.stream.fail(now, ctx) {
                        tracing::error!(
                            endpoint = %link.name(), rule, "a watch stream broke the protocol"
                        );
                        let error = Error::new(ErrorKind::Protocol, "watch", rule);
                        self.trouble = Some(error.at(link.name()));
                        self.transport.report(&link, Report::Garbled);
                    }
                }
            }
            if !self.wants_to_open() || self.stream.not_before() > now {
                break;
            }
            self.open(now, lane, ctx);
        }
        if !self.registry.wants_stream() && self.stream.close(ctx).is_some() {
            self.registry.stream_lost();
        }
    }

    fn wants_to_open(&self) -> bool {
        self.registry.wants_stream() && !self.stream.is_open() && !self.refreshing
    }

    fn open(&mut self, now: Moment, lane: usize, ctx: &mut Context<WatchActor>) {
        match self.transport.watch_stream(&self.options, self.stream.avoid()) {
            Ok((outgoing, incoming)) => {
                let number = self.stream.next_number();
                let (link, token) = (Arc::clone(&incoming.link), incoming.token);
                let heard = incoming.map(move |answer| Heard { lane, number, answer });
                let reader = ctx.add_stream(heard);
                self.stream.opened(outgoing, link, token, reader);
                self.registry.stream_opened(now);
            }
            Err(error) => {
                tracing::warn!(%error, "no stream for watches");
                self.stream.fail(now, ctx);
            }
        }
    }

    /// The generation of the token that the stream was opened with.
    pub(super) fn opened_with(&self) -> Option<u64> {
        self.stream.opened_with()
    }

    /// Drops the stream for one with another token.
    pub(super) fn reopen(&mut self, ctx: &mut Context<WatchActor>) {
        if self.stream.close(ctx).is_some() {
            self.registry.stream_lost();
        }
    }

    /// When there is something to do again.
    pub(super) fn next(&self) -> Option<Moment> {
        let reopen = self.wants_to_open().then(|| self.stream.not_before());
        self.registry.poll_timeout().into_iter().chain(reopen).min()
    }
}
