//! The actor that owns the endpoints: their health, the token, and the route that calls read.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, fut::wrap_future,
};
use tenure_core::{
    EtcdError, Moment,
    endpoints::{Endpoints, Report},
    retry::Origin,
};
use tokio::sync::{oneshot, watch as latest};
use tonic::metadata::{Ascii, MetadataValue};

use super::{
    Failed, Transport,
    link::{Link, Route, Token},
    rpc::{AUTHENTICATE, RANGE},
    shows_health,
};
use crate::{
    config::Endpoint,
    error::{Error, ErrorKind, Result},
    ops::{CallOptions, Count},
    runtime::{Close, Closing, Executor, Running, stop_at_close},
};

/// How long a wrong password is remembered, so that a crowd of calls asks once.
const REFUSAL_HOLDS: Duration = Duration::from_secs(1);

/// Owns the links to the endpoints and the token; publishes both as a [`Route`].
pub(crate) struct Connection {
    transport: Transport,
    executor: Executor,
    closing: Closing,
    _close: Close,
    _running: Running,
    links: Vec<Arc<Link>>,
    health: Endpoints,
    token: Token,
    /// Who waits for the token that is being fetched.
    refreshing: Option<Vec<Waiting>>,
    refused: Option<(Moment, Error)>,
    route: latest::Sender<Arc<Route>>,
    timer: Option<SpawnHandle>,
}

type Waiting = oneshot::Sender<Result<()>>;

/// What a caller noticed about a link.
pub(crate) struct Heard {
    pub(crate) link: Arc<Link>,
    pub(crate) report: Report,
}

/// Replace the token of generation `stale`, if nobody has yet.
pub(crate) struct RefreshToken {
    pub(crate) stale: u64,
    pub(crate) reply: Waiting,
}

/// How a probe went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probed {
    /// The endpoint can serve.
    Answered,
    /// It cannot, or there is no connection to it; the link makes the next one by itself.
    Failed,
    /// Nothing sensible came back on the connection there is.
    Silent,
}

/// Use these endpoints from now on.
pub(crate) struct SetEndpoints {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) reply: oneshot::Sender<Result<()>>,
}

impl Message for Heard {
    type Result = ();
}

impl Message for RefreshToken {
    type Result = ();
}

impl Message for SetEndpoints {
    type Result = ();
}

/// The links of a client that starts, and the route over all of them.
pub(crate) fn first_route(
    endpoints: &[Endpoint],
    config: &crate::config::Config,
    executor: &Executor,
) -> Result<Route> {
    let links = links_to(endpoints, &[], config, executor)?;
    let rotation = (0..links.len()).collect();
    Ok(Route { links, rotation, token: Token { generation: 0, value: None } })
}

/// One link to each endpoint, however often it is named; a known one if there is one.
fn links_to(
    endpoints: &[Endpoint],
    known: &[Arc<Link>],
    config: &crate::config::Config,
    executor: &Executor,
) -> Result<Vec<Arc<Link>>> {
    let mut links: Vec<Arc<Link>> = Vec::new();
    for endpoint in endpoints {
        let to_it = |link: &&Arc<Link>| link.endpoint == *endpoint;
        if links.iter().any(|link| to_it(&link)) {
            continue;
        }
        links.push(match known.iter().find(to_it) {
            Some(link) => Arc::clone(link),
            None => Arc::new(Link::new(endpoint.clone(), config, executor.clone())?),
        });
    }
    Ok(links)
}

impl Connection {
    pub(crate) fn new(
        transport: Transport,
        executor: Executor,
        closing: Closing,
        close: Close,
        running: Running,
        route: latest::Sender<Arc<Route>>,
    ) -> Self {
        let first = Arc::clone(&route.borrow());
        Self {
            transport,
            executor,
            closing,
            _close: close,
            _running: running,
            links: first.links.clone(),
            health: Endpoints::new(first.links.len()),
            token: first.token.clone(),
            refreshing: None,
            refused: None,
            route,
            timer: None,
        }
    }

    fn publish(&self) {
        self.route.send_replace(Arc::new(Route {
            links: self.links.clone(),
            rotation: self.health.rotation(),
            token: self.token.clone(),
        }));
    }

    fn place_of(&self, link: &Arc<Link>) -> Option<usize> {
        self.links.iter().position(|known| Arc::ptr_eq(known, link))
    }

