use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statvfs;
use tempfile::TempDir;
use tokio::time::Instant;

use super::member::Ports;
use super::process::Process;
use super::{Cluster, Member, PATIENCE};
use crate::port::Port;
use crate::{Error, EtcdBinary, Proxy};

/// Room that a member takes: two segments of its log, which etcd allocates at once, and its data.
const ROOM: u64 = 256 << 20;

/// The TLS files for a cluster's client port, all PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority that client certificates are checked against, and the server's one too.
    pub ca: PathBuf,
    /// The server's certificate. etcd dials itself with it, so it must be good for a client too.
    pub cert: PathBuf,
    /// The key of `cert`.
    pub key: PathBuf,
    /// Whether a client must have a certificate.
    pub client_cert_auth: bool,
}

/// What [`Cluster::builder`] starts.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    etcd: EtcdBinary,
    members: usize,
    flags: Vec<String>,
    tls: Option<Tls>,
    fast: bool,
    proxied_peers: bool,
}

impl Builder {
    pub(super) fn new(etcd: &EtcdBinary) -> Self {
        Self {
            etcd: etcd.clone(),
            members: 1,
            flags: Vec::new(),
            tls: None,
            fast: false,
            proxied_peers: false,
        }
    }

    /// How many members; 1 by default.
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// One more flag for every member, such as `--auth-token-ttl=2`. It stands after ours, so it
    /// wins.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// TLS for clients.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Heartbeats every 10 ms and elections after 100 ms, for a start in a fifth of a second; the
    /// shortest lease is 1 s then. By default etcd's own timing: 100 ms, 1 s and 2 s.
    pub fn fast(mut self, fast: bool) -> Self {
        self.fast = fast;
        self
    }

    /// Puts a proxy before each member's peer port, which [`Cluster::isolate`] needs.
    pub fn proxied_peers(mut self, proxied_peers: bool) -> Self {
        self.proxied_peers = proxied_peers;
        self
    }

    /// Starts the members and waits until each is healthy. Their data is in a new directory, of
    /// /dev/shm if that has room, else of the temporary directory.
    ///
    /// # Errors
    ///
    /// When a member cannot be started, ends, or is not healthy within 30 s; the text has the end
    /// of its log. Nothing is left behind then, nor when the future is dropped.
    pub async fn start(self) -> Result<Cluster, Error> {
        let dir = self.data_dir()?;
        let ports: Vec<Ports> = (0..self.members).map(|_| reserve()).collect::<Result<_, _>>()?;
        let mut links = Vec::new();
        if self.proxied_peers {
            for ports in &ports {
                links.push(Proxy::start(&url("http", &ports.peer)).await?);
            }
        }
        let peer_urls: Vec<String> = match links.is_empty() {
            true => ports.iter().map(|ports| url("http", &ports.peer)).collect(),
            false => links.iter().map(Proxy::endpoint).collect(),
        };
        let members: Vec<Member> = (0..)
            .zip(ports)
            .map(|(index, ports)| self.member(index, ports, &peer_urls, dir.path()))
            .collect();
        let members: Arc<[Member]> = members.into();
        let cluster = Cluster::new(self.etcd, self.tls, members, links, dir);
        for member in cluster.members() {
            member.start()?;
            // Each first asks the others about the cluster: refused at once by those that do not
            // listen yet, but kept for 1 s by those that listen and do not serve yet.
            member.answers(Instant::now() + PATIENCE).await?;
        }
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    fn member(&self, index: usize, ports: Ports, peer_urls: &[String], dir: &Path) -> Member {
        let name = format!("m{index}");
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = url(scheme, &ports.client);
        let cluster: Vec<String> =
            (0..).zip(peer_urls).map(|(index, url)| format!("m{index}={url}")).collect();
        let mut flags = vec![
            format!("--name={name}"),
            format!("--data-dir={}", dir.join(&name).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={}", url("http", &ports.peer)),
            format!("--initial-advertise-peer-urls={}", peer_urls[index]),
            format!("--initial-cluster={}", cluster.join(",")),
            format!("--initial-cluster-token={}", dir.display()),
            "--initial-cluster-state=new".to_owned(),
            // In plain HTTP, with TLS and users too: this is how the cluster is asked its state.
            format!("--listen-metrics-urls={}", url("http", &ports.metrics)),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        if self.etcd.at_least(3, 5) {
            flags.push("--unsafe-no-fsync".to_owned());
        }
        if self.fast {
            flags.extend(["--heartbeat-interval=10", "--election-timeout=100"].map(str::to_owned));
        }
        if let Some(tls) = &self.tls {
            flags.push(format!("--cert-file={}", tls.cert.display()));
            flags.push(format!("--key-file={}", tls.key.display()));
            if tls.client_cert_auth {
                // Alone it would make etcd ask for client certificates too.
                flags.push(format!("--trusted-ca-file={}", tls.ca.display()));
                flags.push("--client-cert-auth=true".to_owned());
            }
        }
        flags.extend(self.flags.iter().cloned());
        let log = dir.join(format!("{name}.log"));
        let process = Process::new(self.etcd.path().to_owned(), flags, log);
        Member { name, scheme, ports, process }
    }

    fn data_dir(&self) -> Result<TempDir, Error> {
        let memory = Path::new("/dev/shm");
        let room = statvfs(memory).map_or(0, |memory| memory.f_bavail * memory.f_frsize);
        let mut new = tempfile::Builder::new();
        new.prefix("tenure-etcd-");
        let in_memory = (room > ROOM * self.members as u64).then(|| new.tempdir_in(memory).ok());
        let dir = in_memory.flatten().map_or_else(|| new.tempdir(), Ok);
        dir.map_err(Error::io("cannot make a directory for etcd's data"))
    }
}

fn reserve() -> Result<Ports, Error> {
    let port = || Port::reserve().map_err(Error::io("no free port on 127.0.0.1"));
    Ok(Ports { client: port()?, peer: port()?, metrics: port()? })
}

fn url(scheme: &str, port: &Port) -> String {
    format!("{scheme}://{}", port.address())
}
