use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::{Embedded, settings::Settings};

/// etcd tells progress no more often, either.
const LEAST_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What an [`Embedded`] is to be. Without any setting it is as etcd is, on a free loopback port.
#[derive(Clone, Debug)]
#[must_use = "nothing is started until `start` is called"]
pub struct Builder {
    pub(crate) settings: Settings,
    pub(crate) listen: Vec<SocketAddr>,
    in_process: bool,
    remote: bool,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { settings: Settings::default(), listen: Vec::new(), in_process: false, remote: false }
    }

    /// Listens on this address too; port 0 is a free one. By default on a free port of 127.0.0.1
    /// alone.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Opens no port, but for those of [`listen`](Self::listen): clients come through
    /// [`Embedded::connector`].
    pub fn in_process(mut self) -> Self {
        self.in_process = true;
        self
    }

    /// Lets [`listen`](Self::listen) take addresses that other machines can reach. Whoever
    /// connects then must know that this is one process, with its data in memory.
    pub fn allow_remote_unreplicated(mut self) -> Self {
        self.remote = true;
        self
    }

    /// The URLs that the list of members shows for this one; by default those it listens on.
    pub fn advertise<T: Into<String>>(mut self, urls: impl IntoIterator<Item = T>) -> Self {
        self.settings.advertised = urls.into_iter().map(Into::into).collect();
        self
    }

    /// The member's name; `embedded` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// The most compares, or operations of a branch, of one txn; 128 by default.
    pub fn max_txn_ops(mut self, operations: usize) -> Self {
        self.settings.max_txn_ops = operations;
        self
    }

    /// The largest request that is carried out, in bytes; 1.5 MiB by default. One above that and
    /// 512 KiB is not even read.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_request_bytes = bytes;
        self
    }

    /// How many bytes of keys, values and history there may be before the alarm NOSPACE goes up;
    /// 2 GiB by default, and for 0.
    pub fn quota_backend_bytes(mut self, bytes: u64) -> Self {
        self.settings.quota_backend_bytes =
            if bytes == 0 { Settings::default().quota_backend_bytes } else { bytes };
        self
    }

    /// How often a leader would be heard of; 100 ms by default. Nothing ticks here: with
    /// [`election_timeout`](Self::election_timeout) it says how short a lease can be.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.heartbeat_interval = interval;
        self
    }

    /// How long an election would take; 1 s by default. The shortest lease is one and a half
    /// times as long, in whole seconds. A request waits 5 s and two of these for a lost leader.
    pub fn election_timeout(mut self, timeout: Duration) -> Self {
        self.settings.election_timeout = timeout;
        self
    }

    /// Heartbeats of 10 ms and elections of 100 ms, so that a lease may be as short as 1 s.
    pub fn fast(self) -> Self {
        self.heartbeat_interval(Duration::from_millis(10))
            .election_timeout(Duration::from_millis(100))
    }

    /// How long a token is good for after it was last used; 300 s by default.
    pub fn auth_token_ttl(mut self, ttl: Duration) -> Self {
        self.settings.auth_token_ttl = ttl;
        self
    }

    /// How often a quiet watch that asked for it is told how far it is; 10 min by default and
    /// for 0, at least 100 ms.
    pub fn watch_progress_notify_interval(mut self, interval: Duration) -> Self {
        self.settings.progress_interval = match interval.is_zero() {
            true => Settings::default().progress_interval,
            false => interval.max(LEAST_PROGRESS_INTERVAL),
        };
        self
    }

    /// Starts the server, on the tokio runtime that this is called on. It ends with that runtime,
    /// or when the [`Embedded`] is dropped.
    ///
    /// # Errors
    ///
    /// When a port cannot be had, or [`listen`](Self::listen) names an address that is not of
    /// this machine alone, without [`allow_remote_unreplicated`](Self::allow_remote_unreplicated).
    pub async fn start(mut self) -> io::Result<Embedded> {
        if self.listen.is_empty() && !self.in_process {
            self.listen.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        }
        if let Some(remote) = self.listen.iter().find(|at| !at.ip().is_loopback())
            && !self.remote
        {
            let text = format!(
                "{remote} is not a loopback address: an embedded server is one process without \
                 replication; say allow_remote_unreplicated if others shall reach it"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Embedded::from_builder(self)
    }
}