    /// Sends the probes that are due, and sleeps until the next ones are.
    fn probe(&mut self, ctx: &mut Context<Self>) {
        let now = self.transport.now();
        while let Some(place) = self.health.poll_probe(now) {
            let Some(link) = self.links.get(place).cloned() else { continue };
            let (transport, token) = (self.transport.clone(), self.token.clone());
            let probed = Arc::clone(&link);
            let probe = async move { transport.probe(&probed, &token).await };
            ctx.spawn(wrap_future(probe).map(move |probed, actor: &mut Self, ctx| {
                actor.probed(&link, probed, ctx);
            }));
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.health.poll_timeout() {
            self.timer = Some(ctx.run_later(at.since(now), |actor, ctx| actor.probe(ctx)));
        }
    }

    fn probed(&mut self, link: &Arc<Link>, probed: Probed, ctx: &mut Context<Self>) {
        // Not by the link, which may have been renewed meanwhile.
        let to_it = |known: &Arc<Link>| known.endpoint == link.endpoint;
        let Some(place) = self.links.iter().position(to_it) else { return };
        let was_healthy = self.health.is_healthy(place);
        let answered = probed == Probed::Answered;
        if probed == Probed::Silent {
            // It may be the connection alone: the next probe makes a new one.
            self.renew_link(place);
        }
        let changed = self.health.handle_probe(self.transport.now(), place, answered);
        match (was_healthy, answered) {
            (false, true) => tracing::info!(endpoint = %link.name(), "endpoint serves again"),
            (true, false) => tracing::warn!(endpoint = %link.name(), "endpoint does not answer"),
            _ => {}
        }
        if changed || probed == Probed::Silent {
            self.publish();
        }
        self.probe(ctx);
    }

    fn renew_link(&mut self, place: usize) {
        let Some(old) = self.links.get(place) else { return };
        let config = &self.transport.shared.config;
        match Link::new(old.endpoint.clone(), config, self.executor.clone()) {
            Ok(link) => self.links[place] = Arc::new(link),
            Err(error) => tracing::error!(%error, "an endpoint that worked cannot be set up"),
        }
    }

    fn sign_in(&mut self, ctx: &mut Context<Self>) {
        let transport = self.transport.clone();
        let fetch = async move { transport.authenticate().await };
        ctx.spawn(wrap_future(fetch).map(|token, actor: &mut Self, _| actor.signed_in(token)));
    }

    fn signed_in(&mut self, fetched: Result<Option<MetadataValue<Ascii>>>) {
        let result = match fetched {
            Ok(value) => {
                tracing::debug!("signed in");
                self.token = Token { generation: self.token.generation + 1, value };
                self.refused = None;
                self.publish();
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "signing in failed");
                if error.kind() == ErrorKind::Unauthenticated {
                    self.refused = Some((self.transport.now(), error.clone()));
                }
                Err(error)
            }
        };
        for waiting in self.refreshing.take().into_iter().flatten() {
            // Whoever is gone needs no token.
            let _ = waiting.send(result.clone());
        }
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        stop_at_close(self.closing.clone(), ctx);
    }
}

impl Handler<Heard> for Connection {
    type Result = ();

    fn handle(&mut self, heard: Heard, ctx: &mut Context<Self>) {
        let Some(place) = self.place_of(&heard.link) else { return };
        let changed = self.health.handle_report(self.transport.now(), place, heard.report);
        if changed {
            tracing::warn!(
                endpoint = %heard.link.name(), report = ?heard.report, "endpoint left alone"
            );
        }
        if heard.report == Report::Garbled {
            self.renew_link(place);
        }
        if changed || heard.report == Report::Garbled {
            self.publish();
        }
        self.probe(ctx);
    }
}

impl Handler<RefreshToken> for Connection {
    type Result = ();

    fn handle(&mut self, RefreshToken { stale, reply }: RefreshToken, ctx: &mut Context<Self>) {
        let answer = if self.token.generation > stale {
            Ok(())
        } else if let Some((at, error)) = &self.refused
            && self.transport.now().since(*at) < REFUSAL_HOLDS
        {
            Err(error.clone())
        } else {
            match &mut self.refreshing {
                Some(waiting) => waiting.push(reply),
                None => {
                    self.refreshing = Some(vec![reply]);
                    self.sign_in(ctx);
                }
            }
            return;
        };
        // Whoever is gone needs no token.
        let _ = reply.send(answer);
    }
}

impl Handler<SetEndpoints> for Connection {
    type Result = ();

    fn handle(&mut self, message: SetEndpoints, ctx: &mut Context<Self>) {
        let SetEndpoints { endpoints, reply } = message;
        let config = &self.transport.shared.config;
        let links = links_to(&endpoints, &self.links, config, &self.executor);
        let result = links.map(|links| {
            let before: Vec<_> = links.iter().map(|link| self.place_of(link)).collect();
            self.health = self.health.rearranged(&before);
            self.links = links;
            self.publish();
            self.probe(ctx);
        });
        // Whoever is gone does not care.
        let _ = reply.send(result);
    }
}

impl Transport {
    /// Whether an endpoint can serve: a linearizable read shows more than a connection.
    async fn probe(&self, link: &Arc<Link>, token: &Token) -> Probed {
        let options = CallOptions::default();
        let request = Count::new("tenure/probe").into();
        let attempt = self.attempt(link, &RANGE, request, token, &options);
        let patience = self.shared.config.attempt_timeout;
        match self.within(patience, std::pin::pin!(attempt)).await {
            Some(Ok(_)) => Probed::Answered,
            Some(Err(failed)) if shows_health(&failed) => Probed::Answered,
            Some(Err(Failed { origin: Origin::Garbled, .. })) | None => Probed::Silent,
            Some(Err(_)) => Probed::Failed,
        }
    }

    /// A fresh token; none where authentication is off.
    async fn authenticate(&self) -> Result<Option<MetadataValue<Ascii>>> {
        let Some(credentials) = &self.shared.config.credentials else { return Ok(None) };
        let request = credentials.into();
        match self.call(&AUTHENTICATE, request, &CallOptions::default()).await {
            Ok(answer) => answer.token.parse().map(Some).map_err(|_| {
                Error::new(ErrorKind::Protocol, "sign in", "the token is no header value")
            }),
            Err(error) if error.etcd_error() == Some(EtcdError::AuthNotEnabled) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
