//! What can be asked of the key space: each operation is a builder whose options are only those
//! that mean something for it.
//!
//! An operation made by a [`Client`](crate::Client) is run by awaiting it. One made by `new` goes
//! into a [`Txn`], or through [`Client::execute`](crate::Client::execute).

mod compact;
mod compare;
mod delete;
mod get;
mod json;
mod put;
mod response;
mod txn;

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tenure_core::{BadRange, KeyRange};

pub use self::{
    compact::Compact,
    compare::{Compare, Comparison},
    delete::Delete,
    get::{Count, Get, Order, SortBy},
    json::{IntoValue, Json},
    put::{KeepValue, Put, PutValue},
    response::{
        CompactResponse, CountResponse, DeleteResponse, GetResponse, Header, OpResponse,
        PutResponse, TxnResponse,
    },
    txn::Txn,
};
pub(crate) use self::{
    compare::{Operand, Relation},
    put::PutLease,
};
use crate::{
    client::Kv,
    error::{Error, Result},
};

/// One operation on the key space.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Op {
    /// Reads keys.
    Get(Get),
    /// Counts keys. Its answer is an [`OpResponse::Get`] without keys.
    Count(Count),
    /// Writes a key.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// Does several things at once, depending on conditions.
    Txn(Txn),
}

/// What applies to a call as a whole, whatever it asks for.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) require_leader: bool,
}

impl CallOptions {
    /// The client's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the call may take in all, retries included, in place of the client's setting.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Fails at once on a member that knows no leader, rather than waiting for one.
    #[must_use]
    pub fn require_leader(mut self) -> Self {
        self.require_leader = true;
        self
    }
}

/// The way an operation goes when it is awaited: the client that made it, with the options of the
/// call. Never named by users.
#[derive(Clone)]
pub struct Via {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) options: CallOptions,
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl Via {
    pub(crate) fn new(kv: &Arc<dyn Kv>) -> Self {
        Self { kv: Arc::clone(kv), options: CallOptions::default() }
    }

    fn run<T>(self, op: Op, take: fn(OpResponse) -> Option<T>) -> Reply<T> {
        Reply { answer: self.kv.execute(op, self.options), take }
    }
}

/// The answer to an operation, on its way.
///
/// Starts when it is first polled. Dropping it gives the operation up: a write that was sent may
/// be applied all the same.
#[must_use = "an operation runs when it is awaited"]
pub struct Reply<T> {
    answer: BoxFuture<'static, Result<OpResponse>>,
    take: fn(OpResponse) -> Option<T>,
}

impl<T> Future for Reply<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let response = std::task::ready!(self.answer.as_mut().poll(cx))?;
        Poll::Ready((self.take)(response).ok_or_else(other_kind))
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

pub(crate) fn other_kind() -> Error {
    Error::new(
        crate::ErrorKind::Protocol,
        "answer",
        "the answer is of another kind than the question",
    )
}

/// Refuses what etcd would refuse, or silently answer with nothing.
pub(crate) fn check_range(what: &'static str, range: &KeyRange) -> Result<()> {
    range.check().map_err(|bad| match bad {
        BadRange::EmptyKey => Error::invalid(what, "the key is empty"),
        BadRange::Reversed => {
            Error::invalid(what, "the range is empty: its end is not above its start")
        }
    })
}

/// How deep transactions may be nested: protobuf itself gives up at 100 messages.
const MAX_DEPTH: usize = 32;

impl Op {
    pub(crate) fn check(&self) -> Result<()> {
        self.check_at(0)
    }

    fn check_at(&self, depth: usize) -> Result<()> {
        match self {
            Self::Get(get) => get.check(),
            Self::Count(count) => count.check(),
            Self::Put(put) => put.check(),
            Self::Delete(delete) => check_range("delete", &delete.range),
            Self::Txn(_) if depth >= MAX_DEPTH => {
                Err(Error::invalid("txn", format!("nested deeper than {MAX_DEPTH}")))
            }
            Self::Txn(txn) => {
                for compare in &txn.compares {
                    check_range("compare", &compare.range)?;
                }
                txn.and_then.iter().chain(&txn.or_else).try_for_each(|op| op.check_at(depth + 1))
            }
        }
    }

    /// Whether it cannot change anything, whichever branches run.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Self::Get(_) | Self::Count(_) => true,
            Self::Put(_) | Self::Delete(_) => false,
            Self::Txn(txn) => txn.and_then.iter().chain(&txn.or_else).all(Self::is_read),
        }
    }
}

/// The setters and the awaiting that every operation of a client shares.
macro_rules! runs_via_a_client {
    ($op:ident, $variant:ident, $response:ty, $take:expr) => {
        impl $op<Via> {
            /// How long the call may take in all, retries included, in place of the client's
            /// setting.
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.via.options.timeout = Some(timeout);
                self
            }

            /// Fails at once on a member that knows no leader, rather than waiting for one.
            pub fn require_leader(mut self) -> Self {
                self.via.options.require_leader = true;
                self
            }
        }

        impl IntoFuture for $op<Via> {
            type Output = Result<$response>;
            type IntoFuture = Reply<$response>;

            fn into_future(self) -> Reply<$response> {
                let (op, via) = self.detach();
                via.run(Op::$variant(op), $take)
            }
        }

        impl<V> From<$op<V>> for Op {
            fn from(op: $op<V>) -> Self {
                Self::$variant(op.detach().0)
            }
        }
    };
}

runs_via_a_client!(Get, Get, GetResponse, |response| match response {
    OpResponse::Get(get) => Some(get),
    _ => None,
});
runs_via_a_client!(Count, Count, CountResponse, |response| match response {
    OpResponse::Get(get) => Some(CountResponse { header: get.header, count: get.count }),
    _ => None,
});
runs_via_a_client!(Put, Put, PutResponse, |response| match response {
    OpResponse::Put(put) => Some(put),
    _ => None,
});
runs_via_a_client!(Delete, Delete, DeleteResponse, |response| match response {
    OpResponse::Delete(delete) => Some(delete),
    _ => None,
});
runs_via_a_client!(Txn, Txn, TxnResponse, |response| match response {
    OpResponse::Txn(txn) => Some(txn),
    _ => None,
});
