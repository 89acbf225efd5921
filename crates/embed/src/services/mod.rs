//! etcd's gRPC services, over the node.

use std::{future::ready, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    node::{Needs, Node, State, requires_leader},
    refusal::{self, Refusal},
    token::Token,
};

mod auth;
mod cluster;
mod contenders;
mod election;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod watch;

/// One node, as all services see it.
#[derive(Clone)]
pub(crate) struct Services(pub(crate) Arc<Node>);

/// What a call is answered with, or why not.
type Answer<T> = Result<Response<T>, Status>;
/// The answers of a call that has many.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Services {
    /// A stream of answers, which ends when there is no leader for long, if it requires one.
    fn led<T: Send + 'static>(
        &self,
        metadata: &MetadataMap,
        answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answers<T> {
        // Whoever sends them may ask once more after the last.
        let answers = answers.fuse();
        if !requires_leader(metadata) {
            return Box::pin(answers);
        }
        let node = Arc::clone(&self.0);
        let leaderless = async move {
            node.leaderless().await;
            Some(Err(refusal::NO_LEADER.into()))
        };
        // It ends with the answers, or with this.
        let ends = answers.map(Some).chain(stream::once(async { None }));
        let all = stream::select(ends, stream::once(leaderless));
        Box::pin(all.take_while(|answer| ready(answer.is_some())).filter_map(ready).fuse())
    }

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
        let mut state = self.0.lock();
        state.is_running()?;
        let answer = run(&mut state, &token, request, Instant::now())?;
        Ok(Response::new(answer))
    }
}
