//! How to reach etcd: the flags that every verb has.

use std::{
    env,
    ffi::{OsStr, OsString},
    time::Duration,
};

use clap::Args;
use tenure::{Client, Tls};

use crate::{duration, exit::Failure};

const LOCAL: &str = "127.0.0.1:2379";

// Not `Debug`: it holds a password.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The members' client URLs, commas between [default: 127.0.0.1:2379]
    #[arg(long, global = true, value_name = "URLS")]
    #[arg(env = "TENURE_ENDPOINTS", hide_env = true)]
    endpoints: Option<String>,

    /// Sign in as this user
    #[arg(long, global = true, value_name = "NAME[:PASSWORD]")]
    #[arg(env = "TENURE_USER", hide_env = true)]
    user: Option<String>,

    /// The user's password; better in TENURE_PASSWORD, which others cannot see in a list of
    /// processes
    #[arg(long, global = true, env = "TENURE_PASSWORD", hide_env = true)]
    password: Option<String>,

    /// Trust servers whose certificate this CA has signed
    #[arg(long, global = true, value_name = "FILE", env = "TENURE_CACERT", hide_env = true)]
    cacert: Option<OsString>,

    /// Show this certificate to servers
    #[arg(long, global = true, value_name = "FILE", env = "TENURE_CERT", hide_env = true)]
    cert: Option<OsString>,

    /// The key of that certificate
    #[arg(long = "key", id = "cert_key", global = true, value_name = "FILE")]
    #[arg(env = "TENURE_KEY", hide_env = true)]
    cert_key: Option<OsString>,

    /// How long opening a connection may take [default: 2s]
    #[arg(long, global = true, value_name = "TIME")]
    #[arg(env = "TENURE_DIAL_TIMEOUT", hide_env = true)]
    dial_timeout: Option<String>,

    /// How long one call to etcd may take [default: 10s, for a write 8s]
    #[arg(long, global = true, value_name = "TIME")]
    #[arg(env = "TENURE_COMMAND_TIMEOUT", hide_env = true)]
    command_timeout: Option<String>,
}

impl Connection {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let endpoints = self.endpoints.clone().or_from("ETCDCTL_ENDPOINTS");
        let endpoints = endpoints.as_deref().unwrap_or(LOCAL);
        let endpoints: Vec<_> =
            endpoints.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
        let mut client = Client::builder(endpoints.iter().copied());
        if let Some((user, password)) = self.credentials()? {
            client = client.user(user, password);
        }
        if let Some(tls) = self.tls(&endpoints)? {
            client = client.tls(tls);
        }
        if let Some(timeout) = span(&self.dial_timeout, "DIAL_TIMEOUT")? {
            client = client.connect_timeout(timeout);
        }
        if let Some(timeout) = span(&self.command_timeout, "COMMAND_TIMEOUT")? {
            client = client.request_timeout(timeout);
        }
        Ok(client.connect().await?)
    }

    /// As etcdctl reads them: with a password of its own the user may have colons.
    fn credentials(&self) -> Result<Option<(String, String)>, Failure> {
        let Some(user) = self.user.clone().or_from("ETCDCTL_USER") else { return Ok(None) };
        if let Some(password) = self.password.clone().or_from("ETCDCTL_PASSWORD") {
            return Ok(Some((user, password)));
        }
        let split = user.split_once(':').map(|(user, password)| (user.into(), password.into()));
        split
            .map(Some)
            .ok_or_else(|| Failure::usage("there is a user and no password: set TENURE_PASSWORD"))
    }

    fn tls(&self, endpoints: &[&str]) -> Result<Option<Tls>, Failure> {
        let ca = self.cacert.clone().or_from("ETCDCTL_CACERT");
        let cert = self.cert.clone().or_from("ETCDCTL_CERT");
        let key = self.cert_key.clone().or_from("ETCDCTL_KEY");
        let secure = endpoints.iter().any(|url| url.starts_with("https://"));
        if !secure && ca.is_none() && cert.is_none() && key.is_none() {
            return Ok(None);
        }
        let mut tls = Tls::new();
        if let Some(ca) = ca {
            tls = tls.ca_file(ca)?;
        }
        match (cert, key) {
            (Some(cert), Some(key)) => tls = tls.identity_files(cert, key)?,
            (None, None) => {}
            _ => return Err(Failure::usage("--cert and --key go together")),
        }
        Ok(Some(tls))
    }
}

fn span(given: &Option<String>, name: &str) -> Result<Option<Duration>, Failure> {
    let text = given.clone().or_from(&format!("ETCDCTL_{name}"));
    let span = text.map(|text| duration::parse(&text)).transpose();
    span.map_err(|error| Failure::usage(format!("{name}: {error}")))
}

/// A setting that may come from etcdctl's environment, too. What is empty is not set.
trait Setting: Sized {
    fn or_from(self, name: &str) -> Self;
}

impl<T: From<String> + AsRef<OsStr>> Setting for Option<T> {
    fn or_from(self, name: &str) -> Self {
        let environment = || env::var(name).ok().map(T::from);
        let set = |text: &T| !text.as_ref().is_empty();
        self.filter(set).or_else(|| environment().filter(set))
    }
}
