//! Transactions over many keys, written as code that reads and writes.

mod actor;
mod attempt;
mod commit;
mod isolation;
mod view;

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tenure_core::{Key, stm::Pace};
use uuid::Uuid;

pub use self::{
    actor::{StmActor, Transact},
    isolation::Isolation,
    view::View,
};
use self::{
    attempt::{Attempt, Turns},
    commit::{Commit, Conflict},
};
use crate::{
    client::{Client, Lane},
    error::{Error, Result},
};

const WHAT: &str = "transaction";
const TRIES: u32 = 100;
/// What etcd allows by default.
const MAX_OPS: usize = 128;

/// Transactions that read, decide and write: software transactional memory on etcd.
///
/// A closure gets a [`View`] of the store, reads from it, and writes into it. What it wrote is
/// committed at once if nobody changed meanwhile what it read; if somebody did, the closure runs
/// again. So it must do nothing that cannot be done twice, and need not be quick.
///
/// ```no_run
/// use tenure::{Client, Error, Json, Result, Stm};
///
/// # async fn example() -> Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let moved = Stm::new(&client)
///     .run(async |view| {
///         let (ann, bob) = (view.get("seats/ann").await?, view.get("seats/bob").await?);
///         if ann.is_none() || bob.is_some() {
///             return Ok::<_, Error>(false); // nothing is written
///         }
///         view.delete("seats/ann")?;
///         view.put("seats/bob", Json("window"))?;
///         Ok(true)
///     })
///     .await?;
/// # let _ = moved;
/// # Ok(())
/// # }
/// ```
///
/// # Calls
///
/// One for each read that was not read before, and one for the commit. A conflict costs that one
/// alone: its answer tells what the next run would read. Where everything is read as of one
/// revision, a transaction that writes nothing has no commit. After some tries there are pauses
/// between them.
///
/// Transactions of one client that fight over a key take turns, in this process, and one hands to
/// the next what it left behind; those that have no such key in common go on side by side. A turn
/// that lasts for more than a second is waited for no longer: that of a closure that does something
/// else meanwhile, or that runs another transaction on the same keys.
///
/// # Fenced
///
/// `Stm::new(&guard.kv())` commits only while the guard's lock is held: see
/// [`Held::kv`](crate::Held::kv). A transaction that writes nothing asks no fence.
///
/// # An unknown outcome
///
/// A commit is sent once. If no answer comes the error is
/// [`Indeterminate`](crate::ErrorKind::Indeterminate), and the writes are made all, or none, now or
/// a little later. To have certainty, put a key that is named after the request in the same
/// transaction, and return if it is there already; then it can be run again.
#[derive(Clone)]
pub struct Stm {
    client: Client,
    isolation: Isolation,
    tries: u32,
    max_ops: usize,
    contended: Option<Contended>,
}

/// A key that all of them change.
#[derive(Clone)]
struct Contended {
    key: Bytes,
    /// Kept, so that the next one begins with what the last one left.
    lane: Arc<Lane>,
}

