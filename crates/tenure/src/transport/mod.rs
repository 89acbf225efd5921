//! From a typed request to an answer: the choice of an endpoint, deadlines, retries, tokens.
//!
//! Nothing above this module names a type of tonic or prost.

mod channel;
mod cluster;
mod codec;
pub(crate) mod connection;
mod connector;
mod kv;
pub(crate) mod lease;
pub(crate) mod link;
pub(crate) mod rpc;
mod server_side;
mod status;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod tolerant;
pub(crate) mod watch;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::Addr;
use futures::future::{self, Either};
use prost::Message;
use tenure_core::{
    EtcdError, Moment,
    endpoints::Report,
    retry::{Attempts, Origin, Policy, Step, Verdict, classify},
};
use tokio::{runtime::Handle, sync::watch as latest};
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
};

pub use self::connector::{Connector, Io, Tcp};
pub(crate) use self::stream::{Incoming, Outgoing};
#[cfg(feature = "tls")]
pub use self::tls::Tls;
use self::{
    codec::Protobuf,
    connection::{Connection, Heard, RefreshToken},
    link::{Link, Route, Token},
    rpc::Rpc,
};
use crate::{
    config::Config,
    error::{Error, ErrorKind, Result},
    ops::CallOptions,
    runtime::{Alive, Closing},
};

/// The version of the API this client speaks, told with every call as etcd's own client does.
const API_VERSION: &str = "3.5";

/// Makes calls, on the task of whoever makes them.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) shared: Arc<Shared>,
    /// What keeps the client's thread; an actor that runs there holds none.
    alive: Option<Arc<Alive>>,
}

pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    /// The runtime that the client's connections and timers live on.
    pub(crate) handle: Handle,
    pub(crate) closing: Closing,
    pub(crate) route: latest::Receiver<Arc<Route>>,
    pub(crate) connection: Addr<Connection>,
    pub(crate) turn: AtomicUsize,
}

/// How one attempt failed.
pub(crate) struct Failed {
    pub(crate) status: Status,
    pub(crate) origin: Origin,
    pub(crate) verdict: Verdict,
}

/// An attempt under way. Dropped before its end it tells of a silent endpoint: a caller with a time
/// limit of its own would go there again and again.
struct UnderWay<'a> {
    transport: &'a Transport,
    link: &'a Arc<Link>,
    since: Moment,
    over: bool,
}

/// How long an attempt may go on that nobody waits for.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// A call that is dropped sooner says nothing about the endpoint.
const HURRY: Duration = Duration::from_millis(100);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let waited = self.transport.now().since(self.since);
        if !self.over && waited >= HURRY && !self.link.answered_since(self.since) {
            self.transport.report(self.link, Report::Slow);
        }
    }
}

/// An answer, or the error, and whether an earlier attempt of the same call may have arrived.
pub(crate) struct Outcome<A> {
    pub(crate) result: Result<A>,
    pub(crate) repeated: bool,
}

impl Transport {
    pub(crate) fn new(shared: Arc<Shared>, alive: Option<Arc<Alive>>) -> Self {
        Self { shared, alive }
    }

    pub(crate) fn alive(&self) -> Option<&Arc<Alive>> {
        self.alive.as_ref()
    }

    pub(crate) fn now(&self) -> Moment {
        self.shared.config.clock.now()
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        Arc::clone(&self.shared.route.borrow())
    }

    /// A timer of the client's own runtime: the caller's may have none, or be paused.
    pub(crate) fn sleep(&self, span: Duration) -> tokio::time::Sleep {
        let _in = self.shared.handle.enter();
        tokio::time::sleep(span)
    }

    /// Sleeps, but not beyond the closing of the client: its runtime may end then.
    async fn pause(&self, span: Duration) {
        let closing = pin!(self.shared.closing.clone().wait());
        let _ = future::select(closing, pin!(self.sleep(span))).await;
    }

