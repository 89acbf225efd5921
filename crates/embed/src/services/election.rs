use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tenure::wire::{
    etcdserverpb::{PutRequest, ResponseHeader, WatchCreateRequest, request_op},
    mvccpb::KeyValue,
    v3electionpb::{
        CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse,
        ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse,
        election_server::Election,
    },
};
use tonic::{Request, Response, Status};

use super::{
    Answer, Answers, Services,
    contenders::{Place, delete, end_of, oldest, prefix, watch, while_created_at},
};
use crate::{
    node::{Needs, Node},
    token::Token,
};

#[tonic::async_trait]
impl Election for Services {
    /// The recipe of Go, on the server's side: it waits until the lease's key leads.
    async fn campaign(&self, request: Request<CampaignRequest>) -> Answer<CampaignResponse> {
        let (metadata, _, request) = request.into_parts();
        let token = Token::of(&metadata);
        self.0.ready(&metadata, Needs::Quorum).await?;
        let mut place = Place::new(&self.0, &token, &request.name, request.lease)?;
        let (header, there) = place.enter(request.value.clone())?;
        let leader = LeaderKey {
            name: request.name,
            key: place.key.clone(),
            rev: place.created,
            lease: place.lease,
        };
        if there.is_some_and(|kv| kv.value != request.value) {
            proclaim(&self.0, &token, &leader, request.value)?;
        }
        place.turn().await?;
        Ok(Response::new(CampaignResponse { header: Some(header), leader: Some(leader) }))
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Answer<ProclaimResponse> {
        let (metadata, _, request) = request.into_parts();
        let token = Token::of(&metadata);
        self.0.ready(&metadata, Needs::Quorum).await?;
        let leader = request.leader.ok_or_else(no_leader_key)?;
        let header = proclaim(&self.0, &token, &leader, request.value)?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Answer<LeaderResponse> {
        let (metadata, _, request) = request.into_parts();
        self.0.ready(&metadata, Needs::Quorum).await?;
        match oldest(&self.0, &Token::of(&metadata), &prefix(&request.name))? {
            (header, Some(kv)) => Ok(Response::new(led(header, kv))),
            (_, None) => Err(Status::unknown("election: no leader")),
        }
    }

    type ObserveStream = Answers<LeaderResponse>;

    async fn observe(&self, request: Request<LeaderRequest>) -> Answer<Self::ObserveStream> {
        let (metadata, _, request) = request.into_parts();
        let token = Token::of(&metadata);
        self.0.ready(&metadata, Needs::Quorum).await?;
        let prefix = prefix(&request.name);
        let create = WatchCreateRequest {
            key: prefix.clone(),
            range_end: end_of(&prefix),
            ..WatchCreateRequest::default()
        };
        let observer = Observer {
            changes: Box::pin(watch(&self.0, &token, create)),
            node: Arc::clone(&self.0),
            token,
            prefix,
            told: None,
        };
        let leaders = stream::try_unfold(observer, |mut observer| async move {
            let leader = observer.next().await?;
            Ok(leader.map(|leader| (leader, observer)))
        });
        Ok(Response::new(self.led(&metadata, leaders)))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Answer<ResignResponse> {
        let (metadata, _, request) = request.into_parts();
        let token = Token::of(&metadata);
        self.0.ready(&metadata, Needs::Quorum).await?;
        let LeaderKey { key, rev, .. } = request.leader.ok_or_else(no_leader_key)?;
        let delete = request_op::Request::RequestDeleteRange(delete(&key));
        let answer = while_created_at(&self.0, &token, &key, rev, delete)?;
        Ok(Response::new(ResignResponse { header: answer.header }))
    }
}

/// Who leads, told again whenever that or the leader's value changes.
struct Observer {
    node: Arc<Node>,
    token: Token,
    prefix: Bytes,
    changes: Answers<tenure::wire::etcdserverpb::WatchResponse>,
    /// Which leader was told last, by the revision of its key and that of its value.
    told: Option<(i64, i64)>,
}

impl Observer {
    async fn next(&mut self) -> Result<Option<LeaderResponse>, Status> {
        loop {
            // The watch began before this read, so that no change comes between.
            let Some(_change) = self.changes.next().await.transpose()? else { return Ok(None) };
            let (header, leader) = oldest(&self.node, &self.token, &self.prefix)?;
            let Some(kv) = leader else { continue };
            let is = Some((kv.create_revision, kv.mod_revision));
            if std::mem::replace(&mut self.told, is) != is {
                return Ok(Some(led(header, kv)));
            }
        }
    }
}

fn led(header: ResponseHeader, kv: KeyValue) -> LeaderResponse {
    LeaderResponse { header: Some(header), kv: Some(kv) }
}

fn proclaim(
    node: &Node,
    token: &Token,
    leader: &LeaderKey,
    value: Bytes,
) -> Result<Option<ResponseHeader>, Status> {
    let LeaderKey { key, rev, lease, .. } = leader;
    let put = PutRequest { key: key.clone(), value, lease: *lease, ..PutRequest::default() };
    let put = request_op::Request::RequestPut(put);
    let answer = while_created_at(node, token, key, *rev, put)?;
    match answer.succeeded {
        true => Ok(answer.header),
        false => Err(Status::unknown("election: not leader")),
    }
}

fn no_leader_key() -> Status {
    Status::unknown("\"leader\" field must be provided")
}
