//! The one member: its state behind one lock, and what wakes up when time passes.
//!
//! Everything that a request does happens at once, under the lock, in [`State`]; only waiting for
//! a leader, a lease's end or a watch's next change is asynchronous.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tenure::wire::etcdserverpb::ResponseHeader;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tonic::{Status, metadata::MetadataMap};
use uuid::Uuid;

use crate::{refusal, settings::Settings};
pub(crate) use state::State;

mod alarms;
mod kv;
mod leases;
mod state;

pub(crate) struct Node {
    state: Mutex<State>,
    settings: Settings,
    cluster: u64,
    member: u64,
    term: AtomicU64,
    /// How many events were sent to watches.
    events: AtomicU64,
    leader: watch::Sender<bool>,
    /// As in the state, for those who do not hold it.
    lease_ends: Arc<Notify>,
}

/// What a request needs of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A leader to agree with.
    Quorum,
    /// Only this member.
    Nothing,
}

impl Node {
    /// A new member with nothing in it. Its leases end on the runtime that this is called on.
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        let (cluster, member, term) = (random_id(), random_id(), 2);
        let state = State::new(&settings, cluster, member, term);
        Self::with(settings, state, cluster, member)
    }

    /// Stops this member, and starts it again: its data as they were, its connections and tokens
    /// gone.
    pub(crate) fn stopped(&self) -> Arc<Self> {
        let settings = self.settings.clone();
        let (cluster, member, term) = (self.cluster, self.member, self.term() + 1);
        let left = State::stopped(&settings, cluster, member, term);
        let mut state = std::mem::replace(&mut *self.lock(), left);
        state.restart(term, Instant::now());
        Self::with(settings, state, cluster, member)
    }

    fn with(settings: Settings, state: State, cluster: u64, member: u64) -> Arc<Self> {
        let lease_ends = Arc::clone(&state.lease_ends);
        let node = Arc::new(Self {
            term: AtomicU64::new(state.header().raft_term),
            state: Mutex::new(state),
            settings,
            events: AtomicU64::new(0),
            cluster,
            member,
            leader: watch::Sender::new(true),
            lease_ends: Arc::clone(&lease_ends),
        });
        tokio::spawn(end_leases(Arc::downgrade(&node), lease_ends));
        node
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn member(&self) -> u64 {
        self.member
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Relaxed)
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.load(Relaxed)
    }

    pub(crate) fn events_sent(&self, count: usize) {
        self.events.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn header_at(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster,
            member_id: self.member,
            revision,
            raft_term: self.term(),
        }
    }

    /// Waits until the request can be served, as etcd does: for a leader, and not for ever.
    pub(crate) async fn ready(&self, metadata: &MetadataMap, needs: Needs) -> Result<(), Status> {
        if self.has_leader() {
            return Ok(());
        }
        if requires_leader(metadata) {
            return Err(refusal::NO_LEADER.into());
        }
        if needs == Needs::Nothing {
            return Ok(());
        }
        let mut leader = self.leader.subscribe();
        let elected = leader.wait_for(|elected| *elected);
        match timeout(self.settings.request_timeout(), elected).await {
            Ok(_) => Ok(()),
            Err(_) => Err(refusal::TIMED_OUT.into()),
        }
    }

    /// Comes back when there was no leader for so long that streams which require one end.
    pub(crate) async fn leaderless(&self) {
        let mut leader = self.leader.subscribe();
        loop {
            if leader.wait_for(|elected| !*elected).await.is_err() {
                return;
            }
            let elected = leader.wait_for(|elected| *elected);
            if timeout(self.settings.leaderless_streams(), elected).await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn has_leader(&self) -> bool {
        *self.leader.borrow()
    }

    /// As if the leader were gone: what needs one waits, and leases do not end.
    pub(crate) fn lose_leader(&self) {
        // Under the lock, so that no lease is about to end once this returns.
        let _state = self.lock();
        self.leader.send_replace(false);
    }

    /// As if a new leader were elected, who gives each lease its whole time.
    pub(crate) fn elect(&self) {
        let term = self.term.fetch_add(1, Relaxed) + 1;
        self.lock().elected(term, Instant::now());
        self.leader.send_replace(true);
        self.lease_ends.notify_one();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lease_ends.notify_one();
    }
}

pub(crate) fn requires_leader(metadata: &MetadataMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}

/// Sleeps until a lease ends, and ends it; for as long as the node is there.
async fn end_leases(node: Weak<Node>, changed: Arc<Notify>) {
    while let Some(node) = node.upgrade() {
        let due = {
            let mut state = node.lock();
            if node.has_leader() { state.end_leases(Instant::now()) } else { None }
        };
        drop(node);
        let Some(due) = due else {
            changed.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(due) => {}
            () = changed.notified() => {}
        }
    }
}

fn random_id() -> u64 {
    // Clients take an id of 0 for none.
    (Uuid::new_v4().as_u64_pair().0 >> 1).max(1)
}
