use bytes::Bytes;
use tenure::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::State;
use crate::{
    refusal::{self, Refusal},
    token::Token,
};

/// What etcd reckons with for a lease.
pub(super) const LEASE_COST: usize = 64;

impl State {
    pub(crate) fn lease_grant(
        &mut self,
        token: &Token,
        request: &LeaseGrantRequest,
        now: Instant,
    ) -> Result<LeaseGrantResponse, Refusal> {
        let caller = self.caller(token, now)?;
        self.auth.may_grant_lease(&caller)?;
        self.has_room(LEASE_COST)?;
        self.is_sound()?;
        let (id, ttl) = self.leases.grant(request.id, request.ttl, free_id, now)?;
        self.agree();
        self.lease_ends.notify_one();
        let header = Some(self.header());
        Ok(LeaseGrantResponse { header, id, ttl, error: String::new() })
    }

    pub(crate) fn lease_revoke(
        &mut self,
        token: &Token,
        id: i64,
        now: Instant,
    ) -> Result<LeaseRevokeResponse, Refusal> {
        let caller = self.caller(token, now)?;
        self.auth.may_revoke_lease(&caller, self.leases.keys(id))?;
        self.is_sound()?;
        self.end_lease(id)?;
        Ok(LeaseRevokeResponse { header: Some(self.header()) })
    }

    /// A TTL of 0 says that there is no such lease.
    pub(crate) fn lease_keep_alive(
        &mut self,
        token: &Token,
        id: i64,
        now: Instant,
    ) -> Result<LeaseKeepAliveResponse, Refusal> {
        let caller = self.caller(token, now)?;
        self.auth.may_keep_alive(&caller, self.leases.keys(id))?;
        let thaws = self.leases.is_frozen(id);
        let ttl = self.leases.renew(id, now).unwrap_or(0);
        if thaws {
            self.lease_ends.notify_one();
        }
        Ok(LeaseKeepAliveResponse { header: Some(self.header()), id, ttl })
    }

    /// A TTL of -1 says that there is no such lease.
    pub(crate) fn lease_time_to_live(
        &mut self,
        token: &Token,
        request: &LeaseTimeToLiveRequest,
        now: Instant,
    ) -> Result<LeaseTimeToLiveResponse, Refusal> {
        let caller = self.caller(token, now)?;
        let keys: Vec<_> = match request.keys {
            true => self.leases.keys(request.id).cloned().collect(),
            false => Vec::new(),
        };
        self.auth.may_see_lease(&caller, &keys)?;
        let header = Some(self.header());
        let id = request.id;
        Ok(match self.leases.remaining(id, now) {
            Some(remaining) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: remaining.left,
                granted_ttl: remaining.granted,
                keys,
            },
            None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        })
    }

    pub(crate) fn lease_leases(
        &mut self,
        token: &Token,
        now: Instant,
    ) -> Result<LeaseLeasesResponse, Refusal> {
        let caller = self.caller(token, now)?;
        let ids = self.leases.ids();
        let keys = ids.iter().flat_map(|id| self.leases.keys(*id));
        self.auth.may_see_lease(&caller, keys)?;
        let leases = ids.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(LeaseLeasesResponse { header: Some(self.header()), leases })
    }

    /// Takes a lease and its keys away, in one revision.
    pub(crate) fn end_lease(&mut self, id: i64) -> Result<(), Refusal> {
        let keys = self.leases.revoke(id).ok_or(refusal::LEASE_NOT_FOUND)?;
        let changes = self.store.delete_keys(&keys);
        self.agree();
        self.changed(changes);
        Ok(())
    }

    /// Deletes a key, whoever asks.
    pub(crate) fn delete_key(&mut self, key: &Bytes) {
        let changes = self.store.delete_keys([key]);
        self.agree();
        self.changed(changes);
    }

    /// Ends the leases whose time is over, and says when the next one's is.
    pub(super) fn end_leases(&mut self, now: Instant) -> Option<Instant> {
        while let Some(id) = self.leases.overdue(now) {
            // It was just there.
            let _ = self.end_lease(id);
        }
        self.leases.next_due()
    }
}

/// etcd's ids are positive, too.
fn free_id() -> i64 {
    i64::try_from(Uuid::new_v4().as_u64_pair().0 >> 1).unwrap_or(i64::MAX)
}
