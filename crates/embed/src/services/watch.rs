use std::sync::Arc;

use tenure::wire::etcdserverpb::{WatchRequest, WatchResponse, watch_server::Watch};
use tonic::{Request, Response, Streaming};

use super::{Answer, Answers, Services};
use crate::{node::Needs, token::Token, watch::WatchStream};

#[tonic::async_trait]
impl Watch for Services {
    type WatchStream = Answers<WatchResponse>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Answer<Self::WatchStream> {
        let (metadata, _, requests) = request.into_parts();
        self.0.ready(&metadata, Needs::Nothing).await?;
        let token = Token::of(&metadata);
        let changes = WatchStream::new(Arc::clone(&self.0), token, requests);
        Ok(Response::new(self.led(&metadata, changes)))
    }
}
