use std::time::Duration;

/// Room that gRPC leaves a request above etcd's own limit.
const GRPC_OVERHEAD: usize = 512 * 1024;

/// The longest lease etcd grants, in seconds.
pub(crate) const MAX_TTL: i64 = 9_000_000_000;

/// What the server was told to be; by default as etcd is.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) max_txn_ops: usize,
    pub(crate) max_request_bytes: usize,
    pub(crate) quota_backend_bytes: u64,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) auth_token_ttl: Duration,
    pub(crate) progress_interval: Duration,
    /// The URLs of its list of members.
    pub(crate) advertised: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "embedded".to_owned(),
            max_txn_ops: 128,
            max_request_bytes: 1536 * 1024,
            quota_backend_bytes: 2 << 30,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            auth_token_ttl: Duration::from_secs(300),
            progress_interval: Duration::from_secs(600),
            advertised: Vec::new(),
        }
    }
}

impl Settings {
    /// The shortest lease, in seconds: one and a half elections, counted in whole heartbeats.
    pub(crate) fn min_ttl(&self) -> i64 {
        let heartbeat = self.heartbeat_interval.as_millis().max(1);
        let beats = self.election_timeout.as_millis() / heartbeat * 3 / 2;
        i64::try_from((beats * heartbeat).div_ceil(1000)).unwrap_or(MAX_TTL).clamp(1, MAX_TTL)
    }

    /// The largest message there may be.
    pub(crate) fn max_message(&self) -> usize {
        self.max_request_bytes.saturating_add(GRPC_OVERHEAD)
    }

    /// How long a request waits for a leader.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5).saturating_add(self.election_timeout.saturating_mul(2))
    }

    /// How long a stream that requires a leader does without one.
    pub(crate) fn leaderless_streams(&self) -> Duration {
        self.election_timeout.saturating_mul(3)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Settings;

    fn min_ttl(heartbeat: u64, election: u64) -> i64 {
        let heartbeat_interval = Duration::from_millis(heartbeat);
        let election_timeout = Duration::from_millis(election);
        Settings { heartbeat_interval, election_timeout, ..Settings::default() }.min_ttl()
    }

    #[test]
    fn the_shortest_lease_is_as_etcd_has_it() {
        assert_eq!(min_ttl(100, 1000), 2);
        assert_eq!(min_ttl(10, 100), 1);
        assert_eq!(min_ttl(300, 3000), 5);
    }
}
