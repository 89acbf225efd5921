//! Keys that outlive whoever puts them, put once.

use std::{sync::atomic::AtomicBool, time::Duration};

use tenure_core::EtcdError;

use super::claim::persist;
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::{Compare, Get, Op, OpResponse, Put, Txn, TxnResponse},
};

/// How long the transaction may be under way; longer than it is sent again.
const TTL: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(8);

/// Does `ops` if all `conditions` hold; whether they did. A second copy does nothing, and one that
/// comes late, when the keys may be gone again, does nothing either: each puts a mark with a lease
/// that is ended here.
pub(super) async fn once(
    client: &Client,
    conditions: impl IntoIterator<Item = Compare>,
    ops: impl IntoIterator<Item = Op>,
) -> Result<bool> {
    let lease = client.lease_grant(TTL).await?.id;
    let mark = format!("tenure/once/{lease}");
    let txn = Txn::new()
        .when(conditions.into_iter().chain([Compare::missing(mark.clone())]))
        .and_then(ops.into_iter().chain([Put::new(mark.clone(), "").lease(lease).into()]))
        .or_else([Get::new(mark)]);
    let unanswered = AtomicBool::new(false);
    let answer = persist_until_late(client, &txn, &unanswered).await;
    if answer.is_ok() {
        let revoking = client.clone();
        client.spawn(async move {
            // Else it ends with its TTL.
            let _ = revoking.lease_revoke(lease).await;
        });
    }
    let unanswered = unanswered.into_inner();
    let answer = match answer {
        // It took longer than the lease lives, and an earlier copy may have been applied.
        Err(error) if unanswered && error.etcd_error() == Some(EtcdError::LeaseNotFound) => {
            return Err(Error::new(ErrorKind::Indeterminate, "txn", "no answer in time"));
        }
        answer => answer?,
    };
    let mark = answer.responses.into_iter().filter_map(OpResponse::into_get).next();
    Ok(answer.succeeded || mark.is_some_and(|mark| mark.kv().is_some()))
}

/// Sends a transaction until it is answered, but not for ever; whether an earlier copy may have been
/// applied, too. Of two copies, the second must do nothing, however late.
pub(super) async fn persist_a_while(client: &Client, txn: &Txn) -> Result<(TxnResponse, bool)> {
    let unanswered = AtomicBool::new(false);
    let answer = persist_until_late(client, txn, &unanswered).await?;
    Ok((answer, unanswered.into_inner()))
}

async fn persist_until_late(
    client: &Client,
    txn: &Txn,
    unanswered: &AtomicBool,
) -> Result<TxnResponse> {
    let late = client.now() + PATIENCE;
    persist(client, txn, unanswered, |_| client.now() < late).await
}
