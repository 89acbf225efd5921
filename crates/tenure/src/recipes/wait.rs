//! Waiting until something is open.

use std::{
    fmt,
    future::{IntoFuture, pending},
    pin::pin,
    time::Duration,
};

use futures::future::{self, BoxFuture, Either};
use tenure_core::KeyRange;

use super::follow::{Follow, Seen};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    session::Session,
};

/// Whether what was seen is what is waited for.
type Open = Box<dyn FnMut(Seen) -> Result<bool> + Send + Sync>;

/// Waits until a barrier or a latch is open. Begins when it is awaited.
///
/// Without a limit it waits for as long as the client lives, through lost connections and
/// compactions. Dropping it ends the waiting, and leaves nothing behind.
#[must_use = "nobody waits until it is awaited"]
pub struct Wait {
    what: &'static str,
    client: Client,
    range: Result<KeyRange>,
    open: Open,
    timeout: Option<Duration>,
    session: Option<Session>,
}

impl Wait {
    pub(super) fn new(
        what: &'static str,
        client: &Client,
        range: Result<KeyRange>,
        open: impl FnMut(Seen) -> Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let (client, open) = (client.clone(), Box::new(open));
        Self { what, client, range, open, timeout: None, session: None }
    }

    /// How long to wait at most; then it fails with [`ErrorKind::Timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits only while this session is held; then it fails with [`ErrorKind::Lost`].
    pub fn session(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    async fn run(self) -> Result<()> {
        let Self { what, client, range, mut open, timeout, session } = self;
        let range = range?;
        let opened = pin!(async {
            let mut follow = Follow::new(&client, range);
            while !open(follow.next().await?)? {}
            Ok(())
        });
        let lost = pin!(async {
            match &session {
                Some(session) => Error::lost(what, session.lost().await),
                None => pending().await,
            }
        });
        let late = pin!(async {
            let Some(timeout) = timeout else { return pending().await };
            client.sleep(timeout).await;
            Error::new(ErrorKind::Timeout, what, format!("not open within {timeout:?}"))
        });
        // A session that is lost already counts before a barrier that is open already.
        match future::select(future::select(lost, late), opened).await {
            Either::Left((Either::Left((error, _)) | Either::Right((error, _)), _)) => Err(error),
            Either::Right((opened, _)) => opened,
        }
    }
}

impl IntoFuture for Wait {
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("for", &self.what).finish_non_exhaustive()
    }
}
