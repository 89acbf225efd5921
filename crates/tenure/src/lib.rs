//! Coordination for Rust services, on [etcd](https://etcd.io).
//!
//! A [`Session`] is a place in the cluster that ends when this process does. A [`Mutex`] on it is a
//! lock that one holder has among all processes that use the same etcd:
//!
//! ```no_run
//! use tenure::{Client, Mutex, Session};
//!
//! # async fn example() -> tenure::Result<()> {
//! let client = Client::connect(["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]).await?;
//! let session = Session::open(&client).await?;
//!
//! let guard = Mutex::new(&session, "reports").acquire().await?;
//! guard.kv().put("reports/today", "all is well").await?; // refused once the lock is lost
//! guard.release().await?;
//! session.close().await
//! # }
//! ```
//!
//! On a session, too: [`RwLock`], [`Semaphore`], [`Election`] with [work that runs while
//! leading](Election::lead), [`MultiMutex`], [`DoubleBarrier`], [`Queue`] and [`PriorityQueue`]; and on
//! a client alone [`Barrier`], [`CountDownLatch`], [`Stm`], [`AtomicCounter`], [`Sequence`] and [`IdBlocks`]. What is
//! held is a guard: it says when it is lost, has a [`Fence`] that proves it, and makes writes that
//! etcd refuses after.
//!
//! Below them stands a client for etcd v3: keys, transactions, watches and leases of a cluster that
//! loses members while it serves.
//!
//! ```no_run
//! use futures::TryStreamExt;
//! use tenure::{Client, Compare, KeyRange, Put};
//!
//! # async fn example() -> tenure::Result<()> {
//! let client = Client::connect(["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]).await?;
//!
//! let mut changes = client.watch(KeyRange::prefix("job/")).await?;
//! client.put("job/1", "ready").await?;
//!
//! let claim = client
//!     .txn()
//!     .when([Compare::value("job/1").equal("ready")])
//!     .and_then([Put::new("job/1", "taken")])
//!     .await?;
//! assert!(claim.succeeded);
//!
//! while let Some(change) = changes.try_next().await? {
//!     for event in change.events() {
//!         println!("{:?} {:?}", event.kind, event.kv.key);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - A guard ends, on this process's own clock, before its lease can expire in etcd; and a write
//!   through it is refused by etcd once it is lost, whatever this process believes.
//! - A write is sent at most once unless nothing reached a server. If nobody can say whether it
//!   was applied, the error is [`ErrorKind::Indeterminate`].
//! - A read moves to another member: with one member of three dead or frozen, none fails.
//! - A watch tells every change once, in order, the events of a revision together, whatever
//!   happens to connections and members, or ends with an error that says why it cannot.
//! - A lease counts as lost before it can expire on the server: deadlines count from when a
//!   renewal was sent, on a clock that counts suspend.
//! - No call waits for ever, but for its turn (a lock, a barrier, an empty queue): that, without a time
//!   limit, for as long as the session lives, or the client where there is none.
//!
//! # Where it runs
//!
//! [`Client::connect`] starts one thread for connections and actors, so handles work from any
//! runtime; [`ClientBuilder::local`] and [`ClientBuilder::current_arbiter`] run them where the
//! caller is.
//!
//! [`actor`] is the same in actix messages.
//!
//! # Features
//!
//! - `tls`: TLS by rustls.

pub mod actor;
mod client;
mod clock;
mod config;
mod error;
mod ops;
mod recipes;
mod runtime;
mod session;
mod transport;
#[cfg(not(feature = "server-stubs"))]
mod wire;
#[cfg(feature = "server-stubs")]
#[doc(hidden)]
pub mod wire;

pub use tenure_core::{
    BadRange, EtcdError, Event, EventKind, Fence, FenceGate, Key, KeyRange, KeyValue, LeaseId,
    Moment, ParseFenceError, RangeEnd, Revision, StaleFence, Value, prefix_end, retry::Code,
};

#[cfg(feature = "tls")]
pub use self::transport::Tls;
pub use self::{
    client::{
        Client, Grant, KeepAlive, KeptLease, Kv, LeaseGrant, LeaseList, LeaseRevoked, LeaseState,
        LeaseTimeToLive, Leases, ServerCampaign, ServerElection, ServerLeader, ServerLock,
        ServerLocked, TimeToLive, Watch, WatchRequest, WatchResponse, WatchState, WatchStream,
    },
    clock::Clock,
    config::ClientBuilder,
    error::{Error, ErrorKind, LossReason, Result},
    ops::{
        CallOptions, Compact, CompactResponse, Compare, Comparison, Count, CountResponse, Delete,
        DeleteResponse, Get, GetResponse, Header, IntoValue, Json, KeepValue, Op, OpResponse,
        Order, Put, PutResponse, PutValue, Reply, SortBy, Txn, TxnResponse, Via,
    },
    recipes::{
        Acquire, Acquiring, AtomicCounter, Barrier, BarrierGuard, ClaimState, Contender, CountDown,
        CountDownLatch, Counted, Delivery, DoubleBarrier, Election, Enqueue, Enter, Entering,
        Health, Held, Holder, IdBlocks, Isolation, Lead, LeadState, Leader, Leadership, Leading,
        Leave, Membership, MultiGuard, MultiMutex, Mutex, MutexGuard, Observer, Party, PermitClaim,
        Permits, PriorityQueue, Queue, QueueItem, Queued, QueuedState, ReadGuard, Reign, Release,
        RwLock, Semaphore, Sequence, Stm, Take, TransferError, View, Wait, WriteGuard,
    },
    session::{Session, SessionConfig},
    transport::{Connector, Io, Tcp},
};

/// The README's examples compile.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../../../README.md")]
mod readme {}
