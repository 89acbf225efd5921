//! Going on with the lease of an earlier process.

use std::future::IntoFuture;

use bytes::Bytes;
use futures::future;
use tenure_core::{EtcdError, KeyValue, LeaseId, name::lease_of_place};

use super::life::{Inherited, Life};
use crate::{
    client::Client,
    error::{Error, Result},
    ops::{Compare, GetResponse, KeepValue, Op, Put, Txn},
};

/// How many keys one transaction looks at; etcd allows 128 operations.
const BATCH: usize = 100;

/// Keeps `lease` alive from now on, and takes over the keys that hold something on it: each is
/// written once, so that the guards of the earlier process no longer match. Those whose queue looks
/// when they were put stay as they are.
pub(super) async fn resume(client: &Client, lease: LeaseId, generation: u64) -> Result<Life> {
    // Only an answered renewal says that it lives; a time to live may be of the past.
    let keep = client.lease_keep_alive(lease).await?;
    let found = client.lease_time_to_live(lease).await?;
    let life = Life::new(generation, found.header.cluster_id, keep);
    // From here on nothing of the earlier process is applied any more, however late it comes.
    let put = client.put(life.guard_key(), life.token()).lease(lease).await?;
    life.guard_is_at(put.header.revision);
    let found = client.lease_time_to_live(lease).keys().await?;
    if found.remaining.is_none() {
        return Err(Error::etcd("session", EtcdError::LeaseNotFound));
    }
    let (places, others): (Vec<_>, Vec<_>) =
        found.keys.into_iter().partition(|key| lease_of_place(key) == Some(lease));
    let claims: Vec<_> = others.into_iter().filter(|key| is_claim(key, lease)).collect();
    for batch in claims.chunks(BATCH) {
        life.inherit(take_over(client, batch).await?);
    }
    for batch in places.chunks(BATCH) {
        life.inherit(seen(client, batch).await?.into_iter().map(Inherited::from));
    }
    Ok(life)
}

/// Whether a key is a claim that is taken over, of a lock, an election, or on permits:
/// `../<lease>` or `../<lease>-<nonce>`, in hex. Others are looked at for their last change, and must
/// not be written.
fn is_claim(key: &Bytes, lease: LeaseId) -> bool {
    let guard = b"tenure/session/";
    let last = key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let owner = last.split(|byte| *byte == b'-').next().unwrap_or_default();
    !key.starts_with(guard) && owner == format!("{:x}", lease.get()).as_bytes()
}

/// Those of the keys that are there, as they are.
async fn seen(client: &Client, keys: &[Bytes]) -> Result<Vec<KeyValue>> {
    let gets = keys.iter().map(|key| client.get(key).keys_only().into_future());
    let seen = future::try_join_all(gets).await?;
    Ok(seen.into_iter().filter_map(GetResponse::into_kv).collect())
}

async fn take_over(client: &Client, keys: &[Bytes]) -> Result<Vec<Inherited>> {
    let seen = seen(client, keys).await?;
    let puts = seen.iter().map(|kv| {
        Txn::new()
            .when([Compare::mod_revision(kv.key.clone()).equal(kv.mod_revision)])
            .and_then([Put::new(kv.key.clone(), KeepValue).keep_lease()])
    });
    let written = client.txn().and_then(puts.map(Op::from)).await?;
    let modified = written.header.revision;
    let taken = written.responses.into_iter().map(|response| response.into_txn());
    let ours = seen.into_iter().zip(taken).filter(|(_, txn)| {
        // Whoever wrote it in between resumed the session, too.
        txn.as_ref().is_some_and(|txn| txn.succeeded)
    });
    Ok(ours.map(|(kv, _)| Inherited { modified, ..kv.into() }).collect())
}
