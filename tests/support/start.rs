//! What most tests begin with: a server, and a client of it.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::time::Duration;

use tenure::Client;
use tenure_testkit::{Cluster, EtcdBinary, Proxy, Server, TestServer};

/// Long for anything that should happen; only a failure takes it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A lease that outlives any test.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// One server of this kind, and a client of it.
pub(crate) async fn start(server: &Server) -> (TestServer, Client) {
    start_with(server, &[]).await
}

/// As [`start`], with flags of etcd.
pub(crate) async fn start_with(server: &Server, flags: &[&str]) -> (TestServer, Client) {
    let builder = TestServer::builder(server).fast(true);
    let builder = flags.iter().fold(builder, |builder, flag| builder.flag(*flag));
    let server = builder.start().await.unwrap();
    let client = server.client().await.unwrap();
    (server, client)
}

/// One server; a proxy before it, with a client whose connection can be hurt; and a client whose
/// connection cannot.
pub(crate) async fn behind_a_proxy(server: &Server) -> (TestServer, Proxy, Client, Client) {
    let (server, direct) = start(server).await;
    let proxy = Proxy::start(&server.endpoint()).await.unwrap();
    let client = Client::connect([proxy.endpoint()]).await.unwrap();
    (server, proxy, client, direct)
}

/// Real etcd: so many members, and a client of all of them.
pub(crate) async fn cluster(etcd: &EtcdBinary, members: usize) -> (Cluster, Client) {
    let cluster = Cluster::builder(etcd).members(members).fast(true).start().await.unwrap();
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    (cluster, client)
}
