//! Real etcd processes, and a proxy that breaks connections, for tests of what is built on tenure.
//!
//! - [`find_servers`] and [`on_each_server`] find the etcd servers of this machine, so that a test
//!   runs on every version that is there.
//! - [`Cluster`] starts members as child processes on free ports, and hurts them: kill, restart,
//!   pause, isolate.
//! - [`Proxy`] stands before one of them and breaks the link: refuse, black hole, delay, reset.
//! - [`TestCerts`] makes the certificates of a test with TLS, [`Tls`] hands them to a cluster.
//! - [`eventually`] awaits a state with a deadline, so that no test sleeps and hopes.
//!
//! ```no_run
//! use std::time::Duration;
//! use tenure_testkit::{Cluster, Proxy, eventually, on_each_server};
//!
//! # async fn test() {
//! on_each_server(async |etcd| {
//!     let cluster = Cluster::builder(&etcd).members(3).fast(true).start().await.unwrap();
//!     let leader = cluster.leader().await.unwrap();
//!     let proxy = Proxy::start(&cluster.endpoints()[leader]).await.unwrap();
//!     // ... connect a client to proxy.endpoint(), and then:
//!     cluster.pause(leader).unwrap();
//!     eventually(Duration::from_secs(5), "another member leads", async || {
//!         cluster.leader().await.is_ok_and(|now| now != leader)
//!     })
//!     .await;
//! })
//! .await;
//! # }
//! ```
//!
//! For Linux: how it holds ports, pauses members, and tells who dialled, are Linux's ways.

mod certs;
mod cluster;
mod error;
mod eventually;
mod playground;
mod port;
mod proxy;
mod server;

pub use certs::TestCerts;
pub use cluster::{Builder, Cluster, Member, Tls};
pub use error::Error;
pub use eventually::{Settles, eventually};
pub use playground::Playground;
pub use proxy::{Direction, Proxy};
pub use server::{EtcdBinary, find_servers, on_each_server};
