//! etcd's command line: what of it means something here, and what does not.

use std::{error::Error, fmt, net::SocketAddr, time::Duration};

use crate::Builder;

/// etcd's flags without a value, which have no effect here.
const SWITCHES: &[&str] = &[
    "auto-tls",
    "client-cert-auth",
    "enable-grpc-gateway",
    "enable-log-rotation",
    "enable-pprof",
    "enable-v2",
    "experimental-enable-distributed-tracing",
    "experimental-enable-lease-checkpoint",
    "experimental-enable-lease-checkpoint-persist",
    "experimental-initial-corrupt-check",
    "experimental-compact-hash-check-enabled",
    "experimental-memory-mlock",
    "experimental-peer-skip-client-san-verification",
    "experimental-stop-grpc-service-on-defrag",
    "experimental-txn-mode-write-with-shared-buffer",
    "experimental-wait-cluster-ready",
    "force-new-cluster",
    "initial-election-tick-advance",
    "peer-auto-tls",
    "peer-client-cert-auth",
    "pre-vote",
    "socket-reuse-address",
    "socket-reuse-port",
    "strict-reconfig-check",
    "unsafe-no-fsync",
];

/// etcd's flags with a value, which have no effect here.
const IDLE: &[&str] = &[
    "auto-compaction-mode",
    "auto-compaction-retention",
    "backend-batch-interval",
    "backend-batch-limit",
    "backend-bbolt-freelist-type",
    "bcrypt-cost",
    "cert-file",
    "cipher-suites",
    "client-cert-allowed-hostname",
    "client-cert-file",
    "client-crl-file",
    "client-key-file",
    "config-file",
    "cors",
    "data-dir",
    "discovery",
    "discovery-fallback",
    "discovery-proxy",
    "discovery-srv",
    "discovery-srv-name",
    "experimental-bootstrap-defrag-threshold-megabytes",
    "experimental-compact-hash-check-time",
    "experimental-compaction-batch-limit",
    "experimental-compaction-sleep-interval",
    "experimental-corrupt-check-time",
    "experimental-distributed-tracing-address",
    "experimental-distributed-tracing-instance-id",
    "experimental-distributed-tracing-sampling-rate",
    "experimental-distributed-tracing-service-name",
    "experimental-downgrade-check-time",
    "experimental-enable-v2v3",
    "experimental-max-learners",
    "experimental-snapshot-catchup-entries",
    "experimental-warning-apply-duration",
    "experimental-warning-unary-request-duration",
    "grpc-keepalive-interval",
    "grpc-keepalive-min-time",
    "grpc-keepalive-timeout",
    "host-whitelist",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "key-file",
    "listen-client-http-urls",
    "listen-metrics-urls",
    "listen-peer-urls",
    "log-format",
    "log-outputs",
    "log-rotation-config-json",
    "logger",
    "max-concurrent-streams",
    "max-snapshots",
    "max-wals",
    "metrics",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "peer-cert-file",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-crl-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "proxy",
    "proxy-dial-timeout",
    "proxy-failure-wait",
    "proxy-read-timeout",
    "proxy-refresh-interval",
    "proxy-write-timeout",
    "raft-read-timeout",
    "raft-write-timeout",
    "self-signed-cert-validity",
    "snapshot-count",
    "tls-max-version",
    "tls-min-version",
    "trusted-ca-file",
    "v2-deprecation",
    "wal-dir",
];

/// A command line written for etcd, read for an [`Embedded`](crate::Embedded).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EtcdFlags {
    /// The server that it asks for, as far as this one can be it.
    pub builder: Builder,
    /// Whether it says where to listen, with `--listen-client-urls`.
    pub listens: bool,
    /// `--log-level`: `debug`, `info`, `warn`, `error`, `panic` or `fatal`.
    pub log_level: Option<String>,
    /// The flags that have no effect here, with their dashes.
    pub without_effect: Vec<String>,
}

/// A flag that etcd would not take, or that this server cannot be without lying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagError(String);

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for FlagError {}

