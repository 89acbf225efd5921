//! How a client is set up.

use std::{fmt, sync::Arc, time::Duration};

use http::Uri;

use crate::{
    client::Client,
    clock::Clock,
    error::{Error, Result},
    transport::{Connector, Tcp},
};

/// Where the actors of a client run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a thread of their own.
    Thread,
    /// On the actix arbiter of the caller.
    CurrentArbiter,
    /// On the caller's `LocalSet`.
    Local,
}

/// A user and the password that goes with it. Never printed.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_alive_time: Duration,
    pub(crate) keep_alive_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) max_send_bytes: usize,
    pub(crate) max_receive_bytes: usize,
    pub(crate) credentials: Option<Credentials>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::Tls>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) clock: Clock,
    pub(crate) place: Place,
}

impl Config {
    /// Whether connections may use TLS.
    pub(crate) fn uses_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }
}

/// One member's client URL, as `http://host:port` or `https://host:port`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) name: Arc<str>,
    pub(crate) uri: Uri,
}

const ETCD_PORT: u16 = 2379;
/// Beyond this a time limit is none, and the arithmetic of others overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Less, and a watch could never get past one big answer.
const LEAST_RECEIVED: usize = 2 * 1024 * 1024;

impl Endpoint {
    /// `http://host:port`, `https://host:port`, `host:port` or `host`; the port is 2379 and the
    /// scheme the one that fits the TLS setting where they are not given, a path is dropped.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self> {
        if text.contains('@') {
            return Err(Error::invalid(
                "endpoints",
                "an endpoint carries no user; set user and password on the builder",
            ));
        }
        let bad = |rule: String| Error::invalid("endpoints", format!("{text:?}: {rule}"));
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some((scheme, _)) => {
                return Err(bad(format!("the scheme is http or https, not {scheme:?}")));
            }
            None if tls => ("https", text),
            None => ("http", text),
        };
        if scheme == "https" && !tls {
            return Err(bad("https needs TLS: set it on the builder (feature `tls`)".into()));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority: http::uri::Authority =
            authority.parse().map_err(|error| bad(format!("no host and port: {error}")))?;
        let host = authority.host();
        if host.is_empty() {
            return Err(bad("the host is missing".into()));
        }
        // `Authority::port` is silent about what is no port.
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            Some(port) => {
                port.parse::<u16>().map_err(|_| bad("the port is a number up to 65535".into()))?
            }
            None => ETCD_PORT,
        };
        let name = format!("{scheme}://{host}:{port}");
        let uri = name.parse().map_err(|error| bad(format!("no URL: {error}")))?;
        Ok(Self { name: name.into(), uri })
    }
}

/// Sets up a [`Client`]; made by [`Client::builder`].
///
/// Every setting has a default that suits a cluster in one data centre. Nothing is checked before
/// [`connect`](Self::connect), which names what is wrong.
#[must_use = "a builder does nothing until `connect`"]
#[derive(Clone)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    config: Config,
}

