use std::fmt;

use bytes::Bytes;
use tenure_core::{Key, Revision};

use crate::{client::Client, error::Result, recipes::name::Kind};

const KIND: Kind = Kind { path: "sequence", name: "sequence name", prefix: "sequence key" };
/// How often a number is asked for while nobody can say whether one was given.
const TRIES: u32 = 3;

/// Numbers that rise, and that nobody is given twice: each is the revision of a write.
///
/// One call each, and nothing to fight over: contenders do not slow one another down. Between two
/// numbers lie as many as there were other writes to the cluster. They begin anew in another
/// cluster, and may go back where a cluster is restored from an old snapshot.
///
/// ```no_run
/// use tenure::{Client, Sequence};
///
/// # async fn example() -> tenure::Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let order = Sequence::new(&client, "orders").next().await?;
/// # let _ = order;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Sequence {
    client: Client,
    key: Result<Bytes>,
}

impl Sequence {
    /// The sequence of this name, at `tenure/sequence/<name>`. A bad name (empty, or with a NUL)
    /// is told by [`next`](Self::next).
    pub fn new(client: &Client, name: impl AsRef<str>) -> Self {
        Self { client: client.clone(), key: KIND.key_of(name.as_ref()) }
    }

    /// The sequence at this key, which is overwritten. Another key changes nothing about the
    /// numbers, only about who may ask for them.
    pub fn at(client: &Client, key: impl Into<Key>) -> Self {
        Self { client: client.clone(), key: KIND.raw_key(key.into()) }
    }

    /// A number that is above all that were given before this was called.
    ///
    /// An answer that is lost costs a number: it is asked again, three times at most. So does
    /// dropping the future.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::put`].
    pub async fn next(&self) -> Result<Revision> {
        let key = self.key.clone()?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.client.put(&key, "").await {
                Ok(put) => return Ok(put.header.revision),
                Err(error) if error.may_have_been_applied() && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequence").field("key", &self.key).finish_non_exhaustive()
    }
}
