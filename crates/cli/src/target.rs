//! Which lock, or what else, is meant.

use std::{ffi::OsString, fmt, os::unix::ffi::OsStrExt};

use clap::Args;
use tenure::{Client, Contender, Mutex, Session};

use crate::{bytes_text::shown, exit::Failure};

#[derive(Args, Debug)]
pub(crate) struct Target {
    /// Its name
    #[arg(required_unless_present = "prefix")]
    name: Option<String>,

    /// In place of a name: what is on this raw prefix, as `etcdctl lock PREFIX` and Go's client
    /// have it
    #[arg(long, conflicts_with = "name")]
    prefix: Option<OsString>,
}

impl Target {
    pub(crate) fn mutex(&self, session: &Session) -> Mutex {
        match &self.prefix {
            Some(prefix) => Mutex::at(session, prefix.as_bytes()),
            None => Mutex::new(session, self.name()),
        }
    }

    /// Who holds it and who waits, the holder first.
    pub(crate) async fn contenders(&self, client: &Client) -> tenure::Result<Vec<Contender>> {
        match &self.prefix {
            Some(prefix) => Mutex::inspect_at(client, prefix.as_bytes()).await,
            None => Mutex::inspect(client, self.name()).await,
        }
    }

    pub(crate) fn raw_prefix(&self) -> Option<&[u8]> {
        self.prefix.as_ref().map(|prefix| prefix.as_bytes())
    }

    /// The name of what has no layout to share with others.
    pub(crate) fn only_name(&self, what: &str) -> Result<&str, Failure> {
        match self.prefix {
            Some(_) => Err(Failure::usage(format!("--prefix: {what} has a name only"))),
            None => Ok(self.name()),
        }
    }

    /// Empty, which no lock's name may be, only where there is a prefix.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// `"jobs"`, or `at prefix "jobs"`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "at prefix \"{}\"", shown(prefix.as_bytes())),
            None => write!(f, "\"{}\"", shown(self.name().as_bytes())),
        }
    }
}
