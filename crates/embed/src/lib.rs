//! An etcd v3 server inside the process: one node, nothing installed, in real or virtual time.
//!
//! For development, examples and tests. It speaks etcd's API as etcd 3.5 does, down to the texts of
//! its errors, on a loopback port or through a pipe without any socket. It is **not a cluster**:
//! one process, no replication, and its data are in memory and gone with it.
//!
//! ```
//! use tenure_embed::Embedded;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Embedded::start().await?;
//! let client = server.client().await?;
//! client.put("color", "green").await?;
//!
//! // Anything that speaks etcd's API may come, too.
//! println!("etcdctl --endpoints={} get color", server.endpoints()[0]);
//! # client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Virtual time
//!
//! All its timers are tokio's. With a client on the same thread, over a pipe, under tokio's paused
//! clock, an hour passes in no time: nothing runs but what waits for the next timer.
//!
//! ```
//! use std::time::Duration;
//! use tenure_embed::Embedded;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
//! tokio::task::LocalSet::new().block_on(&runtime, async {
//!     let server = Embedded::builder().in_process().start().await?;
//!     let client = server.connect().local().connect().await?;
//!     let hour = Duration::from_secs(3600);
//!     let lease = client.lease_grant(hour).await?.id;
//!     client.put("here", "until then").lease(lease).await?;
//!
//!     tokio::time::sleep(hour).await;
//!     assert!(client.get("here").await?.kvs.is_empty());
//!     client.close().await;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Hurting it
//!
//! [`Embedded::inject`] delays or refuses calls, or carries them out and loses the answer;
//! [`Embedded::cut_connections`], [`silence_streams`](Embedded::silence_streams),
//! [`refuse_connections`](Embedded::refuse_connections), [`lose_leader`](Embedded::lose_leader),
//! [`expire_lease`](Embedded::expire_lease), [`raise_alarm`](Embedded::raise_alarm) and
//! [`restart`](Embedded::restart) do what their names say, and [`Embedded::tap`] keeps what was
//! asked and answered.

mod auth;
mod builder;
mod embedded;
mod flags;
mod hurt;
mod lease;
mod node;
mod refusal;
mod serve;
mod services;
mod settings;
mod store;
mod tap;
mod token;
mod watch;

pub use self::{
    builder::Builder,
    embedded::{Alarm, Data, Embedded},
    flags::{EtcdFlags, FlagError},
    hurt::{Call, Fault, Injected},
    serve::InProcess,
    tap::{Recorded, Tap},
};
