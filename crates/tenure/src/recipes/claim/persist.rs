use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tenure_core::backoff::Outage;

use crate::{
    client::Client,
    error::{Error, Result},
    ops::{CallOptions, Op, Txn, TxnResponse},
};

/// How long one copy of a recipe's transaction is waited for.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Sends a transaction until it is answered. It must be one that a second copy of does nothing.
///
/// `unanswered` becomes true, and stays so, once a copy may be under way that nobody waits for:
/// a server that stood still may apply it much later. That holds also if this future is dropped.
pub(crate) async fn persist(
    client: &Client,
    txn: &Txn,
    unanswered: &AtomicBool,
    mut go_on: impl FnMut(&Error) -> bool,
) -> Result<TxnResponse> {
    let mut outage: Option<Outage> = None;
    loop {
        let before = unanswered.swap(true, Ordering::AcqRel);
        let options = CallOptions::new().timeout(ATTEMPT);
        let answer = client.seam().execute(Op::from(txn.clone()), options).await;
        let error = match answer {
            Ok(answer) => {
                unanswered.store(before, Ordering::Release);
                return answer.into_txn().ok_or_else(crate::ops::other_kind);
            }
            Err(error) => error,
        };
        if !error.may_have_been_applied() {
            unanswered.store(before, Ordering::Release);
            if !error.is_retryable() {
                return Err(error);
            }
        }
        if !go_on(&error) {
            return Err(error);
        }
        tracing::debug!(%error, "a transaction is sent again");
        let now = client.now();
        let pause = outage.get_or_insert_with(|| Outage::new(now)).pause(now);
        client.sleep(pause).await;
    }
}
