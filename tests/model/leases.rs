use bytes::Bytes;
use tenure::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

use super::{
    draft::Draft,
    naive::{LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, Naive, Refusal},
};

const MAX_TTL: i64 = 9_000_000_000;

/// None expires while a test runs. Its keys are those that say so.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    ttl: i64,
    /// Which of all grants and renewals was its last.
    renewed: usize,
}

impl Naive {
    pub(crate) fn grant(
        &mut self,
        request: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Refusal> {
        let (id, ttl) = (request.id, request.ttl);
        if ttl > MAX_TTL {
            return Err(LEASE_TTL_TOO_LARGE);
        }
        if self.leases.contains_key(&id) {
            return Err(LEASE_EXISTS);
        }
        self.renewals += 1;
        self.leases.insert(id, Lease { ttl, renewed: self.renewals });
        Ok(LeaseGrantResponse { header: self.header(), id, ttl, ..Default::default() })
    }

    pub(crate) fn revoke(
        &mut self,
        request: &LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Refusal> {
        self.leases.remove(&request.id).ok_or(LEASE_NOT_FOUND)?;
        let keys = self.keys_of(request.id);
        let mut draft = Draft::new(self);
        keys.iter().for_each(|key| draft.delete(key));
        let done = draft.done();
        self.commit(done);
        Ok(LeaseRevokeResponse { header: self.header() })
    }

    pub(crate) fn keep_alive(&mut self, request: &LeaseKeepAliveRequest) -> LeaseKeepAliveResponse {
        let mut ttl = 0;
        if let Some(lease) = self.leases.get_mut(&request.id) {
            self.renewals += 1;
            lease.renewed = self.renewals;
            ttl = lease.ttl;
        }
        LeaseKeepAliveResponse { header: self.header(), id: request.id, ttl }
    }

    /// With the whole TTL, as if no time went by.
    pub(crate) fn time_to_live(&self, request: &LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse {
        let (header, id) = (self.header(), request.id);
        match self.leases.get(&id) {
            None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
            Some(&Lease { ttl, .. }) => {
                let keys = if request.keys { self.keys_of(id) } else { Vec::new() };
                LeaseTimeToLiveResponse { header, id, ttl, granted_ttl: ttl, keys }
            }
        }
    }

    /// In the order in which they expire.
    pub(crate) fn leases(&self) -> LeaseLeasesResponse {
        let mut leases: Vec<_> = self.leases.iter().collect();
        leases.sort_by_key(|(_, lease)| (lease.ttl, lease.renewed));
        let leases = leases.into_iter().map(|(&id, _)| LeaseStatus { id }).collect();
        LeaseLeasesResponse { header: self.header(), leases }
    }

    fn keys_of(&self, lease: i64) -> Vec<Bytes> {
        let kvs = self.now().values().filter(|kv| kv.lease == lease);
        kvs.map(|kv| kv.key.clone()).collect()
    }
}
