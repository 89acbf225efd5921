use std::{env, fmt};

use crate::{Error, EtcdBinary, find_servers};

/// A kind of server to test on. [`TestServer::builder`](crate::TestServer::builder) starts one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// A real etcd, as a process of its own.
    Etcd(EtcdBinary),
    /// The embedded server, on a port of 127.0.0.1.
    Embedded,
    /// The embedded server without a port: clients come through a pipe.
    InProcess,
}

impl Server {
    /// The servers to test on: each etcd of [`find_servers`], then the embedded one over TCP, and
    /// in process. With `TENURE_EMBEDDED=off` in the environment only the real ones, so that who
    /// runs the same tests on one etcd after the other runs the embedded server once.
    ///
    /// # Errors
    ///
    /// As [`find_servers`].
    pub fn all() -> Result<Vec<Self>, Error> {
        let mut servers: Vec<_> = find_servers()?.into_iter().map(Self::Etcd).collect();
        if env::var_os("TENURE_EMBEDDED").is_none_or(|value| value != "off") {
            servers.extend([Self::Embedded, Self::InProcess]);
        }
        Ok(servers)
    }

    /// Those of [`all`](Self::all) that listen on a port, which a [`Proxy`](crate::Proxy) can
    /// stand before.
    ///
    /// # Errors
    ///
    /// As [`find_servers`].
    pub fn listening() -> Result<Vec<Self>, Error> {
        let mut servers = Self::all()?;
        servers.retain(|server| *server != Self::InProcess);
        Ok(servers)
    }
}

/// For example `etcd 3.5.1 (/usr/bin/etcd)`.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(etcd) => etcd.fmt(f),
            Self::Embedded => f.write_str("the embedded server, over TCP"),
            Self::InProcess => f.write_str("the embedded server, in process"),
        }
    }
}

/// Runs `test` once for each server of [`Server::all`], one after the other. For tests of what
/// does not need more than one member, nor its death.
///
/// The server is printed before each run, so that a failure names it.
///
/// # Panics
///
/// When there is no etcd, and when `test` does.
pub async fn on_each_server(test: impl AsyncFn(Server)) {
    run(Server::all(), test).await;
}

/// As [`on_each_server`], on those that listen on a port: for tests that put a
/// [`Proxy`](crate::Proxy) before the server, or tell another process where it is.
///
/// # Panics
///
/// When there is no etcd, and when `test` does.
pub async fn on_each_listener(test: impl AsyncFn(Server)) {
    run(Server::listening(), test).await;
}

/// Runs `test` once for each etcd of [`find_servers`], one after the other: for tests that need
/// several members, or kill, freeze or cut them off.
///
/// # Panics
///
/// When there is none, and when `test` does.
pub async fn on_each_etcd(test: impl AsyncFn(EtcdBinary)) {
    run(find_servers(), test).await;
}

async fn run<S: fmt::Display>(servers: Result<Vec<S>, Error>, test: impl AsyncFn(S)) {
    for server in servers.unwrap_or_else(|error| panic!("{error}")) {
        println!("on {server}:");
        test(server).await;
    }
}
