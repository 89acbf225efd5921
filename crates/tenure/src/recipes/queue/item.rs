//! Items that are taken for good.

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tenure_core::Revision;
use tokio::sync::oneshot;

use super::{
    append::Draft,
    layout::{Found, failures_of, priority_of},
    receipts::Applied,
    take::TAKE,
    work::Work,
};
use crate::{
    error::Result,
    ops::{Compare, Delete, Json, Txn},
};

/// An item that was taken off a queue, and is nobody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueItem {
    /// The key that it had.
    pub key: Bytes,
    /// What was put into the queue.
    pub value: Bytes,
    /// When it was put, of all items of the queue.
    pub revision: Revision,
}

impl QueueItem {
    /// The value, of one that was put as [`Json`].
    ///
    /// # Errors
    ///
    /// Those of [`Json::read`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        Json::read(&self.value).map(|Json(value)| value)
    }
}

/// An item that nobody has in hand yet: dropped, it goes back to the end of the queue.
pub(super) struct InTransit {
    work: Work,
    found: Option<Found>,
}

impl InTransit {
    pub(super) fn hand_over(mut self) -> Option<QueueItem> {
        let Found { key, value, revision, .. } = self.found.take()?;
        Some(QueueItem { key, value, revision })
    }
}

impl Drop for InTransit {
    fn drop(&mut self) {
        let Some(found) = self.found.take() else { return };
        let work = self.work.clone();
        let client = self.work.client().clone();
        client.spawn(async move {
            let (priority, failures) = (priority_of(&found.name), failures_of(&found.name));
            let item = Draft { priority, failures, value: found.value };
            if let Err(error) = work.append("put back", &item, None).await {
                tracing::warn!(key = ?found.key, %error, "an item nobody waits for is lost");
            }
        });
    }
}

/// Deletes the item. It is known who did it, though answers are lost: the receipt says so.
pub(super) fn take_for_good(
    work: Work,
    found: Found,
) -> BoxFuture<'static, Result<Option<InTransit>>> {
    Box::pin(async move {
        let client = work.client().clone();
        let (reply, answer) = oneshot::channel();
        // To its end, whoever waits.
        client.spawn(async move {
            // Of whoever is gone the item is put back.
            let _ = reply.send(delete(work, found).await);
        });
        answer.await.unwrap_or_else(|_| Err(client.gone(TAKE)))
    })
}

async fn delete(work: Work, found: Found) -> Result<Option<InTransit>> {
    let life = work.session().living(TAKE).await?;
    let unchanged = Compare::mod_revision(found.key.clone()).equal(found.revision);
    let txn = Txn::new().when([unchanged]).and_then([Delete::new(found.key.clone())]);
    Ok(match work.base.receipts.apply(TAKE, work.session(), &life, &txn).await? {
        Applied::Done(_) => Some(InTransit { work, found: Some(found) }),
        Applied::Refused(..) => None,
    })
}
