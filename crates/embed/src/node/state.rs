use std::sync::Arc;

use bytes::Bytes;
use tenure::wire::etcdserverpb::{ResponseHeader, WatchCreateRequest};
use tokio::{sync::Notify, time::Instant};

use super::alarms::Alarms;
use crate::{
    auth::{Auth, Caller},
    lease::Leases,
    refusal::{self, Refusal},
    settings::Settings,
    store::{Change, Store},
    token::Token,
    watch::Hub,
};

/// All that the member knows.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) leases: Leases,
    pub(crate) auth: Auth,
    pub(crate) alarms: Alarms,
    pub(crate) hub: Hub,
    pub(super) max_request_bytes: usize,
    pub(super) quota: u64,
    pub(super) member: u64,
    cluster: u64,
    term: u64,
    /// A restart took its data away: whatever is still under way fails.
    stopped: bool,
    /// Another lease may be the first to end than was.
    pub(super) lease_ends: Arc<Notify>,
    /// As raft counts: each request that the members would have agreed on.
    agreed: u64,
}

impl State {
    pub(super) fn new(settings: &Settings, cluster: u64, member: u64, term: u64) -> Self {
        Self {
            store: Store::default(),
            leases: Leases::new(settings.min_ttl()),
            auth: Auth::new(settings.auth_token_ttl),
            alarms: Alarms::default(),
            hub: Hub::default(),
            max_request_bytes: settings.max_request_bytes,
            quota: settings.quota_backend_bytes,
            cluster,
            member,
            term,
            stopped: false,
            lease_ends: Arc::default(),
            agreed: 4,
        }
    }

    /// What is left of a member whose data were taken for a restart.
    pub(super) fn stopped(settings: &Settings, cluster: u64, member: u64, term: u64) -> Self {
        Self { stopped: true, ..Self::new(settings, cluster, member, term) }
    }

    /// What a restart does to it: nobody watches, all sign in anew, leases have their whole time.
    pub(super) fn restart(&mut self, term: u64, now: Instant) {
        self.hub = Hub::default();
        self.lease_ends = Arc::default();
        self.auth.forget_tokens();
        self.elected(term, now);
    }

    pub(super) fn elected(&mut self, term: u64, now: Instant) {
        self.term = term;
        self.leases.renew_all(now);
        self.lease_ends.notify_one();
    }

    pub(crate) fn header(&self) -> ResponseHeader {
        self.header_at(self.store.revision())
    }

    pub(crate) fn header_at(&self, revision: i64) -> ResponseHeader {
        let (cluster_id, member_id, raft_term) = (self.cluster, self.member, self.term);
        ResponseHeader { cluster_id, member_id, revision, raft_term }
    }

    /// Fills in who answers.
    pub(super) fn sign(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header_at(revision));
    }

    pub(crate) fn agreed(&self) -> u64 {
        self.agreed
    }

    pub(crate) fn agree(&mut self) {
        self.agreed += 1;
    }

    /// Whether its data are still its own.
    pub(crate) fn is_running(&self) -> Result<(), Refusal> {
        if self.stopped { Err(refusal::STOPPED) } else { Ok(()) }
    }

    /// Who asks. Every request begins with it.
    pub(crate) fn caller(&mut self, token: &Token, now: Instant) -> Result<Caller, Refusal> {
        self.is_running()?;
        self.auth.caller(token.as_deref(), now)
    }

    pub(crate) fn may_watch(
        &mut self,
        token: &Token,
        create: &WatchCreateRequest,
        now: Instant,
    ) -> Result<(), Refusal> {
        let caller = self.caller(token, now)?;
        self.auth.may_watch(&caller, &create.key, &create.range_end)
    }

    /// What changes of the store mean to leases and watches.
    pub(super) fn changed(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        for Change { record, left_lease, .. } in &changes {
            let (key, lease): (&Bytes, i64) = (&record.kv.key, record.kv.lease);
            if *left_lease != 0 && *left_lease != lease {
                self.leases.detach(*left_lease, key);
            }
            if lease != 0 && *left_lease != lease {
                self.leases.attach(lease, key);
            }
        }
        self.hub.publish(self.store.revision(), changes);
    }
}
