use std::{sync::Arc, time::Duration};

use tenure_core::LeaseId;

use super::Session;
use crate::{
    client::Client,
    error::{Error, Result},
};

/// How a session is set up; made by [`Session::builder`].
#[derive(Clone, Debug)]
pub struct SessionConfig {
    pub(super) ttl: Duration,
    pub(super) name: Arc<str>,
    pub(super) reenter: bool,
    pub(super) resume: Option<LeaseId>,
}

/// Shorter, and one slow disk or one election of etcd's may cost the session.
const SHORT: Duration = Duration::from_secs(10);

impl SessionConfig {
    /// A session with a TTL of 15 s, that is over when it is lost.
    pub fn new() -> Self {
        Self { ttl: Duration::from_secs(15), name: "".into(), reenter: false, resume: None }
    }

    /// How long the session outlives this process when that dies or is cut off, 15 s by default.
    /// The server may give more: its least is 2 s. Below 10 s a pause that one would rather sit
    /// out (an election in etcd takes a few seconds) ends the session; it warns then. Below 3 s even
    /// one member that stands still does: a renewal moves on after 1.5 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// What people shall read in the records of what this session holds, beside host and process.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Begins anew when it is lost: with another lease, one [generation](Session::generation)
    /// higher. What was held stays lost.
    pub fn reenter(mut self) -> Self {
        self.reenter = true;
        self
    }

    /// Goes on with this lease, of an earlier process; see [`Session::resume`].
    pub fn resume(mut self, lease: LeaseId) -> Self {
        self.resume = Some(lease);
        self
    }

    /// Opens the session.
    ///
    /// # Errors
    ///
    /// As [`Session::open`], and as [`Session::resume`] if that was asked for.
    pub async fn open(self, client: &Client) -> Result<Session> {
        Session::start(client, self).await
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.ttl.is_zero() {
            return Err(Error::invalid("session", "the TTL must be longer than nothing"));
        }
        if self.ttl < SHORT && self.resume.is_none() {
            tracing::warn!(
                ttl = ?self.ttl,
                "a session with a TTL below 10 s does not survive an election in etcd"
            );
        }
        Ok(())
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self::new()
    }
}
