use std::sync::Arc;

use futures::{StreamExt, stream};
use tenure::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, lease_server::Lease,
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{Answer, Answers, Services};
use crate::{node::Needs, refusal, token::Token};

#[tonic::async_trait]
impl Lease for Services {
    async fn lease_grant(&self, request: Request<LeaseGrantRequest>) -> Answer<LeaseGrantResponse> {
        let granted = self
            .serve(request, Needs::Quorum, |state, token, request, now| {
                state.lease_grant(token, &request, now)
            })
            .await;
        granted.map_err(late)
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Answer<LeaseRevokeResponse> {
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            state.lease_revoke(token, request.id, now)
        })
        .await
    }

    type LeaseKeepAliveStream = Answers<LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        let (metadata, _, requests) = request.into_parts();
        let token = Token::of(&metadata);
        self.0.ready(&metadata, Needs::Nothing).await?;
        let node = Arc::clone(&self.0);
        let answers = stream::unfold(Some(requests), move |requests| {
            let (node, token) = (Arc::clone(&node), token.clone());
            async move {
                let mut requests = requests?;
                let request = match requests.next().await? {
                    Ok(request) => request,
                    Err(error) => return Some((Err(error), None)),
                };
                // Only a leader renews; a stream that waited for one in vain ends.
                if node.ready(&MetadataMap::new(), Needs::Quorum).await.is_err() {
                    return Some((Err(refusal::NO_LEADER.into()), None));
                }
                let renewed = node.lock().lease_keep_alive(&token, request.id, Instant::now());
                match renewed {
                    Ok(answer) => Some((Ok(answer), Some(requests))),
                    Err(refusal) => Some((Err(refusal.into()), None)),
                }
            }
        });
        Ok(Response::new(self.led(&metadata, answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Answer<LeaseTimeToLiveResponse> {
        self.serve(request, Needs::Quorum, |state, token, request, now| {
            state.lease_time_to_live(token, &request, now)
        })
        .await
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Answer<LeaseLeasesResponse> {
        self.serve(request, Needs::Nothing, |state, token, _, now| state.lease_leases(token, now))
            .await
    }
}

/// A grant that waited for a leader in vain has a status of its own in etcd.
fn late(status: Status) -> Status {
    match status.message() == refusal::TIMED_OUT.text {
        true => Status::new(Code::DeadlineExceeded, "context deadline exceeded"),
        false => status,
    }
}