    pub(crate) async fn call<Q, A>(
        &self,
        rpc: &'static Rpc<Q, A>,
        request: Q,
        options: &CallOptions,
    ) -> Result<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.call_counted(rpc, request, options).await.result
    }

    pub(crate) async fn call_counted<Q, A>(
        &self,
        rpc: &'static Rpc<Q, A>,
        request: Q,
        options: &CallOptions,
    ) -> Outcome<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut repeated = false;
        let result = self.attempts(rpc, request, options, &mut repeated).await;
        Outcome { result, repeated }
    }

    async fn attempts<Q, A>(
        &self,
        rpc: &'static Rpc<Q, A>,
        request: Q,
        options: &CallOptions,
        repeated: &mut bool,
    ) -> Result<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let config = &*self.shared.config;
        check_size(rpc.name, &request, config.max_send_bytes)?;
        let policy = self.policy(rpc.repeatable, options);
        let mut attempts = Attempts::new(policy, self.route().links.len());
        let mut tried = Vec::new();
        loop {
            if self.shared.closing.is_closing() {
                return Err(Error::closed(rpc.name));
            }
            let route = self.route();
            let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
            let Some(link) = route.pick(turn, &mut tried) else {
                return Err(Error::new(ErrorKind::Unavailable, rpc.name, "there is no endpoint"));
            };
            let patience = attempts.patience(self.now());
            let attempt = async {
                let request = request.clone();
                if rpc.goes_on {
                    self.attempt_to_the_end(&link, rpc, request, &route.token, options).await
                } else {
                    self.attempt(&link, rpc, request, &route.token, options).await
                }
            };
            let answer = if rpc.waits {
                self.for_its_turn(&link, patience, attempt).await
            } else {
                self.patiently(&link, rpc.repeatable, patience, attempt).await
            };
            let failed = match answer {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tracing::debug!(
                rpc = rpc.name,
                endpoint = %link.name(),
                status = %failed.status,
                verdict = ?failed.verdict,
                "an attempt failed"
            );
            let give_up = |failed: Failed| self.give_up(rpc, &link, failed);
            match attempts.handle_failure(self.now(), failed.verdict) {
                Step::GiveUp => return Err(give_up(failed)),
                Step::RefreshToken if rpc.anonymous || config.credentials.is_none() => {
                    return Err(give_up(failed));
                }
                Step::RefreshToken => {
                    let refresh = pin!(self.refresh_token(rpc.name, route.token.generation));
                    match self.within(attempts.rest(self.now()), refresh).await {
                        Some(refreshed) => refreshed?,
                        None => return Err(give_up(failed)),
                    }
                }
                Step::Again { pause } => {
                    *repeated |= failed.origin != Origin::NotSent;
                    tried.push(link);
                    if !pause.is_zero() {
                        self.pause(pause).await;
                    }
                }
            }
        }
    }

    fn policy(&self, repeatable: bool, options: &CallOptions) -> Policy {
        let config = &*self.shared.config;
        let default = if repeatable { config.read_timeout } else { config.write_timeout };
        let timeout = options.timeout.unwrap_or(default);
        Policy {
            repeatable,
            deadline: self.now() + timeout,
            attempt: config.attempt_timeout,
            retries: config.retries,
        }
    }

    /// Waits for an attempt no longer than `patience`, and tells the Connection actor when an
    /// endpoint deserves a look.
    pub(crate) async fn patiently<A>(
        &self,
        link: &Arc<Link>,
        repeatable: bool,
        patience: Duration,
        attempt: impl Future<Output = Result<A, Failed>>,
    ) -> Result<A, Failed> {
        let before = link.before();
        let sent_at = self.now();
        let mut under_way = UnderWay { transport: self, link, since: sent_at, over: false };
        let first = patience.min(self.shared.config.attempt_timeout);
        // The attempt ends with this block: what it did not send by then it never will.
        let result = {
            let mut attempt = pin!(attempt);
            let mut result = self.within(first, attempt.as_mut()).await;
            // Where there is no connection yet another member is the better bet.
            if result.is_none() && patience > first && link.was_open_since(&before) {
                self.report(link, Report::Slow);
                result = self.within(patience - first, attempt.as_mut()).await;
            }
            result
        };
        under_way.over = true;
        match result {
            Some(Ok(answer)) => {
                link.answered(self.now());
                Ok(answer)
            }
            Some(Err(failed)) => {
                match failed.origin {
                    Origin::Server => link.answered(self.now()),
                    Origin::NotSent | Origin::Connection => self.report(link, Report::Failed),
                    Origin::Garbled => self.report(link, Report::Garbled),
                }
                Err(failed)
            }
            None => {
                // A member that is cut off from the others answers some calls, and not all; and a
                // caller in a hurry proves nothing.
                let fair = patience >= self.shared.config.attempt_timeout;
                let silent = fair && !link.answered_since(sent_at);
                self.report(link, if silent { Report::Silent } else { Report::Slow });
                let (origin, missing) = match link.was_open_since(&before) {
                    true => (Origin::Connection, "answer"),
                    false => (Origin::NotSent, "connection"),
                };
                let status = Status::deadline_exceeded(format!("no {missing} within {patience:?}"));
                let verdict = classify(repeatable, status::failure(&status, origin));
                Err(Failed { status, origin, verdict })
            }
        }
    }

    pub(crate) async fn within<F: Future + Unpin>(
        &self,
        span: Duration,
        work: F,
    ) -> Option<F::Output> {
        let timer = pin!(self.sleep(span));
        match future::select(work, timer).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(((), _)) => None,
        }
    }

    /// One attempt on one endpoint, without a deadline of its own.
    pub(crate) async fn attempt<Q, A>(
        &self,
        link: &Link,
        rpc: &'static Rpc<Q, A>,
        request: Q,
        token: &Token,
        options: &CallOptions,
    ) -> Result<A, Failed>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let before = link.before();
        let token = token.value.as_ref().filter(|_| !rpc.anonymous);
        let request = self.dress(tonic::Request::new(request), token, options);
        let result = match link.grpc(&self.shared.config).await {
            Ok(mut grpc) => grpc.unary(request, rpc.path(), Protobuf::default()).await,
            Err(status) => Err(status),
        };
        result.map(tonic::Response::into_inner).map_err(|status| {
            let origin = match status::origin(&status) {
                Origin::Connection if !link.was_open_since(&before) => Origin::NotSent,
                origin => origin,
            };
            let verdict = classify(rpc.repeatable, status::failure(&status, origin));
            Failed { status, origin, verdict }
        })
    }

    /// An attempt that goes on, within limits, though nobody waits for its answer any more.
    async fn attempt_to_the_end<Q, A>(
        &self,
        link: &Arc<Link>,
        rpc: &'static Rpc<Q, A>,
        request: Q,
        token: &Token,
        options: &CallOptions,
    ) -> Result<A, Failed>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (this, link) = (self.clone(), Arc::clone(link));
        let (token, options) = (token.clone(), options.clone());
        self.shared.handle.spawn(async move {
            let attempt = pin!(this.attempt(&link, rpc, request, &token, &options));
            if let Some(answer) = this.within(FORGOTTEN, attempt).await {
                // Mostly somebody still waits.
                let _ = tell.send(answer);
            }
        });
        told.await.unwrap_or_else(|_| {
            let status = Status::cancelled("the client is closed");
            let (origin, repeatable) = (Origin::Connection, rpc.repeatable);
            let verdict = classify(repeatable, status::failure(&status, origin));
            Err(Failed { status, origin, verdict })
        })
    }

    fn dress<Q>(
        &self,
        mut request: tonic::Request<Q>,
        token: Option<&MetadataValue<Ascii>>,
        options: &CallOptions,
    ) -> tonic::Request<Q> {
        let metadata = request.metadata_mut();
        metadata.insert("client-api-version", MetadataValue::from_static(API_VERSION));
        if let Some(token) = token {
            metadata.insert("token", token.clone());
        }
        if options.require_leader {
            metadata.insert("hasleader", MetadataValue::from_static("true"));
        }
        request
    }

    /// Has the token replaced, unless somebody else already had.
    pub(crate) async fn refresh_token(&self, what: &'static str, stale: u64) -> Result<()> {
        let (reply, refreshed) = tokio::sync::oneshot::channel();
        self.shared.connection.do_send(RefreshToken { stale, reply });
        refreshed.await.map_err(|_| self.gone(what))?
    }

    /// The error of a call whose actor is gone: closed on purpose, or dead.
    pub(crate) fn gone(&self, what: &'static str) -> Error {
        if self.shared.closing.is_closing() { Error::closed(what) } else { Error::actor_gone(what) }
    }

    pub(crate) fn report(&self, link: &Arc<Link>, report: Report) {
        self.shared.connection.do_send(Heard { link: Arc::clone(link), report });
    }

    fn give_up<Q, A>(&self, rpc: &Rpc<Q, A>, link: &Link, failed: Failed) -> Error {
        let Failed { status, origin, verdict } = failed;
        // A closing client cuts its own connections.
        if self.shared.closing.is_closing() && origin != Origin::Server {
            return if verdict == Verdict::Indeterminate && !rpc.repeatable {
                Error::new(ErrorKind::Indeterminate, rpc.name, "the client was closed")
            } else {
                Error::closed(rpc.name)
            };
        }
        if (rpc.repeatable || rpc.waits) && origin == Origin::Connection && timed_out(&status) {
            let text = status.message().to_owned();
            let error = Error::new(ErrorKind::Timeout, rpc.name, text);
            let error = error.because(status).at(link.name());
            // It may be its turn in this very moment.
            return if rpc.waits { error.unsure() } else { error };
        }
        status::error(rpc.name, status, origin, verdict, rpc.repeatable, link)
    }
}

/// Whether the status is our own, made when nothing came in time: all others have a source.
fn timed_out(status: &Status) -> bool {
    std::error::Error::source(status).is_none()
}

fn check_size(what: &'static str, request: &impl Message, limit: usize) -> Result<()> {
    let size = request.encoded_len();
    if size > limit {
        let rule = format!("a request of {size} bytes is above the send limit of {limit} bytes");
        return Err(Error::invalid(what, rule));
    }
    Ok(())
}

/// Whether an answer shows that the endpoint can serve: a refusal does, no leader does not.
pub(crate) fn shows_health(failed: &Failed) -> bool {
    failed.origin == Origin::Server
        && failed.verdict != Verdict::Again
        && EtcdError::from_text(failed.status.message()) != Some(EtcdError::NoLeader)
}
