use std::{
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;

use super::AtomicCounter;
use crate::{
    client::Client,
    error::{Error, Result},
};

/// Numbers from 1 on that nobody is given twice, fetched in blocks: one call for many of them.
///
/// Clones share their block. The numbers of different processes do not come in order, and what is
/// left of a block when its process ends is given to nobody: there are gaps.
///
/// ```no_run
/// use tenure::{Client, IdBlocks};
///
/// # async fn example() -> tenure::Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let ids = IdBlocks::new(&client, "orders", 100);
/// let (first, second) = (ids.next().await?, ids.next().await?);
/// assert!(first < second);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IdBlocks {
    counter: AtomicCounter,
    size: u32,
    block: Arc<Block>,
}

struct Block {
    rest: Mutex<RangeInclusive<i64>>,
    /// Whose turn it is to fetch the next block.
    turn: Semaphore,
}

impl Block {
    fn take(&self) -> Option<i64> {
        // Nothing in here can panic while it is held.
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn fill(&self, ids: RangeInclusive<i64>) {
        // As above.
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = ids;
    }
}

impl IdBlocks {
    /// The ids of this name, fetched `size` at a time: of the counter of this name, which
    /// [`AtomicCounter`] reads as the highest id that is in a block. A bad name (empty, or with a
    /// NUL) and a size of 0 are told by [`next`](Self::next).
    pub fn new(client: &Client, name: impl AsRef<str>, size: u32) -> Self {
        Self::of(AtomicCounter::new(client, name), size)
    }

    /// Ids from any counter, `size` at a time.
    pub fn of(counter: AtomicCounter, size: u32) -> Self {
        // Empty: the first call fetches.
        let rest = Mutex::new(RangeInclusive::new(1, 0));
        Self { counter, size, block: Arc::new(Block { rest, turn: Semaphore::new(1) }) }
    }

    /// An id. One task fetches the next block at a time, for all.
    ///
    /// # Errors
    ///
    /// Those of [`AtomicCounter::add`], when a block could not be fetched; the next call tries
    /// again. A block whose answer was lost may be a gap.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no id, or the block that was on its way.
    pub async fn next(&self) -> Result<i64> {
        if self.size == 0 {
            return Err(Error::invalid("ids", "a block has one id at least"));
        }
        loop {
            if let Some(id) = self.block.take() {
                return Ok(id);
            }
            // It is never closed.
            let _turn = self.block.turn.acquire().await.ok();
            if let Some(id) = self.block.take() {
                return Ok(id);
            }
            let added = self.counter.add(self.size.into()).await?;
            self.block.fill(added.before + 1..=added.after);
        }
    }
}

impl fmt::Debug for IdBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdBlocks").field("counter", &self.counter).finish_non_exhaustive()
    }
}
