use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{Error, EtcdBinary, Proxy};
pub use builder::{Builder, Tls};
pub use member::Member;

mod builder;
mod isolate;
mod member;
mod probe;
mod process;

/// How long a member may take to start, to end, or to be elected.
const PATIENCE: Duration = Duration::from_secs(30);

/// Real etcd members, each a child process on ports of 127.0.0.1 with its data in a directory of
/// its own.
///
/// Every method takes `&self`, so that several tasks of a test can hurt the cluster at once.
/// Members are counted from 0, in the order of [`endpoints`](Self::endpoints); a number too high
/// panics.
///
/// Dropping it kills the members and removes their data, also after a panic and while some are
/// paused.
#[derive(Debug)]
pub struct Cluster {
    etcd: EtcdBinary,
    tls: Option<Tls>,
    members: Arc<[Member]>,
    links: Vec<Proxy>,
    isolated: Mutex<BTreeSet<usize>>,
    _dir: TempDir,
}

impl Cluster {
    /// A cluster of this server; one member with etcd's own timing, unless told otherwise.
    pub fn builder(etcd: &EtcdBinary) -> Builder {
        Builder::new(etcd)
    }

    fn new(
        etcd: EtcdBinary,
        tls: Option<Tls>,
        members: Arc<[Member]>,
        links: Vec<Proxy>,
        dir: TempDir,
    ) -> Self {
        Self { etcd, tls, members, links, isolated: Mutex::default(), _dir: dir }
    }

    /// The server that all members are.
    pub fn etcd(&self) -> &EtcdBinary {
        &self.etcd
    }

    /// The client URLs of all members, whether they run or not.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// One member.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// SIGKILL, and waits until the process is gone. Its ports refuse connections from then on.
    ///
    /// # Errors
    ///
    /// When the system does not let us.
    pub fn kill(&self, index: usize) -> Result<(), Error> {
        let member = self.member(index);
        member.process.kill().map_err(Error::io(format!("cannot kill {}", member.name)))
    }

    /// SIGTERM, and waits until the process is gone: a leader hands its place over first.
    ///
    /// # Errors
    ///
    /// When it does not run, or is not gone within 30 s.
    pub async fn stop(&self, index: usize) -> Result<(), Error> {
        let member = self.member(index);
        member.process.terminate().map_err(Error::io(format!("cannot stop {}", member.name)))?;
        member.ended(Instant::now() + PATIENCE).await
    }

    /// Starts a member again, on its data and its ports; one that runs is killed first. Waits
    /// until it is healthy or, while too few members run for that, until it answers.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub async fn restart(&self, index: usize) -> Result<(), Error> {
        let member = self.member(index);
        member.start()?;
        let reachable = self.reachable();
        let until = Instant::now() + PATIENCE;
        if reachable.contains(&index) && reachable.len() * 2 > self.members.len() {
            member.ready(until).await
        } else {
            member.answers(until).await
        }
    }

    /// SIGSTOP, and waits until the process stands still: it keeps its connections and answers
    /// nothing.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(&self, index: usize) -> Result<(), Error> {
        let member = self.member(index);
        member.process.pause().map_err(Error::io(format!("cannot pause {}", member.name)))
    }

    /// SIGCONT: the process goes on where it stood.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(&self, index: usize) -> Result<(), Error> {
        let member = self.member(index);
        member.process.resume().map_err(Error::io(format!("cannot resume {}", member.name)))
    }

    /// Waits until every member that runs and is not isolated is healthy.
    ///
    /// # Errors
    ///
    /// When one is not within 30 s; the text has the end of its log.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        for index in self.reachable() {
            self.member(index).ready(until).await?;
        }
        Ok(())
    }

    /// Waits until one member, and only one, says that it leads, and returns which. Those that
    /// are dead, paused or isolated are not asked.
    ///
    /// # Errors
    ///
    /// When that does not come about within 30 s.
    pub async fn leader(&self) -> Result<usize, Error> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut leaders = Vec::new();
            for index in self.reachable() {
                if self.member(index).metric("etcd_server_is_leader").await == Some(1.0) {
                    leaders.push(index);
                }
            }
            if let [leader] = leaders[..] {
                return Ok(leader);
            }
            sleep(Duration::from_millis(5)).await;
        }
        Err(Error::new(format!("no member leads within {PATIENCE:?}")))
    }

    /// Runs the server's `etcdctl` (version 3 of the API) with these arguments, on the members
    /// that can be reached, and returns what it printed, whatever its exit status.
    ///
    /// # Errors
    ///
    /// When there is no `etcdctl` beside the server or on the PATH, or it cannot be run.
    pub async fn etcdctl(&self, arguments: &[&str]) -> Result<Output, Error> {
        let program = self.etcd.etcdctl();
        let program = program.ok_or_else(|| Error::new(format!("no etcdctl for {}", self.etcd)))?;
        let endpoints: Vec<String> =
            self.reachable().into_iter().map(|index| self.member(index).endpoint()).collect();
        let mut command = Command::new(program);
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", endpoints.join(",")));
        if let Some(tls) = &self.tls {
            command.arg("--cacert").arg(&tls.ca);
            command.arg("--cert").arg(&tls.cert).arg("--key").arg(&tls.key);
        }
        command.args(arguments);
        let run = tokio::task::spawn_blocking(move || command.output()).await;
        run.map_err(std::io::Error::other).flatten().map_err(Error::io("cannot run etcdctl"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The filter of a peer proxy may hold the members a moment longer than this.
        for member in self.members.iter() {
            let _ = member.process.kill();
        }
    }
}
