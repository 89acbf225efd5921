use std::{
    convert::Infallible,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::{
    FutureExt,
    future::{BoxFuture, Either, ready},
};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use tenure::{
    Code as TenureCode,
    wire::{
        etcdserverpb::{
            auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
            lease_server::LeaseServer, maintenance_server::MaintenanceServer,
            watch_server::WatchServer,
        },
        v3electionpb::election_server::ElectionServer,
        v3lockpb::lock_server::LockServer,
    },
};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service;

use super::connections::Cut;
use crate::{
    embedded::Shared,
    hurt::Harm,
    node::Node,
    services::Services,
    tap::{Recorded, revision_of},
};

/// Finds the service that a request is for.
pub(crate) struct Router {
    node: Arc<Node>,
    kv: KvServer<Services>,
    watch: WatchServer<Services>,
    lease: LeaseServer<Services>,
    cluster: ClusterServer<Services>,
    maintenance: MaintenanceServer<Services>,
    auth: AuthServer<Services>,
    lock: LockServer<Services>,
    election: ElectionServer<Services>,
    health: HealthServer<tonic_health::server::HealthService>,
}

impl Router {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let services = Arc::new(Services(Arc::clone(&node)));
        let most = node.settings().max_message();
        let each = || Arc::clone(&services);
        // etcd's health service says so too, whatever the quorum.
        let reporter = tonic_health::server::HealthReporter::new();
        let health = tonic_health::server::HealthService::from_health_reporter(reporter);
        Self {
            kv: KvServer::from_arc(each()).max_decoding_message_size(most),
            watch: WatchServer::from_arc(each()).max_decoding_message_size(most),
            lease: LeaseServer::from_arc(each()).max_decoding_message_size(most),
            cluster: ClusterServer::from_arc(each()).max_decoding_message_size(most),
            maintenance: MaintenanceServer::from_arc(each()).max_decoding_message_size(most),
            auth: AuthServer::from_arc(each()).max_decoding_message_size(most),
            lock: LockServer::from_arc(each()).max_decoding_message_size(most),
            election: ElectionServer::from_arc(each()).max_decoding_message_size(most),
            health: HealthServer::new(health),
            node,
        }
    }

    pub(crate) fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node)
    }

    /// Answers a request, if nobody wants it to go wrong.
    ///
    /// Where nothing is done to it, what waits for the answer is small: each stream has one.
    pub(crate) fn answer<B>(
        self: Arc<Self>,
        shared: &Weak<Shared>,
        cut: &Cut,
        request: Request<B>,
    ) -> impl Future<Output = Response<Body>> + Send + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let Some(shared) = shared.upgrade() else {
            let stopped = Status::from(crate::refusal::STOPPED).into_http();
            return Either::Right(ready(stopped).boxed());
        };
        let path = request.uri().path();
        shared.counts.count(path);
        let harm = shared.faults.strike(path);
        let streams = is_stream(path);
        if harm.is_none() && !streams && !shared.taps.are_open() {
            return Either::Left(self.route(request));
        }
        Either::Right(self.treat(shared, cut.clone(), harm, request).boxed())
    }

    /// Answers a request that goes wrong or is recorded, or has many answers.
    async fn treat<B>(
        self: Arc<Self>,
        shared: Arc<Shared>,
        cut: Cut,
        harm: Option<Harm>,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let streams = is_stream(request.uri().path());
        match &harm {
            Some(Harm::Delay(time)) if streams => tokio::time::sleep(*time).await,
            Some(Harm::Delay(time)) => return self.late(shared, *time, request).await,
            Some(Harm::Refuse(code, text)) => {
                return Status::new(Code::from(*code as i32), text).into_http();
            }
            Some(Harm::LoseRequest) => {
                cut.now();
                return std::future::pending().await;
            }
            Some(Harm::Ignore) => return std::future::pending().await,
            Some(Harm::LoseAnswer | Harm::Silence) | None => {}
        }
        let answer = match streams {
            true => self.route(request).await,
            false => self.carry_out(&shared, request).await,
        };
        match harm {
            Some(Harm::LoseAnswer) => {
                cut.now();
                std::future::pending().await
            }
            Some(Harm::Silence) => std::future::pending().await,
            _ if streams => answer.map(|body| shared.streams.expose(body)),
            _ => answer,
        }
    }

    /// Carries a call out after so long, though nobody may wait for its answer any more.
    async fn late<B>(
        self: Arc<Self>,
        shared: Arc<Shared>,
        time: Duration,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let request = match self.whole(request).await {
            Ok(request) => request,
            Err(status) => return status.into_http(),
        };
        let late = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            self.carry_out(&shared, request).await
        });
        late.await.unwrap_or_else(|_| Status::from(crate::refusal::STOPPED).into_http())
    }

    async fn carry_out<B>(&self, shared: &Shared, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        match shared.taps.are_open() {
            true => self.recorded(shared, request).await,
            false => self.route(request).await,
        }
    }

    /// The request once all of it is there.
    async fn whole<B>(&self, request: Request<B>) -> Result<Request<Full<Bytes>>, Status>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let most = self.node.settings().max_message().saturating_add(FRAME);
        match Limited::new(body, most).collect().await {
            Ok(body) => Ok(Request::from_parts(head, Full::new(body.to_bytes()))),
            Err(_) => Err(Status::resource_exhausted("the request is too large, or broke off")),
        }
    }

    fn route<B>(&self, request: Request<B>) -> impl Future<Output = Response<Body>> + Send + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let uri = request.uri().clone();
        let service = parts(uri.path()).0;
        let call: BoxFuture<'static, Result<_, Infallible>> = match service {
            "etcdserverpb.KV" => self.kv.clone().call(request),
            "etcdserverpb.Watch" => self.watch.clone().call(request),
            "etcdserverpb.Lease" => self.lease.clone().call(request),
            "etcdserverpb.Cluster" => self.cluster.clone().call(request),
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request),
            "etcdserverpb.Auth" => self.auth.clone().call(request),
            "v3lockpb.Lock" => self.lock.clone().call(request),
            "v3electionpb.Election" => self.election.clone().call(request),
            "grpc.health.v1.Health" => self.health.clone().call(request),
            _ => {
                let unknown = Status::unimplemented(format!("unknown service {service}"));
                ready(Ok(unknown.into_http())).boxed()
            }
        };
        async move {
            let Ok(answer) = call.await;
            as_etcd_says(answer, &uri)
        }
    }

    /// Keeps what is asked and answered.
    async fn recorded<B>(&self, shared: &Shared, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let (at, begun) = (shared.taps.since_start(), Instant::now());
        let path = request.uri().path().to_owned();
        let request = match self.whole(request).await {
            Ok(request) => request,
            Err(status) => return status.into_http(),
        };
        let body = request.body().clone().into_inner().unwrap_or_default();
        let (head, answer) = self.route(request).await.into_parts();
        let (answer, trailers) = match answer.collect().await {
            Ok(collected) => {
                let trailers = collected.trailers().cloned();
                (collected.to_bytes(), trailers)
            }
            Err(status) => return status.into_http(),
        };
        let message = unframed(answer.clone());
        let said = match status_of(trailers.as_ref().unwrap_or(&head.headers)) {
            Some(status) => Some(Err(status)),
            None => message.clone().map(Ok),
        };
        shared.taps.record(&Recorded {
            path,
            request: unframed(body).unwrap_or_default(),
            revision: message.and_then(revision_of),
            answer: said,
            at,
            took: begun.elapsed(),
        });
        let frames = [
            Some(Ok(http_body::Frame::data(answer))),
            trailers.map(|trailers| Ok::<_, Status>(http_body::Frame::trailers(trailers))),
        ];
        let stream = futures::stream::iter(frames.into_iter().flatten());
        Response::from_parts(head, Body::new(http_body_util::StreamBody::new(stream)))
    }
}

