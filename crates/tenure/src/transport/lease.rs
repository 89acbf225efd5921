//! Leases, to the wire and back.

use std::time::Duration;

use tenure_core::{EtcdError, LeaseId, Moment};

use super::{
    Incoming, Outgoing, Transport,
    kv::header,
    link::Link,
    rpc::{LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_LEASES, LEASE_REVOKE, LEASE_TIME_TO_LIVE},
};
use crate::{
    client::{LeaseGrant, LeaseList, LeaseRevoked, LeaseTimeToLive},
    error::{Error, ErrorKind, Result},
    ops::{CallOptions, Header},
    wire::etcdserverpb as pb,
};

/// The most a TTL may be, which etcd refuses beyond.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(9_000_000_000);

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

impl Transport {
    pub(crate) async fn lease_grant(
        self,
        id: Option<LeaseId>,
        ttl: Duration,
        options: CallOptions,
    ) -> Result<LeaseGrant> {
        // A part of a second counts as a whole one: the lease lives at least as long as asked.
        let asked = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let own = id.unwrap_or_else(random_id);
        let request = pb::LeaseGrantRequest { ttl: asked as i64, id: own.get() };
        let sent_at = self.now();
        let outcome = self.call_counted(&LEASE_GRANT, request, &options).await;
        match outcome.result {
            Ok(answer) => {
                let id = LeaseId::new(answer.id).ok_or_else(|| no_lease("lease grant"))?;
                Ok(LeaseGrant {
                    header: header(answer.header),
                    id,
                    ttl: seconds(answer.ttl),
                    sent_at,
                })
            }
            // An id that is random is there already only if an earlier attempt made it.
            Err(error)
                if outcome.repeated
                    && id.is_none()
                    && error.etcd_error() == Some(EtcdError::LeaseExist) =>
            {
                self.granted_before(own, sent_at, options).await
            }
            Err(error) => Err(error),
        }
    }

    async fn granted_before(
        self,
        id: LeaseId,
        sent_at: Moment,
        options: CallOptions,
    ) -> Result<LeaseGrant> {
        let found = self.lease_time_to_live(id, false, options).await?;
        match found.granted_ttl {
            Some(ttl) => Ok(LeaseGrant { header: found.header, id, ttl, sent_at }),
            None => Err(Error::etcd("lease grant", EtcdError::LeaseNotFound)),
        }
    }

    pub(crate) async fn lease_revoke(
        self,
        id: LeaseId,
        options: CallOptions,
    ) -> Result<LeaseRevoked> {
        let request = pb::LeaseRevokeRequest { id: id.get() };
        let outcome = self.call_counted(&LEASE_REVOKE, request, &options).await;
        match outcome.result {
            Ok(answer) => Ok(LeaseRevoked { header: header(answer.header) }),
            // An earlier attempt may have done it; gone is gone.
            Err(error)
                if outcome.repeated && error.etcd_error() == Some(EtcdError::LeaseNotFound) =>
            {
                Ok(LeaseRevoked { header: Header::default() })
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn lease_time_to_live(
        self,
        id: LeaseId,
        keys: bool,
        options: CallOptions,
    ) -> Result<LeaseTimeToLive> {
        let request = pb::LeaseTimeToLiveRequest { id: id.get(), keys };
        let answer = self.call(&LEASE_TIME_TO_LIVE, request, &options).await?;
        let alive = answer.ttl >= 0;
        Ok(LeaseTimeToLive {
            header: header(answer.header),
            id,
            remaining: alive.then(|| seconds(answer.ttl)),
            granted_ttl: alive.then(|| seconds(answer.granted_ttl)),
            keys: answer.keys,
        })
    }

    pub(crate) async fn leases(self, options: CallOptions) -> Result<LeaseList> {
        let answer = self.call(&LEASE_LEASES, pb::LeaseLeasesRequest {}, &options).await?;
        let leases = answer.leases.into_iter().filter_map(|lease| LeaseId::new(lease.id)).collect();
        Ok(LeaseList { header: header(answer.header), leases })
    }

    /// The one stream on which leases are renewed. It leaves a member that knows no leader.
    pub(crate) fn keep_alive_stream(
        &self,
        avoid: Option<&std::sync::Arc<Link>>,
    ) -> Result<(Outgoing<pb::LeaseKeepAliveRequest>, Incoming<pb::LeaseKeepAliveResponse>)> {
        self.open(&LEASE_KEEP_ALIVE, &CallOptions::new().require_leader(), avoid)
    }
}

/// A request to renew a lease.
pub(crate) fn renewal(id: LeaseId) -> pb::LeaseKeepAliveRequest {
    pb::LeaseKeepAliveRequest { id: id.get() }
}

/// Which lease was renewed, for how many seconds, and by which cluster.
pub(crate) fn renewed(answer: &pb::LeaseKeepAliveResponse) -> Option<(LeaseId, i64, u64)> {
    let cluster_id = answer.header.as_ref().map_or(0, |header| header.cluster_id);
    LeaseId::new(answer.id).map(|id| (id, answer.ttl, cluster_id))
}

pub(crate) fn no_lease(what: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, what, "the answer names no lease")
}

/// A lease id nobody else has: etcd's are positive.
fn random_id() -> LeaseId {
    loop {
        let bits = uuid::Uuid::new_v4().as_u128() as u64 >> 1;
        if let Some(id) = i64::try_from(bits).ok().and_then(LeaseId::new) {
            return id;
        }
    }
}
