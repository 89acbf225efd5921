use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::probe;
use super::process::Process;
use crate::Error;
use crate::port::Port;

const POLL: Duration = Duration::from_millis(5);
const HAS_LEADER: &str = "etcd_server_has_leader";
/// How much of a member's log an error shows.
const LAST_LINES: usize = 20;

/// One etcd process of a [`Cluster`](crate::Cluster).
#[derive(Debug)]
pub struct Member {
    pub(super) name: String,
    pub(super) scheme: &'static str,
    pub(super) ports: Ports,
    pub(super) process: Process,
}

/// Held from before the start until the end, also while the member is dead.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) client: Port,
    pub(crate) peer: Port,
    pub(crate) metrics: Port,
}

impl Member {
    /// Its `--name`: `m0`, `m1`, ...
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its client URL: `http://127.0.0.1:port`, or `https` on a cluster with TLS.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.ports.client.address())
    }

    /// The process id, while it is started.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Whether it is started, and not paused.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// What it has printed since the cluster was made.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Whether it says that it is healthy: it has a leader, answers reads through it, and no alarm
    /// is raised. False when it does not answer within half a second.
    pub async fn is_healthy(&self) -> bool {
        let answer = probe::get(self.ports.metrics.address(), "/health").await;
        answer.is_ok_and(|body| body.contains(r#""health":"true""#))
    }

    /// One of its metrics, by the name without labels, for example `etcd_server_is_leader`.
    /// `None` when it does not answer within half a second, or does not know the name.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let page = probe::get(self.ports.metrics.address(), "/metrics").await.ok()?;
        probe::metric(&page, name)
    }

    pub(super) fn start(&self) -> Result<(), Error> {
        self.process.start().map_err(Error::io(format!("cannot start {}", self.name)))
    }

    /// Awaits that it answers, with or without a leader.
    pub(super) async fn answers(&self, until: Instant) -> Result<(), Error> {
        self.wait(until, async || self.metric(HAS_LEADER).await.is_some()).await
    }

    /// Awaits that it is healthy.
    pub(super) async fn ready(&self, until: Instant) -> Result<(), Error> {
        // Asked for its health without a leader, it would fill its log with complaints.
        let ready = async || self.metric(HAS_LEADER).await == Some(1.0) && self.is_healthy().await;
        self.wait(until, ready).await
    }

    async fn wait(&self, until: Instant, reached: impl AsyncFn() -> bool) -> Result<(), Error> {
        while !reached().await {
            if let Some(status) = self.process.exited().map_err(Error::io(&self.name))? {
                return Err(self.failure(&format!("ended with {status}")));
            }
            self.pause_before(until, "is not ready in time").await?;
        }
        Ok(())
    }

    /// Awaits the end of the process.
    pub(super) async fn ended(&self, until: Instant) -> Result<(), Error> {
        loop {
            let exited = self.process.exited().map_err(Error::io(&self.name))?;
            if exited.is_some() || self.pid().is_none() {
                return Ok(());
            }
            self.pause_before(until, "does not end in time").await?;
        }
    }

    async fn pause_before(&self, until: Instant, else_it: &str) -> Result<(), Error> {
        if Instant::now() > until {
            return Err(self.failure(else_it));
        }
        sleep(POLL).await;
        Ok(())
    }

    fn failure(&self, what: &str) -> Error {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        Error::new(format!("{} {what}; the end of its log:\n{tail}", self.name))
    }
}
