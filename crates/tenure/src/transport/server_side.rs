//! The Lock and Election services of a member, to the wire and back.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tenure_core::{
    EtcdError, KeyValue, LeaseId, Revision,
    endpoints::Report,
    retry::{Origin, classify},
};
use tonic::Status;

use super::{
    Failed, Transport,
    kv::{header, key_value},
    link::Link,
    rpc::{CAMPAIGN, LEADER, LOCK, OBSERVE, PROCLAIM, RESIGN, UNLOCK},
    status,
};
use crate::{
    client::{ServerLeader, ServerLocked},
    error::{Error, Result},
    ops::{CallOptions, Header, other_kind},
    wire::{v3electionpb as election, v3lockpb as lock},
};

/// How long to wait for a turn by default: as long as a lease lives that the server makes itself.
const TURN: Duration = Duration::from_secs(60);

fn patient(mut options: CallOptions) -> CallOptions {
    options.timeout.get_or_insert(TURN);
    options
}

fn number(lease: Option<LeaseId>) -> i64 {
    lease.map_or(0, LeaseId::get)
}

impl Transport {
    /// Waits for an answer that comes when it is somebody's turn.
    pub(super) async fn for_its_turn<A>(
        &self,
        link: &Arc<Link>,
        patience: Duration,
        attempt: impl Future<Output = Result<A, Failed>>,
    ) -> Result<A, Failed> {
        let before = link.before();
        if let Some(answer) = self.within(patience, pin!(attempt)).await {
            if let Err(Failed { origin: Origin::NotSent | Origin::Connection, .. }) = &answer {
                self.report(link, Report::Failed);
            }
            return answer;
        }
        let origin = match link.was_open_since(&before) {
            true => Origin::Connection,
            false => Origin::NotSent,
        };
        let status = Status::deadline_exceeded(format!("not its turn within {patience:?}"));
        let verdict = classify(false, status::failure(&status, origin));
        Err(Failed { status, origin, verdict })
    }

    pub(crate) async fn server_lock(
        self,
        name: Bytes,
        lease: Option<LeaseId>,
        options: CallOptions,
    ) -> Result<ServerLocked> {
        let request = lock::LockRequest { name, lease: number(lease) };
        let answer = self.call(&LOCK, request, &patient(options)).await?;
        Ok(ServerLocked { header: header(answer.header), key: answer.key })
    }

    pub(crate) async fn server_unlock(self, key: Bytes) -> Result<Header> {
        let request = lock::UnlockRequest { key };
        let answer = self.call(&UNLOCK, request, &CallOptions::new()).await?;
        Ok(header(answer.header))
    }

    pub(crate) async fn server_campaign(
        self,
        name: Bytes,
        value: Bytes,
        lease: Option<LeaseId>,
        options: CallOptions,
    ) -> Result<ServerLeader> {
        let request = election::CampaignRequest { name, lease: number(lease), value };
        let answer = self.call(&CAMPAIGN, request, &patient(options)).await?;
        let leader = answer.leader.ok_or_else(|| other_kind().unsure())?;
        Ok(ServerLeader {
            header: header(answer.header),
            name: leader.name,
            key: leader.key,
            create_revision: Revision(leader.rev),
            lease: LeaseId::new(leader.lease),
        })
    }

    pub(crate) async fn server_proclaim(
        self,
        leader: election::LeaderKey,
        value: Bytes,
    ) -> Result<Header> {
        let request = election::ProclaimRequest { leader: Some(leader), value };
        let answer = self.call(&PROCLAIM, request, &CallOptions::new()).await?;
        Ok(header(answer.header))
    }

    pub(crate) async fn server_resign(self, leader: election::LeaderKey) -> Result<Header> {
        let request = election::ResignRequest { leader: Some(leader) };
        let answer = self.call(&RESIGN, request, &CallOptions::new()).await?;
        Ok(header(answer.header))
    }

    pub(crate) async fn server_leader(self, name: Bytes) -> Result<Option<KeyValue>> {
        let request = election::LeaderRequest { name };
        match self.call(&LEADER, request, &CallOptions::new()).await {
            Ok(answer) => Ok(answer.kv.map(key_value)),
            Err(error) if error.etcd_error() == Some(EtcdError::ElectionNoLeader) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn server_observe(
        self,
        name: Bytes,
    ) -> impl Stream<Item = Result<KeyValue>> + Send + Unpin + 'static {
        let opened = match name.is_empty() {
            false => self.open(&OBSERVE, &CallOptions::new().require_leader(), None),
            true => Err(Error::invalid(OBSERVE.name, "the name is empty")),
        };
        let leaders = opened.map(|(requests, leaders)| {
            // There is room for one, and no other is sent.
            let _ = requests.try_send(election::LeaderRequest { name });
            leaders
        });
        match leaders {
            Ok(leaders) => leaders
                .filter_map(async |told| match told {
                    Ok(told) => told.kv.map(|kv| Ok(key_value(kv))),
                    Err(error) => Some(Err(error)),
                })
                .boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }
}

impl From<&ServerLeader> for election::LeaderKey {
    fn from(leader: &ServerLeader) -> Self {
        Self {
            name: leader.name.clone(),
            key: leader.key.clone(),
            rev: leader.create_revision.0,
            lease: number(leader.lease),
        }
    }
}
