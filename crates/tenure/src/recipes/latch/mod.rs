//! A door that opens when so many have come.

mod actor;
mod count_down;

use std::fmt;

use bytes::Bytes;
use tenure_core::{EventKind, Key, KeyRange, KeyValue, Revision, name::escape, prefix_end};
use uuid::Uuid;

pub use self::{
    actor::{AwaitLatch, CountDownBy, LatchActor},
    count_down::CountDown,
};
use super::{
    follow::Seen,
    name::Kind,
    once::{once, persist_a_while},
    wait::Wait,
};
use crate::{
    client::Client,
    error::{Error, ErrorKind, LossReason, Result},
    ops::{Compare, Delete, Get, Op, OpResponse, Put, Txn},
};

const WHAT: &str = "latch";
const KIND: Kind = Kind { path: "latch", name: "latch name", prefix: "latch prefix" };

/// A latch: it is set to a number, each [`count_down`](Self::count_down) takes one off, and at zero
/// it opens for all who wait.
///
/// It hangs on no session: what was counted stays counted, whatever becomes of who did it.
///
/// ```no_run
/// use tenure::{Client, CountDownLatch};
///
/// # async fn example() -> tenure::Result<()> {
/// let client = Client::connect(["10.0.0.1:2379"]).await?;
/// let loaded = CountDownLatch::new(&client, "loaded");
/// loaded.try_set_count(3).await?;
/// // In each of three workers; one that says it twice is counted once.
/// loaded.count_down().arrival("worker-1").await?;
/// // Anywhere:
/// loaded.wait().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Keys
///
/// Under `tenure/latch/<name>/`: `count`, which is there while something is missing, `arrived/<id>`
/// for each that was counted, `open` from zero on, and `set`, what it was set to, and by which call.
/// `tenure/once/<lease>` is written for a moment when a latch is made.
#[derive(Clone)]
pub struct CountDownLatch {
    client: Client,
    prefix: Result<Bytes>,
}

impl CountDownLatch {
    /// The latch of this name. A bad name (empty, or with a NUL) is told by what is asked of it.
    pub fn new(client: &Client, name: impl AsRef<str>) -> Self {
        Self { client: client.clone(), prefix: KIND.prefix_of(name.as_ref()) }
    }

    /// The latch under a raw prefix, with a slash behind it.
    pub fn at(client: &Client, prefix: impl Into<Key>) -> Self {
        Self { client: client.clone(), prefix: KIND.raw_prefix(prefix.into()) }
    }

    fn keys(&self) -> Result<Keys> {
        Ok(Keys { prefix: self.prefix.clone()? })
    }

    /// Sets it to `count`, unless something is missing from the count that it has: false then. One
    /// that is open is shut again.
    ///
    /// Dropped before it ends, it is set, or will be within 15 s, or not.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name or a count of zero, `Indeterminate` if nobody can say whether
    /// it is set, else those of [`Client::txn`].
    pub async fn try_set_count(&self, count: u64) -> Result<bool> {
        let keys = self.keys()?;
        if count == 0 {
            return Err(Error::invalid("latch count", "it must be one at least"));
        }
        let this = format!("{count} {}", Uuid::new_v4());
        loop {
            let set = self.client.get(keys.set()).keys_only().await?.into_kv();
            let put = [(keys.count(), count.to_string()), (keys.set(), this.clone())]
                .map(|(key, value)| Put::new(key, value).into());
            let idle = Compare::missing(keys.count());
            let Some(set) = set else {
                if once(&self.client, [idle, Compare::missing(keys.set())], put).await? {
                    return Ok(true);
                }
                if self.client.count(keys.count()).await?.count > 0 {
                    return Ok(false);
                }
                continue;
            };
            // Copies of it that come later find another revision there.
            let same = Compare::mod_revision(keys.set()).equal(set.mod_revision);
            let clear = [Delete::new(keys.arrivals()), Delete::new(keys.open())].map(Op::from);
            let txn = Txn::new()
                .when([idle, same])
                .and_then(put.into_iter().chain(clear))
                .or_else([Get::new(keys.count()), Get::new(keys.set())]);
            let (answer, repeated) = persist_a_while(&self.client, &txn).await?;
            if answer.succeeded {
                return Ok(true);
            }
            let [count, now] = two(answer.responses)?;
            if now.as_ref().is_some_and(|now| now.value == this) {
                return Ok(true);
            }
            if repeated && now.is_some_and(|now| now.mod_revision != set.mod_revision) {
                return Err(unknown());
            }
            if count.is_some() {
                return Ok(false);
            }
        }
    }

    /// Takes one off the count, and answers with what is still missing: 0 once it is open, and for
    /// a latch that was never set.
    ///
    /// Sent again it counts once. Who wants to say it again after a failure, or after a restart,
    /// names the [`arrival`](CountDown::arrival): of one name, one counts.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Indeterminate` if nobody can say whether it was counted,
    /// `Protocol` if the count is not a number, else those of [`Client::txn`].
    pub fn count_down(&self) -> CountDown {
        CountDown::new(&self.client, self.keys())
    }