/// The service and the method of a path.
fn parts(path: &str) -> (&str, &str) {
    path.trim_start_matches('/').split_once('/').unwrap_or((path, ""))
}

fn is_stream(path: &str) -> bool {
    matches!(
        path,
        "/etcdserverpb.Watch/Watch"
            | "/etcdserverpb.Lease/LeaseKeepAlive"
            | "/v3electionpb.Election/Observe"
            | "/grpc.health.v1.Health/Watch"
    )
}

/// tonic's own refusals, as etcd's gRPC has them.
fn as_etcd_says(answer: Response<Body>, uri: &Uri) -> Response<Body> {
    let Some((code, text)) = status_of(answer.headers()) else { return answer };
    match code {
        TenureCode::Unimplemented if text.is_empty() => {
            let (service, method) = parts(uri.path());
            let text = format!("unknown method {method} for service {service}");
            Status::unimplemented(text).into_http()
        }
        // A message above the limit: tonic names its size, and then the limit.
        TenureCode::OutOfRange if !text.starts_with("etcdserver:") => {
            let mut sizes = text.split(|c: char| !c.is_ascii_digit()).filter(|it| !it.is_empty());
            let (size, most) = (sizes.next().unwrap_or("?"), sizes.next().unwrap_or("?"));
            let text = format!("grpc: received message larger than max ({size} vs. {most})");
            Status::resource_exhausted(text).into_http()
        }
        _ => answer,
    }
}

/// The code and the text of a status that is no success.
fn status_of(headers: &HeaderMap) -> Option<(TenureCode, String)> {
    let status = Status::from_header_map(headers)?;
    let code = crate::refusal::plain(status.code());
    (code != TenureCode::Ok).then(|| (code, status.message().to_owned()))
}

/// What gRPC puts before a message.
const FRAME: usize = 5;

/// The message in a gRPC frame.
fn unframed(mut body: Bytes) -> Option<Bytes> {
    if body.len() < FRAME {
        return None;
    }
    body.advance(FRAME);
    Some(body)
}