impl Stm {
    /// Transactions of this client, [`SerializableSnapshot`](Isolation::SerializableSnapshot).
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            isolation: Isolation::default(),
            tries: TRIES,
            max_ops: MAX_OPS,
            contended: None,
        }
    }

    /// What they are kept apart from.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// How often one is tried at most; 100 by default, which takes about ten seconds of conflicts.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// How many keys one may read, or write, at most: 128 by default, as etcd allows. For servers
    /// that run with another `--max-txn-ops`. A fence takes one.
    #[must_use]
    pub fn max_ops(mut self, max_ops: usize) -> Self {
        self.max_ops = max_ops;
        self
    }

    /// For a key that all of them read first and change: they take turns from the first try on, and
    /// one begins with what the last one left, without reading it. A transaction costs one call
    /// then, unless another process changed the key meanwhile, which it counts as a try.
    ///
    /// Without it they take turns once they fight.
    #[must_use]
    pub fn contended(mut self, key: impl Into<Key>) -> Self {
        let key = key.into().into_bytes();
        let lane = self.client.lanes().of(&self.client, &key);
        self.contended = Some(Contended { key, lane });
        self
    }

    /// Runs a transaction: `work` as often as it takes, and a commit. Answers with what `work`
    /// returned in the run that was committed.
    ///
    /// An error of `work` ends it: nothing is written, and the error is returned. Errors of this
    /// library turn into one, so its type must be `From<Error>`; where nothing else says which it
    /// is, `Ok::<_, tenure::Error>(..)` does.
    ///
    /// # Errors
    ///
    /// - `Conflict` if others were quicker at each try; [`Error::conflicting_keys`] tells where.
    /// - `InvalidInput`, before anything is written, for more keys than
    ///   [`max_ops`](Self::max_ops), and for no tries.
    /// - `Indeterminate` if nobody can say whether it was committed, else those of
    ///   [`Client::txn`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is done before the future is polled. Dropping it gives up: nothing is written, or, if
    /// the commit was under way, everything may be.
    pub fn run<T, E, F, Fut>(
        &self,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + use<T, E, F, Fut>
    where
        F: FnMut(View) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let stm = self.clone();
        async move { stm.repeat(work).await }
    }

    async fn repeat<T, E, F, Fut>(&self, mut work: F) -> Result<T, E>
    where
        F: FnMut(View) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        if self.tries == 0 {
            return Err(Error::invalid(WHAT, "it needs one try at least").into());
        }
        let mut pace = Pace::new(self.tries);
        let mut attempt = self.attempt(Turns::new());
        loop {
            let shared = Arc::new(Mutex::new(attempt));
            let outcome = work(View::new(self, &shared)).await;
            // Nothing in here can panic while it is held.
            let done = shared.lock().unwrap_or_else(PoisonError::into_inner).end();
            attempt = if done.proves_nothing(outcome.is_err()) {
                self.afresh(done, &mut pace).await?
            } else {
                let value = outcome?;
                match done.commit(&self.client, self.max_ops).await? {
                    Commit::Done => return Ok(value),
                    Commit::Conflict(conflict) => self.after(conflict, &mut pace).await?,
                }
            };
        }
    }

    /// Whom to wait for before this key is read.
    fn lane(&self, key: &Bytes) -> Option<Arc<Lane>> {
        match &self.contended {
            Some(contended) if contended.key == *key => Some(Arc::clone(&contended.lane)),
            _ => self.client.lanes().busy(&self.client, key),
        }
    }

    fn attempt(&self, turns: Turns) -> Attempt {
        Attempt::new(self.isolation, turns)
    }

    /// The next attempt after one that saw what is old, or compacted away.
    async fn afresh(&self, done: Attempt, pace: &mut Pace) -> Result<Attempt> {
        if let Some(error) = done.compacted.filter(|_| !done.remembered) {
            self.pause(pace).await.ok_or(error)?;
        }
        Ok(self.attempt(done.turns))
    }

    /// The next attempt after a conflict.
    async fn after(&self, conflict: Conflict, pace: &mut Pace) -> Result<Attempt> {
        let Conflict { snapshot, changed, wanted, turns } = conflict;
        tracing::debug!(?changed, "a transaction is tried again");
        let Some(paused) = self.pause(pace).await else {
            return Err(Error::conflict(WHAT, changed.into_iter().collect(), self.tries));
        };
        let waits = !wanted.iter().all(|key| turns.contains_key(key));
        let turns = if waits { self.turns(turns, wanted).await } else { turns };
        let newest = turns.values().filter_map(|turn| turn.snapshot()).max_by_key(|s| s.revision);
        let left = newest.filter(|left| left.revision > snapshot.revision);
        let mut attempt = self.attempt(turns);
        match left {
            Some(left) => attempt.know((*left).clone(), true),
            // What was told before a pause is old by now.
            None if paused => {}
            None => attempt.know(snapshot, false),
        }
        Ok(attempt)
    }

    /// Gives the turns back, and takes those of all these keys: in their order, so that nobody
    /// waits for anybody in a circle.
    async fn turns(&self, held: Turns, mut wanted: BTreeSet<Bytes>) -> Turns {
        wanted.extend(held.into_keys());
        let mut turns = Turns::new();
        for key in wanted {
            let lane = self.client.lanes().of(&self.client, &key);
            let Some(turn) = lane.turn(&self.client).await else { break };
            turns.insert(key, turn);
        }
        turns
    }

    /// Before the next try: whether there was a pause, or `None` if there is no next try.
    async fn pause(&self, pace: &mut Pace) -> Option<bool> {
        let pause = pace.again(Uuid::new_v4().as_u128() as u32)?;
        if pause.is_zero() {
            return Some(false);
        }
        self.client.sleep(pause).await;
        Some(true)
    }
}

impl fmt::Debug for Stm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stm")
            .field("isolation", &self.isolation)
            .field("tries", &self.tries)
            .field("max_ops", &self.max_ops)
            .finish_non_exhaustive()
    }
}
