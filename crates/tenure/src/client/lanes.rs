//! Whose turn it is among this client's own transactions that change the same keys.
//!
//! A turn saves tries and proves nothing: etcd decides about each commit. So whoever waits for one
//! that does not end goes on without.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{self, Either};
use tenure_core::stm::Snapshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Client;

/// How long others wait for the end of a turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// The transactions that change a key take turns here, in the order they came.
pub(crate) struct Lane {
    turn: Arc<Semaphore>,
    /// How many turns have ended.
    ended: AtomicU64,
    left: Mutex<Left>,
}

/// What whoever had the turn last left behind.
struct Left {
    /// Whether that one changed the key. If not, whoever only comes to read it need not wait.
    wrote: bool,
    /// What the store was like after its commit.
    snapshot: Option<Arc<Snapshot>>,
}

impl Lane {
    fn new() -> Self {
        let left = Left { wrote: true, snapshot: None };
        Self { turn: Arc::new(Semaphore::new(1)), ended: AtomicU64::new(0), left: Mutex::new(left) }
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        // Nothing in here can panic while it is held.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn; `None` if somebody keeps it for too long.
    pub(crate) async fn turn(self: Arc<Self>, client: &Client) -> Option<Turn> {
        let mut ours = pin!(Arc::clone(&self.turn).acquire_owned());
        let mut ended = self.ended();
        loop {
            let late = pin!(client.sleep(PATIENCE));
            match future::select(ours.as_mut(), late).await {
                Either::Left((permit, _)) => {
                    let permit = permit.ok()?;
                    return Some(Turn { lane: self, _permit: permit });
                }
                Either::Right(_) if self.ended() == ended => return None,
                Either::Right(_) => ended = self.ended(),
            }
        }
    }

    fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}

/// A turn; it is over when this is dropped.
pub(crate) struct Turn {
    lane: Arc<Lane>,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// What the one before left behind.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.lane.left().snapshot.clone()
    }

    /// Ends it, with something for the next one.
    pub(crate) fn pass(self, wrote: bool, snapshot: Option<Arc<Snapshot>>) {
        let mut left = self.lane.left();
        left.wrote = wrote;
        if snapshot.is_some() {
            left.snapshot = snapshot;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lane.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

/// The lanes of a client that are in use.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<InUse>);

#[derive(Default)]
struct InUse {
    by_key: HashMap<(usize, Bytes), Weak<Lane>>,
    /// With so many entries it pays to look for those that are over.
    sweep_at: usize,
}

impl Lanes {
    fn in_use(&self) -> MutexGuard<'_, InUse> {
        // Nothing in here can panic while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane of this key.
    pub(crate) fn of(&self, client: &Client, key: &Bytes) -> Arc<Lane> {
        let id = id(client, key);
        let mut lanes = self.in_use();
        if let Some(lane) = lanes.by_key.get(&id).and_then(Weak::upgrade) {
            return lane;
        }
        if lanes.by_key.len() >= lanes.sweep_at {
            lanes.by_key.retain(|_, lane| lane.strong_count() > 0);
            lanes.sweep_at = 2 * lanes.by_key.len() + 16;
        }
        let lane = Arc::new(Lane::new());
        lanes.by_key.insert(id, Arc::downgrade(&lane));
        lane
    }

    /// The lane of this key, if others are there who change it.
    pub(crate) fn busy(&self, client: &Client, key: &Bytes) -> Option<Arc<Lane>> {
        let lane = self.in_use().by_key.get(&id(client, key))?.upgrade()?;
        let wrote = lane.left().wrote;
        wrote.then_some(lane)
    }
}

/// Under other layers the same words may mean other keys. Whoever uses a lane keeps its layers, so
/// an address that is found is not used anew.
fn id(client: &Client, key: &Bytes) -> (usize, Bytes) {
    (Arc::as_ptr(client.seam()).cast::<()>() as usize, key.clone())
}
