use std::sync::Arc;

use futures::stream;
use tenure::wire::etcdserverpb::{WatchRequest, WatchResponse, watch_server::Watch};
use tonic::{Request, Response, Streaming};

use super::{Answer, Answers, Services};
use crate::{
    node::{Needs, requires_leader},
    refusal,
    token::Token,
    watch::{Queue, WatchStream},
};

#[tonic::async_trait]
impl Watch for Services {
    type WatchStream = Answers<WatchResponse>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Answer<Self::WatchStream> {
        let (metadata, _, requests) = request.into_parts();
        self.0.ready(&metadata, Needs::Nothing).await?;
        let queue = Arc::<Queue>::default();
        let token = Token::of(&metadata);
        let changes = WatchStream::new(Arc::clone(&self.0), queue, token, requests);
        if !requires_leader(&metadata) {
            return Ok(Response::new(Box::pin(changes)));
        }
        let node = Arc::clone(&self.0);
        let leaderless = async move {
            node.leaderless().await;
            Err(refusal::NO_LEADER.into())
        };
        let end = stream::once(leaderless);
        Ok(Response::new(Box::pin(stream::select(changes, end))))
    }
}
