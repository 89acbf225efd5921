//! Servers for tests of what is built on tenure: an embedded one, in real or virtual time, and real
//! etcd processes; and a proxy that breaks connections.
//!
//! - [`TestServer`] is one server, by default an embedded one: nothing needs to be installed.
//! - [`virtual_time`] runs a test in which an hour takes milliseconds.
//! - [`Embedded`], in [`embed`], is that server itself, and the faults it can have.
//! - [`find_servers`] finds the etcd servers of this machine; [`on_each_server`] runs a test on
//!   every version that is there and on the embedded server, over TCP and in process.
//! - [`Cluster`] starts members as child processes on free ports, and hurts them: kill, restart,
//!   pause, isolate.
//! - [`Proxy`] stands before one of them and breaks the link: refuse, black hole, delay, reset.
//! - [`TestCerts`] makes the certificates of a test with TLS, [`Tls`] hands them to a cluster.
//! - [`eventually`] awaits a state with a deadline, so that no test sleeps and hopes.
//!
//! A service's own test:
//!
//! ```
//! use std::time::Duration;
//! use tenure_testkit::virtual_time;
//!
//! // #[test]
//! // fn a_worker_that_says_nothing_for_an_hour_is_forgotten() {
//! virtual_time(async |server| {
//!     let client = server.client().await?;
//!     let lease = client.lease_grant(Duration::from_secs(3600)).await?;
//!     client.put("worker/1", "here").lease(lease.id).await?;
//!
//!     tokio::time::sleep(Duration::from_secs(3599)).await;
//!     assert_eq!(client.count("worker/1").await?.count, 1);
//!     tokio::time::sleep(Duration::from_secs(2)).await;
//!     assert_eq!(client.count("worker/1").await?.count, 0);
//!     Ok::<_, tenure::Error>(())
//! })
//! .unwrap();
//! // }
//! ```
//!
//! And one of several servers, for what they do when they are hurt:
//!
//! ```no_run
//! use std::time::Duration;
//! use tenure_testkit::{Cluster, Proxy, eventually, on_each_etcd};
//!
//! # async fn test() {
//! on_each_etcd(async |etcd| {
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
mod counts;
mod error;
mod etcd_binary;
mod eventually;
mod hosted;
mod playground;
mod port;
mod proxy;
mod server;
mod test_server;
mod virtual_time;

pub use certs::TestCerts;
pub use cluster::{Builder, Cluster, Member, Tls};
pub use error::Error;
pub use etcd_binary::{EtcdBinary, find_servers};
pub use eventually::{Settles, eventually};
pub use playground::Playground;
pub use proxy::{Direction, Proxy};
pub use server::{Server, on_each_etcd, on_each_listener, on_each_server};
pub use tenure_embed::{self as embed, Call, Embedded, Fault};
pub use test_server::{ServerBuilder, TestServer};
pub use virtual_time::virtual_time;
