use tenure::wire::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, cluster_server::Cluster,
};
use tonic::{Code, Request};

use super::{Answer, Services};
use crate::{node::Needs, refusal::Refusal};

const MEMBER_NOT_FOUND: Refusal = Refusal::new(Code::NotFound, "etcdserver: member not found");
const BAD_URLS: Refusal =
    Refusal::new(Code::InvalidArgument, "etcdserver: given member URLs are invalid");
/// This member is all there ever is.
const NOT_ENOUGH_STARTED: Refusal = Refusal::new(
    Code::FailedPrecondition,
    "etcdserver: re-configuration failed due to not enough started members",
);
const NOT_A_LEARNER: Refusal =
    Refusal::new(Code::FailedPrecondition, "etcdserver: can only promote a learner member");

#[tonic::async_trait]
impl Cluster for Services {
    async fn member_add(&self, request: Request<MemberAddRequest>) -> Answer<MemberAddResponse> {
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            if !are_urls(&request.peer_ur_ls) {
                return Err(BAD_URLS);
            }
            let caller = state.caller(token, now)?;
            state.auth.may_administer(&caller)?;
            Err(NOT_ENOUGH_STARTED)
        })
        .await
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Answer<MemberRemoveResponse> {
        let this = self.0.member();
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            let caller = state.caller(token, now)?;
            state.auth.may_administer(&caller)?;
            Err(if request.id == this { NOT_ENOUGH_STARTED } else { MEMBER_NOT_FOUND })
        })
        .await
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Answer<MemberUpdateResponse> {
        let this = self.0.member();
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            let caller = state.caller(token, now)?;
            state.auth.may_administer(&caller)?;
            Err(match request.id == this {
                true if are_urls(&request.peer_ur_ls) => NOT_ENOUGH_STARTED,
                true => BAD_URLS,
                false => MEMBER_NOT_FOUND,
            })
        })
        .await
    }

    async fn member_list(&self, request: Request<MemberListRequest>) -> Answer<MemberListResponse> {
        let needs = if request.get_ref().linearizable { Needs::Quorum } else { Needs::Nothing };
        let node = &self.0;
        self.serve(request, needs, |state, token, _, now| {
            let caller = state.caller(token, now)?;
            state.auth.may_list_members(&caller)?;
            let member = Member {
                id: node.member(),
                name: node.settings().name.clone(),
                client_ur_ls: node.settings().advertised.clone(),
                ..Member::default()
            };
            // The list has no revision, in etcd neither.
            Ok(MemberListResponse { header: Some(state.header_at(0)), members: vec![member] })
        })
        .await
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Answer<MemberPromoteResponse> {
        let this = self.0.member();
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            let caller = state.caller(token, now)?;
            state.auth.may_administer(&caller)?;
            Err(if request.id == this { NOT_A_LEARNER } else { MEMBER_NOT_FOUND })
        })
        .await
    }
}

fn are_urls(urls: &[String]) -> bool {
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    !urls.is_empty() && urls.iter().all(is_url)
}