impl EtcdFlags {
    /// Reads etcd's flags on top of what `builder` says, in both spellings: `--flag value` and
    /// `--flag=value`.
    ///
    /// ```
    /// use tenure_embed::{Embedded, EtcdFlags};
    ///
    /// let line = ["--max-txn-ops=4", "--data-dir", "/var/lib/etcd"];
    /// let flags = EtcdFlags::read(Embedded::builder(), line)?;
    /// assert_eq!(flags.without_effect, ["--data-dir"]);
    /// # Ok::<(), tenure_embed::FlagError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// For a flag that etcd 3.5 does not know, a value that cannot be, and for TLS, unix sockets
    /// and JWT, which are not there.
    pub fn read<T: Into<String>>(
        builder: Builder,
        line: impl IntoIterator<Item = T>,
    ) -> Result<Self, FlagError> {
        let mut flags =
            Self { builder, listens: false, log_level: None, without_effect: Vec::new() };
        let mut words = line.into_iter().map(Into::into);
        while let Some(word) = words.next() {
            let named = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
            let named = named.filter(|named| !named.is_empty());
            let named = named.ok_or_else(|| FlagError(format!("{word:?} is not a flag")))?;
            let (name, value) = match named.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (named, None),
            };
            if SWITCHES.contains(&name) {
                // etcd takes no value from the next word here.
                flags.without_effect.push(format!("--{name}"));
                continue;
            }
            let value = value.or_else(|| words.next());
            let value = value.ok_or_else(|| FlagError(format!("--{name} needs a value")))?;
            flags.take(name, &value)?;
        }
        Ok(flags)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), FlagError> {
        let builder = self.builder.clone();
        self.builder = match name {
            "name" => builder.name(value),
            "listen-client-urls" => {
                self.listens = true;
                listen(builder, name, value)?
            }
            "advertise-client-urls" => builder.advertise(value.split(',').map(str::trim)),
            "max-txn-ops" => builder.max_txn_ops(number(name, value)?),
            "max-request-bytes" => builder.max_request_bytes(number(name, value)?),
            // A negative quota is none.
            "quota-backend-bytes" => {
                let quota: i64 = number(name, value)?;
                builder.quota_backend_bytes(u64::try_from(quota).unwrap_or(u64::MAX))
            }
            "heartbeat-interval" => {
                builder.heartbeat_interval(Duration::from_millis(number(name, value)?))
            }
            "election-timeout" => {
                builder.election_timeout(Duration::from_millis(number(name, value)?))
            }
            "auth-token" if value == "simple" => builder,
            "auth-token" => {
                return Err(FlagError(format!(
                    "--{name}={value}: the embedded server has simple tokens only"
                )));
            }
            "auth-token-ttl" => builder.auth_token_ttl(Duration::from_secs(number(name, value)?)),
            "experimental-watch-progress-notify-interval" => {
                builder.watch_progress_notify_interval(duration(name, value)?)
            }
            "log-level" => {
                self.log_level = Some(value.to_owned());
                builder
            }
            idle if IDLE.contains(&idle) => {
                self.without_effect.push(format!("--{name}"));
                builder
            }
            _ => return Err(FlagError(format!("--{name} is not a flag of etcd 3.5"))),
        };
        Ok(())
    }
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, FlagError> {
    value.parse().map_err(|_| FlagError(format!("--{name}={value}: not a number that can be")))
}

/// A length of time as Go writes it.
fn duration(name: &str, value: &str) -> Result<Duration, FlagError> {
    let wrong = || FlagError(format!("--{name}={value}: not a time such as 500ms, 10s or 1m30s"));
    let (mut total, mut rest) = (Duration::ZERO, value);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let amount: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let seconds = match &rest[digits..digits + unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(amount * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[digits + unit..];
    }
    Ok(total)
}

/// The addresses of URLs such as `http://127.0.0.1:2379`.
fn listen(mut builder: Builder, name: &str, urls: &str) -> Result<Builder, FlagError> {
    for url in urls.split(',').map(str::trim) {
        let wrong = |why: &str| FlagError(format!("--{name}={url}: {why}"));
        let Some((scheme, host)) = url.split_once("://") else {
            return Err(wrong("not a URL such as http://127.0.0.1:2379"));
        };
        match scheme {
            "http" => {}
            "https" => return Err(wrong("the embedded server has no TLS")),
            _ => return Err(wrong("the embedded server listens on TCP only")),
        }
        let host = host.trim_end_matches('/');
        let host = host
            .strip_prefix("localhost:")
            .map_or_else(|| host.to_owned(), |port| format!("127.0.0.1:{port}"));
        let address: SocketAddr =
            host.parse().map_err(|_| wrong("not an IP address (or localhost) and a port"))?;
        builder = builder.listen(address);
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{EtcdFlags, FlagError, IDLE, SWITCHES, duration};
    use crate::Embedded;

    fn read(line: &[&str]) -> Result<EtcdFlags, FlagError> {
        EtcdFlags::read(Embedded::builder(), line.iter().copied())
    }

    #[test]
    fn both_spellings_are_read() {
        for line in [&["--max-txn-ops", "4"][..], &["--max-txn-ops=4"], &["-max-txn-ops=4"]] {
            let flags = read(line).unwrap();
            assert_eq!(flags.builder.settings.max_txn_ops, 4);
            assert!(flags.without_effect.is_empty());
        }
    }

    #[test]
    fn what_has_no_effect_is_named_and_a_switch_takes_no_word() {
        let flags = read(&["--unsafe-no-fsync", "--data-dir", "x", "--pre-vote=false"]).unwrap();
        assert_eq!(flags.without_effect, ["--unsafe-no-fsync", "--data-dir", "--pre-vote"]);
    }

    #[test]
    fn what_cannot_be_is_refused_and_says_why() {
        for line in [
            "--no-such-flag=1",
            "word",
            "--",
            "--data-dir",
            "--max-txn-ops=many",
            "--auth-token=jwt,pub-key=a",
            "--listen-client-urls=https://127.0.0.1:2379",
            "--listen-client-urls=unix://x:1",
            "--listen-client-urls=127.0.0.1:2379",
            "--experimental-watch-progress-notify-interval=5",
        ] {
            let error = read(&[line]).unwrap_err().to_string();
            assert!(error.contains(line.split('=').next().unwrap()), "{error}");
        }
    }

    #[test]
    fn urls_become_addresses() {
        let flags = read(&["--listen-client-urls", "http://localhost:1,http://[::1]:2"]).unwrap();
        let listen = flags.builder.listen;
        assert_eq!(listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert!(flags.listens && !read(&["--name=x"]).unwrap().listens);
    }

    #[test]
    fn times_are_read_as_go_writes_them() {
        let read = |value| duration("x", value);
        assert_eq!(read("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(read("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(read("1.5h").unwrap(), Duration::from_secs(5400));
        for wrong in ["", "1", "s", "1x", "-1s", "9e99h", "99999999999999999999h"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_flag_is_listed_once() {
        for list in [SWITCHES, IDLE] {
            assert!(list.iter().all(|flag| !flag.starts_with('-')));
        }
        assert!(SWITCHES.iter().all(|flag| !IDLE.contains(flag)));
    }
}
