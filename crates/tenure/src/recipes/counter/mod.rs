//! Numbers that many processes count with.

mod actor;
mod id_blocks;
mod sequence;

use std::fmt;

use bytes::Bytes;
use tenure_core::Key;

pub use self::{
    actor::{AddCount, CounterActor, GetCount, SetCount},
    id_blocks::IdBlocks,
    sequence::Sequence,
};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    recipes::{name::Kind, stm::Stm},
};

const WHAT: &str = "counter";
const KIND: Kind = Kind { path: "counter", name: "counter name", prefix: "counter key" };

/// A number that many processes add to, and none loses what another one added.
///
/// The key holds it as decimal digits, as JSON and clients in other languages write numbers. A
/// counter that was never written counts as 0.
///
/// ```no_run
/// use tenure::{AtomicCounter, Client};
///
/// # async fn example() -> tenure::Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let visits = AtomicCounter::new(&client, "visits");
/// let added = visits.add(1).await?;
/// println!("{} before, {} after", added.before, added.after);
/// # Ok(())
/// # }
/// ```
///
/// # Calls
///
/// A change costs one call while no other process changes the counter, and two or more while
/// others do; the first one reads it besides. Tasks of one client take turns.
///
/// # An unknown outcome
///
/// A change whose answer is lost is [`Indeterminate`](crate::ErrorKind::Indeterminate), and is not
/// sent again: it is made once, or not at all.
#[derive(Clone)]
pub struct AtomicCounter {
    stm: Stm,
    client: Client,
    key: Result<Bytes>,
}

/// What a counter was before a change, and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The number that the change was made to.
    pub before: i64,
    /// The number that it made.
    pub after: i64,
}

impl AtomicCounter {
    /// The counter of this name, at `tenure/counter/<name>`. A bad name (empty, or with a NUL) is
    /// told by each call.
    pub fn new(client: &Client, name: impl AsRef<str>) -> Self {
        Self::on(client, KIND.key_of(name.as_ref()))
    }

    /// The counter at this key.
    pub fn at(client: &Client, key: impl Into<Key>) -> Self {
        Self::on(client, KIND.raw_key(key.into()))
    }

    fn on(client: &Client, key: Result<Bytes>) -> Self {
        let stm = Stm::new(client);
        let stm = match &key {
            Ok(key) => stm.contended(key),
            Err(_) => stm,
        };
        Self { stm, client: client.clone(), key }
    }

    /// The number; 0 if it was never written.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Protocol` if the key holds no number, else those of
    /// [`Client::get`].
    pub async fn get(&self) -> Result<i64> {
        let read = self.client.get(self.key.clone()?).await?;
        number(read.into_kv().map(|kv| kv.value))
    }

    /// Adds to it; a negative number is taken away.
    ///
    /// # Errors
    ///
    /// As [`Stm::run`], `InvalidInput` if the sum is no 64-bit number, and `Protocol` if the key
    /// holds no number. Nothing is written then.
    pub async fn add(&self, delta: i64) -> Result<Counted> {
        let counted = self.change(|before| {
            let sum = before.checked_add(delta);
            sum.map(Some).ok_or_else(|| Error::invalid(WHAT, "the sum is above 64 bits"))
        });
        counted.await?.ok_or_else(crate::ops::other_kind)
    }

    /// Makes it `after` if it is `before`: whether it was. Errors are those of [`add`](Self::add).
    pub async fn compare_and_set(&self, before: i64, after: i64) -> Result<bool> {
        let counted = self.change(|now| Ok((now == before).then_some(after))).await?;
        Ok(counted.is_some())
    }

    /// Makes it this number, whatever the key holds.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::put`].
    pub async fn set(&self, number: i64) -> Result<()> {
        self.client.put(self.key.clone()?, number.to_string()).await?;
        Ok(())
    }

    /// Makes it what `next` says, if it says anything.
    async fn change(&self, next: impl Fn(i64) -> Result<Option<i64>>) -> Result<Option<Counted>> {
        let (key, next) = (self.key.clone()?, &next);
        self.stm
            .run(async |view| {
                let before = number(view.get(&key).await?)?;
                let Some(after) = next(before)? else { return Ok(None) };
                view.put(&key, after.to_string())?;
                Ok(Some(Counted { before, after }))
            })
            .await
    }
}

impl fmt::Debug for AtomicCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicCounter").field("key", &self.key).finish_non_exhaustive()
    }
}

fn number(value: Option<Bytes>) -> Result<i64> {
    let Some(value) = value else { return Ok(0) };
    let digits = std::str::from_utf8(&value).ok();
    let number = digits.and_then(|digits| digits.trim().parse().ok());
    number.ok_or_else(|| Error::new(ErrorKind::Protocol, WHAT, "the key holds no 64-bit number"))
}