impl ClientBuilder {
    pub(crate) fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            config: Config {
                endpoints: Vec::new(),
                read_timeout: Duration::from_secs(10),
                write_timeout: Duration::from_secs(8),
                attempt_timeout: Duration::from_secs(1),
                connect_timeout: Duration::from_secs(2),
                keep_alive_time: Duration::from_millis(5500),
                keep_alive_timeout: Duration::from_secs(3),
                retries: u32::MAX,
                max_send_bytes: 2 * 1024 * 1024,
                max_receive_bytes: i32::MAX as usize,
                credentials: None,
                #[cfg(feature = "tls")]
                tls: None,
                connector: Arc::new(Tcp),
                clock: Clock::boot(),
                place: Place::Thread,
            },
        }
    }

    /// How long a call may take in all, retries included. By default 10 s for what may be
    /// repeated (reads, lease calls) and 8 s for a write: etcd itself answers one after up to 7 s
    /// when its leader died.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.read_timeout = timeout;
        self.config.write_timeout = timeout;
        self
    }

    /// How long one attempt of a repeatable call waits before another member is asked; doubles
    /// once all of them were. 1 s by default.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.config.attempt_timeout = timeout;
        self
    }

    /// How long opening a connection may take. 2 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How often a connection in use is pinged. 5.5 s by default; etcd closes the connections of
    /// clients that ping more often than every 5 s. An idle connection is not pinged.
    pub fn keep_alive_time(mut self, time: Duration) -> Self {
        self.config.keep_alive_time = time;
        self
    }

    /// How long a ping waits before the connection counts as dead. 3 s by default.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.config.keep_alive_timeout = timeout;
        self
    }

    /// How many times a call may be tried again; 0 for never. By default as often as its time
    /// allows. Writes are tried again only if nothing reached a server.
    pub fn retries(mut self, retries: u32) -> Self {
        self.config.retries = retries;
        self
    }

    /// The largest request that is sent, in bytes. 2 MiB by default, which is what etcd's own
    /// limit of 1.5 MiB leaves room for.
    pub fn max_send_bytes(mut self, bytes: usize) -> Self {
        self.config.max_send_bytes = bytes;
        self
    }

    /// The largest answer that is accepted, in bytes. 2 GiB by default, and 2 MiB at least: etcd
    /// sends answers of any size. A larger one is [`ErrorKind::Protocol`](crate::ErrorKind).
    pub fn max_receive_bytes(mut self, bytes: usize) -> Self {
        self.config.max_receive_bytes = bytes;
        self
    }

    /// Signs in with a password. The token it gives is kept fresh.
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.config.credentials =
            Some(Credentials { user: user.into(), password: password.into() });
        self
    }

    /// Uses TLS, for `https` endpoints and those without a scheme.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Takes connections from `connector` in place of TCP.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.config.connector = Arc::new(connector);
        self
    }

    /// Counts deadlines on `clock`: [`Clock::tokio`] in tests that pause the time, which need
    /// [`local`](Self::local) too: the time of the client's own thread cannot be paused.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.config.clock = clock;
        self
    }

    /// Runs the client's actors and connections on the actix arbiter that
    /// [`connect`](Self::connect) is called on, in place of a thread of their own.
    ///
    /// The arbiter must not be blocked: leases are renewed there. When it ends, so does the client.
    /// Call it from the arbiter's own task, not from one that `tokio::spawn` made.
    pub fn current_arbiter(mut self) -> Self {
        self.config.place = Place::CurrentArbiter;
        self
    }

    /// Runs the client's actors and connections on the [`LocalSet`](tokio::task::LocalSet) that
    /// [`connect`](Self::connect) is called on: nothing crosses a thread, which is the fastest
    /// path. Calls may still come from anywhere. Outside a `LocalSet` tokio panics.
    ///
    /// The set must keep running, and not be blocked: leases are renewed there. When it ends, so
    /// does the client; its runtime must not end before it.
    pub fn local(mut self) -> Self {
        self.config.place = Place::Local;
        self
    }

    /// Makes the client.
    ///
    /// Without a user nothing is sent: the first call connects, and says so if it cannot. With
    /// one, this signs in first; etcd with authentication switched off is fine.
    ///
    /// Cancel safe: dropping the future drops the client.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a setting that cannot be; `Unauthenticated` for a wrong user or
    /// password; `Unavailable` or `Timeout` if nobody could be asked.
    pub async fn connect(self) -> Result<Client> {
        let config = self.check()?;
        Client::start(config).await
    }

    fn check(self) -> Result<Config> {
        let Self { endpoints, mut config } = self;
        if endpoints.is_empty() {
            return Err(Error::invalid("endpoints", "at least one is needed"));
        }
        let tls = config.uses_tls();
        config.endpoints =
            endpoints.iter().map(|text| Endpoint::parse(text, tls)).collect::<Result<_>>()?;
        for (field, span) in [
            ("request_timeout", config.read_timeout),
            ("request_timeout", config.write_timeout),
            ("attempt_timeout", config.attempt_timeout),
            ("connect_timeout", config.connect_timeout),
            ("keep_alive_time", config.keep_alive_time),
            ("keep_alive_timeout", config.keep_alive_timeout),
        ] {
            if span.is_zero() {
                return Err(Error::invalid(field, "must be longer than nothing"));
            }
            if span > LONGEST {
                return Err(Error::invalid(field, "must not be longer than a year"));
            }
        }
        if config.max_receive_bytes < LEAST_RECEIVED {
            let rule =
                format!("must be {LEAST_RECEIVED} at least: etcd parts big answers at that size");
            return Err(Error::invalid("max_receive_bytes", rule));
        }
        if let Some(credentials) = &config.credentials
            && (credentials.user.is_empty() || credentials.password.is_empty())
        {
            return Err(Error::invalid("user", "user and password must not be empty"));
        }
        Ok(config)
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password may have been put where it does not belong.
        let after_user = |text: &String| text.rsplit('@').next().unwrap_or_default().to_owned();
        let endpoints: Vec<_> = self.endpoints.iter().map(after_user).collect();
        f.debug_struct("ClientBuilder").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_or_a_host() {
        let name = |text, tls| Endpoint::parse(text, tls).map(|endpoint| endpoint.name.to_string());
        assert_eq!(name("10.0.0.1:2379", false).unwrap(), "http://10.0.0.1:2379");
        assert_eq!(name("etcd", false).unwrap(), "http://etcd:2379");
        assert_eq!(name("etcd", true).unwrap(), "https://etcd:2379");
        assert_eq!(name("http://etcd:1/x?y", false).unwrap(), "http://etcd:1");
        assert_eq!(name("[::1]:2379", false).unwrap(), "http://[::1]:2379");
    }

    #[test]
    fn a_bad_endpoint_is_named_with_the_rule_it_breaks() {
        for (text, rule) in [
            ("", "no host"),
            ("http://", "no host"),
            ("http://:2379", "host"),
            ("etcd:", "port"),
            ("etcd:99999", "port"),
            ("ftp://etcd", "scheme"),
            ("https://etcd", "TLS"),
            ("http://user:secret@etcd", "no user"),
            ("https://user:secret@etcd", "no user"),
            ("ftp://user:secret@etcd", "no user"),
            ("http://a b", "no host"),
        ] {
            let error = Endpoint::parse(text, false).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.to_string().contains(rule), "{text:?}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
