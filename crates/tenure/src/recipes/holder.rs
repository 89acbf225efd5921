//! Who holds and who waits, for people to read. Nothing is ever decided by it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tenure_core::{KeyRange, KeyValue, LeaseId, Revision, name::lease_of};
use uuid::Uuid;

use crate::{
    client::Client,
    error::Result,
    ops::{Order, SortBy},
    session::Session,
};

/// What a contender says of itself in the value of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// The machine it runs on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// The [name](crate::SessionConfig::name) of its session.
    #[serde(default)]
    pub name: String,
    /// When it asked, in seconds since 1970, by its own clock.
    pub since: u64,
}

impl Holder {
    pub(super) fn of(session: &Session) -> Self {
        Self::called(session.name())
    }

    /// This process, where there is no session.
    pub(super) fn called(name: &str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            name: name.to_owned(),
            since: now.unwrap_or(Duration::ZERO).as_secs(),
        }
    }
}

/// The value of a key that `session` puts, as JSON.
pub(super) fn record(session: &Session) -> String {
    written(&Holder::of(session))
}

/// The same, and unlike the value of any other key.
pub(super) fn mark(session: &Session) -> String {
    let mark = Mark { holder: Holder::of(session), id: Uuid::new_v4().to_string() };
    // Strings and numbers can always be written.
    serde_json::to_string(&mark).unwrap_or(mark.id)
}

pub(super) fn written(holder: &Holder) -> String {
    // Strings and numbers can always be written.
    serde_json::to_string(holder).unwrap_or_default()
}

#[derive(Serialize)]
struct Mark {
    #[serde(flatten)]
    holder: Holder,
    id: String,
}

/// One who holds, or waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contender {
    /// Its key.
    pub key: Bytes,
    /// The session it belongs to, by its lease.
    pub lease: Option<LeaseId>,
    /// When it asked: earlier ones are first.
    pub create_revision: Revision,
    /// What it says of itself, if it is one of ours that has nothing else to say.
    pub holder: Option<Holder>,
    /// The value of its key: a candidate's, for one.
    pub value: Bytes,
}

impl Contender {
    fn of(kv: &KeyValue, prefix: &[u8]) -> Self {
        Self {
            key: kv.key.clone(),
            lease: kv.lease.or_else(|| lease_of(&kv.key, prefix)),
            create_revision: kv.create_revision,
            holder: serde_json::from_slice(&kv.value).ok(),
            value: kv.value.clone(),
        }
    }
}

/// All who are under a prefix, the oldest first.
pub(super) async fn contenders(client: &Client, prefix: &[u8]) -> Result<Vec<Contender>> {
    let all = client.get(KeyRange::prefix(prefix));
    let found = all.sort(SortBy::CreateRevision, Order::Ascending).await?;
    Ok(found.kvs.iter().map(|kv| Contender::of(kv, prefix)).collect())
}
