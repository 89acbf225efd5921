use tenure::wire::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
    maintenance_server::Maintenance,
};
use tonic::{Code, Request, Status, metadata::MetadataValue};

use super::{Answer, Answers, Services};
use crate::{
    node::{Needs, State},
    refusal::{self, Refusal},
    token::Token,
};

/// The version of etcd that this behaves as, and its own.
const VERSION: &str = concat!("3.5.30+embedded.", env!("CARGO_PKG_VERSION"));

const BAD_TRANSFEREE: Refusal =
    Refusal::new(Code::FailedPrecondition, "etcdserver: bad leader transferee");
const BAD_DOWNGRADE: Refusal =
    Refusal::new(Code::InvalidArgument, "etcdserver: invalid downgrade target version");

#[tonic::async_trait]
impl Maintenance for Services {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Answer<AlarmResponse> {
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            let caller = state.caller(token, now)?;
            state.auth.may_alarm(&caller, &request)?;
            state.agree();
            let alarms = state.alarms.handle(&request);
            Ok(AlarmResponse { header: Some(state.header()), alarms })
        })
        .await
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let node = &self.0;
        self.serve(request, Needs::Nothing, |state, token, _, now| {
            let caller = state.caller(token, now)?;
            state.auth.may_administer(&caller)?;
            let header = state.header();
            let led = node.has_leader();
            let mut errors: Vec<String> = Vec::new();
            if !led {
                errors.push(refusal::NO_LEADER.text.into_owned());
            }
            errors.extend(state.alarms.all().iter().map(|alarm| {
                format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name())
            }));
            Ok(StatusResponse {
                version: VERSION.to_owned(),
                db_size: i64::try_from(state.store.size()).unwrap_or(i64::MAX),
                db_size_in_use: i64::try_from(state.store.size()).unwrap_or(i64::MAX),
                leader: if led { node.member() } else { 0 },
                raft_index: state.agreed(),
                raft_applied_index: state.agreed(),
                raft_term: header.raft_term,
                errors,
                header: Some(header),
                ..StatusResponse::default()
            })
        })
        .await
    }

    async fn defragment(&self, request: Request<DefragmentRequest>) -> Answer<DefragmentResponse> {
        let mut answer = self
            .serve(request, Needs::Nothing, |state, token, _, now| {
                state.auth.may_maintain(token.as_deref(), now)?;
                Ok(DefragmentResponse { header: None })
            })
            .await?;
        let truth = MetadataValue::from_static("nothing to do: data in memory");
        answer.metadata_mut().insert("x-tenure-embedded", truth);
        Ok(answer)
    }

    async fn hash(&self, request: Request<HashRequest>) -> Answer<HashResponse> {
        self.serve(request, Needs::Nothing, |state, token, _, now| {
            state.auth.may_maintain(token.as_deref(), now)?;
            let hash = state.store.hash(0)?.hash;
            Ok(HashResponse { header: Some(state.header()), hash })
        })
        .await
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Answer<HashKvResponse> {
        self.serve(request, Needs::Nothing, |state, token, request, now| {
            state.auth.may_maintain(token.as_deref(), now)?;
            let hash = state.store.hash(request.revision)?;
            Ok(HashKvResponse {
                header: Some(state.header()),
                hash: hash.hash,
                compact_revision: hash.compacted,
                ..HashKvResponse::default()
            })
        })
        .await
    }

    type SnapshotStream = Answers<SnapshotResponse>;

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Answer<Self::SnapshotStream> {
        let allowed = |state: &mut State, token: &Token, _, now| {
            state.auth.may_maintain(token.as_deref(), now)
        };
        self.serve(request, Needs::Nothing, allowed).await?;
        Err(Status::unimplemented(
            "the embedded server has no file that a snapshot could be of: its data are in memory",
        ))
    }

    async fn move_leader(&self, request: Request<MoveLeaderRequest>) -> Answer<MoveLeaderResponse> {
        let this = self.0.member();
        self.serve(request, Needs::Nothing, |state, token, request, now| {
            let caller = state.caller(token, now)?;
            state.auth.may_administer(&caller)?;
            match request.target_id == this {
                true => Ok(MoveLeaderResponse { header: Some(state.header()) }),
                false => Err(BAD_TRANSFEREE),
            }
        })
        .await
    }

    async fn downgrade(&self, request: Request<DowngradeRequest>) -> Answer<DowngradeResponse> {
        self.serve(request, Needs::Quorum, |state, token, _, now| {
            let caller = state.caller(token, now)?;
            state.auth.may_administer(&caller)?;
            Err(BAD_DOWNGRADE)
        })
        .await
    }
}
