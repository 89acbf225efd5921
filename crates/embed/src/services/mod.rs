//! etcd's gRPC services, over the node.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    node::{Needs, Node, State},
    refusal::Refusal,
    token::Token,
};

mod auth;
mod cluster;
mod election;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod queue;
mod watch;

/// One node, as all services see it.
#[derive(Clone)]
pub(crate) struct Services(pub(crate) Arc<Node>);

/// What a call is answered with, or why not.
type Answer<T> = Result<Response<T>, Status>;
/// The answers of a call that has many.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Services {
    /// Carries a request out, all of it at once, when the cluster can.
    async fn serve<Q, A>(
        &self,
        request: Request<Q>,
        needs: Needs,
        run: impl FnOnce(&mut State, &Token, Q, Instant) -> Result<A, Refusal>,
    ) -> Answer<A> {
        let (metadata, _, request) = request.into_parts();
        let token = Token::of(&metadata);
        self.0.ready(&metadata, needs).await?;
        let answer = run(&mut self.0.lock(), &token, request, Instant::now())?;
        Ok(Response::new(answer))
    }
}