    /// How many are missing; 0 if it is open, or was never set.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Protocol` if the count is not a number, else those of
    /// [`Client::get`].
    pub async fn count(&self) -> Result<u64> {
        let keys = self.keys()?;
        self.client.get(keys.count()).await?.kv().map_or(Ok(0), number)
    }

    /// Waits until it is open; passes at once if it is. One that was never set is not.
    /// [`timeout`](Wait::timeout) and [`session`](Wait::session) limit the waiting.
    ///
    /// Only the opening wakes whoever waits, not the counting. Cancel safe.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, `Timeout` after the timeout, `Lost` if somebody deletes the
    /// latch, or the session is lost, `PermissionDenied`, `Closed`.
    pub fn wait(&self) -> Wait {
        let mut waiting = Waiting { set: None };
        let keys = self.keys();
        let range = keys.clone().map(|keys| keys.told());
        Wait::new(WHAT, &self.client, range, move |seen| {
            keys.as_ref().map_err(Error::clone).and_then(|keys| waiting.handle(keys, seen))
        })
    }

    /// Deletes all of it; false if there is nothing. Whoever waits gets
    /// [`Lost`](ErrorKind::Lost) with [`KeyDeleted`](LossReason::KeyDeleted).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::txn`].
    pub async fn delete(&self) -> Result<bool> {
        let keys = self.keys()?;
        loop {
            let set = self.client.get(keys.set()).keys_only().await?.into_kv();
            let Some(set) = set else { return Ok(false) };
            let same = Compare::mod_revision(keys.set()).equal(set.mod_revision);
            let all = KeyRange::prefix(keys.prefix.clone());
            let txn = Txn::new().when([same]).and_then([Delete::new(all)]);
            let (answer, repeated) = persist_a_while(&self.client, &txn).await?;
            if answer.succeeded || repeated {
                return Ok(true);
            }
        }
    }
}

impl fmt::Debug for CountDownLatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix.as_ref().ok();
        f.debug_struct("CountDownLatch").field("prefix", &prefix).finish_non_exhaustive()
    }
}

/// The keys of a latch.
#[derive(Clone)]
struct Keys {
    prefix: Bytes,
}

impl Keys {
    fn key(&self, rest: &[u8]) -> Bytes {
        [&self.prefix[..], rest].concat().into()
    }

    fn count(&self) -> Bytes {
        self.key(b"count")
    }

    fn open(&self) -> Bytes {
        self.key(b"open")
    }

    fn set(&self) -> Bytes {
        self.key(b"set")
    }

    fn arrivals(&self) -> KeyRange {
        KeyRange::prefix(self.key(b"arrived/"))
    }

    fn arrival(&self, id: &str) -> Bytes {
        self.key(format!("arrived/{}", escape(id)).as_bytes())
    }

    /// What those who wait hear of: `open` and `set`, and not the counting.
    fn told(&self) -> KeyRange {
        // It ends in a slash.
        let end = prefix_end(&self.prefix).unwrap_or_else(|| self.set());
        KeyRange::span(self.open(), end)
    }
}

/// What somebody who waits has seen.
struct Waiting {
    /// The latch it waits for, once there is one: when `set` was created, and last put.
    set: Option<(Revision, Revision)>,
}

impl Waiting {
    /// Whether the latch is open, or was meanwhile.
    fn handle(&mut self, keys: &Keys, seen: Seen) -> Result<bool> {
        match seen {
            Seen::All { kvs, .. } => {
                let find = |key: Bytes| kvs.iter().find(|kv| kv.key == key);
                Ok(find(keys.open()).is_some() || self.is_set(find(keys.set()))?)
            }
            Seen::Changes(events) => {
                for event in events {
                    let kv = &event.kv;
                    let put = event.kind == EventKind::Put;
                    let open = match kv.key == keys.open() {
                        true => put,
                        false => {
                            self.is_set(put.then_some(kv).filter(|kv| kv.key == keys.set()))?
                        }
                    };
                    if open {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Takes in `set` as it is now. Set again, it was open before; made again, it was deleted.
    fn is_set(&mut self, set: Option<&KeyValue>) -> Result<bool> {
        let now = set.map(|kv| (kv.create_revision, kv.mod_revision));
        match (self.set, now) {
            (None, now) => {
                self.set = now;
                Ok(false)
            }
            (Some(was), Some(now)) if was.0 == now.0 => Ok(was.1 < now.1),
            (Some(_), _) => Err(Error::lost(WHAT, LossReason::KeyDeleted)),
        }
    }
}

fn number(kv: &KeyValue) -> Result<u64> {
    let number = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::new(ErrorKind::Protocol, WHAT, "the count is not a number"))
}

fn two(responses: Vec<OpResponse>) -> Result<[Option<KeyValue>; 2]> {
    let mut gets = responses.into_iter().filter_map(OpResponse::into_get);
    match (gets.next(), gets.next()) {
        (Some(one), Some(other)) => Ok([one.into_kv(), other.into_kv()]),
        _ => Err(crate::ops::other_kind()),
    }
}

fn unknown() -> Error {
    let text = "it was not answered, and somebody else was there since";
    Error::new(ErrorKind::Indeterminate, WHAT, text)
}
