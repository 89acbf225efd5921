use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use tenure_core::{KeyValue, LeaseId, Moment, Revision, name};
use uuid::Uuid;

use crate::{
    client::{KeepAlive, LeaseCell, LeaseState},
    error::{LossReason, Result},
};

/// Something that a session has in the cluster, and gives back when it is closed.
pub(crate) trait Holding: Send + Sync + 'static {
    /// What to call it in a log.
    fn name(&self) -> String;
    /// Takes it out of the cluster; ends once it is gone, or the lease is.
    fn give_back(self: Arc<Self>) -> BoxFuture<'static, Result<()>>;
}

/// One life of a session: a lease, from its grant to its loss.
pub(crate) struct Life {
    pub(crate) generation: u64,
    pub(crate) lease: LeaseId,
    cluster_id: u64,
    cell: Arc<LeaseCell>,
    keep: Mutex<Option<KeepAlive>>,
    /// What this life writes into the session's guard key: whoever finds another there has been
    /// followed by a process that resumed the session.
    token: String,
    /// When the guard key was last put, as far as is known.
    guard: AtomicI64,
    /// Those who are about to put it, one after the other: each changes what the others compare.
    guard_puts: tokio::sync::Mutex<()>,
    nonces: Mutex<Nonces>,
    holdings: Mutex<Holdings>,
    inherited: Mutex<Vec<Inherited>>,
}

/// The numbers behind the lease in the names of keys.
///
/// They are used again where that is safe: etcd's index keeps every name that was ever used until
/// the next compaction, and walks over all of them whenever a queue is read.
struct Nonces {
    next: u32,
    free: Vec<u32>,
}

#[derive(Default)]
struct Holdings {
    last: u64,
    held: BTreeMap<u64, Weak<dyn Holding>>,
}

/// A key that an earlier process of this session left, and that is ours now.
#[derive(Clone, Debug)]
pub(crate) struct Inherited {
    pub(crate) key: Bytes,
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
}

impl From<KeyValue> for Inherited {
    fn from(kv: KeyValue) -> Self {
        Self { key: kv.key, created: kv.create_revision, modified: kv.mod_revision }
    }
}

impl Life {
    pub(crate) fn new(generation: u64, cluster_id: u64, keep: KeepAlive) -> Self {
        Self {
            generation,
            lease: keep.id(),
            cluster_id,
            cell: Arc::clone(keep.cell()),
            keep: Mutex::new(Some(keep)),
            token: Uuid::new_v4().to_string(),
            guard: AtomicI64::new(0),
            guard_puts: tokio::sync::Mutex::default(),
            // An earlier process of the session had numbers of its own.
            nonces: Mutex::new(Nonces { next: Uuid::new_v4().as_u128() as u32, free: Vec::new() }),
            holdings: Mutex::default(),
            inherited: Mutex::default(),
        }
    }

    /// The TTL that the server gave last.
    pub(crate) fn ttl(&self) -> Duration {
        self.cell.ttl()
    }

    pub(crate) fn deadline(&self) -> Moment {
        self.cell.deadline()
    }

    pub(crate) fn is_held(&self, now: Moment) -> bool {
        now < self.cell.deadline()
    }

    pub(crate) fn state(&self, now: Moment) -> LeaseState {
        self.cell.state(now)
    }

    /// Why it is over, if it is.
    pub(crate) fn loss(&self, now: Moment) -> Option<LossReason> {
        match self.state(now) {
            LeaseState::Lost { reason } => Some(reason),
            _ => None,
        }
    }

    pub(crate) async fn changed_from(&self, seen: Option<LeaseState>) -> LeaseState {
        self.cell.changed_from(seen).await
    }

    pub(crate) async fn lost(&self) -> LossReason {
        let mut seen = None;
        loop {
            match self.cell.changed_from(seen).await {
                LeaseState::Lost { reason } => return reason,
                state => seen = Some(state),
            }
        }
    }

