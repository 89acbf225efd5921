use bytes::Bytes;
use tenure::wire::v3lockpb::{
    LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    Answer, Services,
    contenders::{Place, delete, unknown},
};
use crate::{node::Needs, store::check, token::Token};

#[tonic::async_trait]
impl Lock for Services {
    /// The recipe of Go, on the server's side: it waits until the lock is the lease's.
    async fn lock(&self, request: Request<LockRequest>) -> Answer<LockResponse> {
        let (metadata, _, request) = request.into_parts();
        let token = Token::of(&metadata);
        self.0.ready(&metadata, Needs::Quorum).await?;
        let mut place = Place::new(&self.0, &token, &request.name, request.lease)?;
        place.enter(Bytes::new())?;
        place.turn().await?;
        match place.stands()? {
            (header, true) => {
                Ok(Response::new(LockResponse { header: Some(header), key: place.key }))
            }
            (_, false) => Err(Status::unknown("mutex: session is expired")),
        }
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Answer<UnlockResponse> {
        let (metadata, _, request) = request.into_parts();
        let token = Token::of(&metadata);
        let delete = delete(&request.key);
        check::delete_range(&delete).map_err(unknown)?;
        self.0.ready(&metadata, Needs::Quorum).await?;
        let deleted = self.0.lock().delete_range(&token, &delete, Instant::now());
        let header = deleted.map_err(unknown)?.header;
        Ok(Response::new(UnlockResponse { header }))
    }
}