    /// Ends it here and now, whatever the server thinks.
    pub(crate) fn end(&self, reason: LossReason) {
        self.cell.lost(reason);
    }

    /// Stops renewing.
    pub(crate) fn forget(&self) {
        drop(lock(&self.keep).take());
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// An answer came from this cluster. Revisions of another one mean nothing here.
    pub(crate) fn check_cluster(&self, cluster_id: u64) {
        if cluster_id != self.cluster_id {
            self.end(LossReason::ClusterChanged);
        }
    }

    /// The key that tells late copies of an acquire from its repetition.
    pub(crate) fn guard_key(&self) -> Bytes {
        format!("tenure/session/{:x}", self.lease.get()).into()
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A number that no other key of this life has.
    pub(crate) fn nonce(&self) -> u32 {
        let mut nonces = lock(&self.nonces);
        nonces.free.pop().unwrap_or_else(|| {
            nonces.next = nonces.next.wrapping_add(1);
            nonces.next
        })
    }

    /// Nothing that has this number is in etcd or on its way there.
    pub(crate) fn free_nonce(&self, nonce: u32) {
        lock(&self.nonces).free.push(nonce);
    }

    /// Waits until nobody else of this life is putting the guard key; nobody does while this is kept.
    pub(crate) async fn guard_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.guard_puts.lock().await
    }

    pub(crate) fn guard(&self) -> Revision {
        Revision(self.guard.load(Ordering::Acquire))
    }

    pub(crate) fn guard_is_at(&self, revision: Revision) {
        self.guard.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// The guard key was found like this, as of this revision. Ends the life if somebody else resumed the session, or
    /// if the key went with the lease.
    pub(crate) fn guard_was_found(&self, found: Option<&KeyValue>, seen: Revision) {
        match found {
            Some(kv) if kv.value == self.token.as_bytes() => self.guard_is_at(kv.mod_revision),
            Some(_) => self.end(LossReason::TakenOver),
            // An answer from before the first put says nothing.
            None if (Revision(1)..=seen).contains(&self.guard()) => self.end(LossReason::Revoked),
            None => {}
        }
    }

    /// Remembers something to be given back.
    pub(crate) fn hold(&self, holding: Weak<dyn Holding>) -> u64 {
        let mut holdings = lock(&self.holdings);
        holdings.last += 1;
        let number = holdings.last;
        holdings.held.insert(number, holding);
        number
    }

    pub(crate) fn drop_holding(&self, number: u64) {
        lock(&self.holdings).held.remove(&number);
    }

    /// What is held, the newest first.
    pub(crate) fn holdings(&self) -> Vec<Arc<dyn Holding>> {
        lock(&self.holdings).held.values().rev().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn inherit(&self, keys: impl IntoIterator<Item = Inherited>) {
        lock(&self.inherited).extend(keys);
    }

    pub(super) fn inherited(&self) -> Vec<Inherited> {
        lock(&self.inherited).clone()
    }

    /// Forgets an inherited key.
    pub(super) fn disown(&self, key: &Bytes) {
        lock(&self.inherited).retain(|own| own.key != key);
    }

    /// The oldest inherited key of the queue with this prefix.
    pub(crate) fn oldest_inherited(&self, prefix: &Bytes) -> Option<Inherited> {
        let inherited = lock(&self.inherited);
        let is_under = |own: &&Inherited| name::lease_of(&own.key, prefix) == Some(self.lease);
        inherited.iter().filter(is_under).min_by_key(|own| own.created).cloned()
    }

    /// Takes the oldest inherited key of the queue with this prefix.
    pub(crate) fn claim_inherited(&self, prefix: &Bytes) -> Option<Inherited> {
        let mut inherited = lock(&self.inherited);
        let under = inherited
            .iter()
            .enumerate()
            .filter(|(_, own)| name::lease_of(&own.key, prefix) == Some(self.lease));
        let (place, _) = under.min_by_key(|(_, own)| own.created)?;
        Some(inherited.swap_remove(place))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here can panic while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
