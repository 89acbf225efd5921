use std::time::Duration;

use tenure::{Client, ClientBuilder, Clock};
use tenure_embed::{Call, Data, Embedded, EtcdFlags};
use tokio::time::{Instant, sleep};

use crate::counts::{EVENTS, RENEWALS, WATCH_STREAMS, WATCHES, started};
use crate::hosted::Hosted;
use crate::{Cluster, Error, Server};

/// How long a server may take to say how much it was asked for.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// One server, running: a real etcd or the embedded one, and the same to a test.
///
/// Dropping it ends the server, and removes its data.
///
/// ```
/// use tenure_testkit::TestServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = TestServer::start().await?;
/// let client = server.client().await?;
/// client.put("color", "green").await?;
/// # Ok(())
/// # }
/// ```
///
/// An embedded server runs on a thread of its own, so a test may block the one it is on. For
/// paused time there is [`virtual_time`](crate::virtual_time).
#[derive(Debug)]
pub struct TestServer(Running);

#[derive(Debug)]
enum Running {
    Etcd(Cluster),
    Embedded(Hosted, Way),
}

/// How clients reach an embedded server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    Pipe,
    /// Through a pipe on one thread, in tokio's time.
    Local,
}

/// What [`TestServer::builder`] starts.
#[derive(Clone, Debug)]
#[must_use = "nothing is started until `start` is called"]
pub struct ServerBuilder {
    server: Server,
    flags: Vec<String>,
    fast: bool,
}

impl ServerBuilder {
    /// One more of etcd's flags, such as `--max-txn-ops=200`.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Heartbeats of 10 ms and elections of 100 ms: the shortest lease is 1 s then. By default
    /// etcd's own timing: 100 ms, 1 s and 2 s.
    pub fn fast(mut self, fast: bool) -> Self {
        self.fast = fast;
        self
    }

    /// Starts the server, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it cannot be started, for example because of a flag that it does not know or, of the
    /// embedded one, cannot obey; the text says which.
    pub async fn start(self) -> Result<TestServer, Error> {
        let Self { server, flags, fast } = self;
        let running = match server {
            Server::Etcd(etcd) => {
                let builder = Cluster::builder(&etcd).fast(fast);
                let builder = flags.into_iter().fold(builder, |builder, flag| builder.flag(flag));
                Running::Etcd(builder.start().await?)
            }
            Server::Embedded => {
                Running::Embedded(Hosted::start(embedded(flags, fast)?).await?, Way::Tcp)
            }
            Server::InProcess => {
                let builder = embedded(flags, fast)?.in_process();
                Running::Embedded(Hosted::start(builder).await?, Way::Pipe)
            }
        };
        Ok(TestServer(running))
    }
}

fn embedded(flags: Vec<String>, fast: bool) -> Result<tenure_embed::Builder, Error> {
    let builder = Embedded::builder();
    let builder = if fast { builder.fast() } else { builder };
    let flags = EtcdFlags::read(builder, flags).map_err(|error| Error::new(error.to_string()))?;
    Ok(flags.builder)
}

impl TestServer {
    /// An embedded server as etcd is by default, on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub async fn start() -> Result<Self, Error> {
        Self::builder(&Server::Embedded).start().await
    }

    /// A server of this kind, with settings.
    pub fn builder(server: &Server) -> ServerBuilder {
        ServerBuilder { server: server.clone(), flags: Vec::new(), fast: false }
    }

    /// One that lives in the time of this runtime, as its clients do.
    pub(crate) async fn start_here() -> Result<Self, Error> {
        let hosted = Hosted::start_here(Embedded::builder().in_process()).await?;
        Ok(Self(Running::Embedded(hosted, Way::Local)))
    }

    /// A client of this server.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`].
    pub async fn client(&self) -> tenure::Result<Client> {
        self.connect().connect().await
    }

    /// A client to be, of this server.
    pub fn connect(&self) -> ClientBuilder {
        match &self.0 {
            Running::Embedded(hosted, Way::Pipe) => hosted.embedded.connect().clock(Clock::boot()),
            Running::Embedded(hosted, Way::Local) => hosted.embedded.connect().local(),
            Running::Etcd(_) | Running::Embedded(_, Way::Tcp) => Client::builder(self.endpoints()),
        }
    }

    /// The URLs it listens on; none in process.
    pub fn endpoints(&self) -> Vec<String> {
        match &self.0 {
            Running::Etcd(cluster) => cluster.endpoints(),
            Running::Embedded(hosted, _) => hosted.embedded.endpoints(),
        }
    }

    /// The URL it listens on, for a [`Proxy`](crate::Proxy) or a command line.
    ///
    /// # Panics
    ///
    /// In process, where there is none.
    pub fn endpoint(&self) -> String {
        let first = self.endpoints().into_iter().next();
        first.unwrap_or_else(|| panic!("a server in process listens nowhere"))
    }

    /// The embedded server, for what can be done to it alone.
    pub fn embedded(&self) -> Option<&Embedded> {
        match &self.0 {
            Running::Etcd(_) => None,
            Running::Embedded(hosted, _) => Some(&hosted.embedded),
        }
    }

    /// The cluster of one that a real etcd is.
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.0 {
            Running::Etcd(cluster) => Some(cluster),
            Running::Embedded(..) => None,
        }
    }

    /// Kills it and starts it again with the data it had, on the same port. What a client calls
    /// first may still go to the old connection, and fail if it is a write: begin with a read.
    ///
    /// # Errors
    ///
    /// As [`Cluster::restart`].
    pub async fn restart(&self) -> Result<(), Error> {
        match &self.0 {
            Running::Etcd(cluster) => {
                cluster.kill(0)?;
                cluster.restart(0).await
            }
            Running::Embedded(hosted, _) => {
                hosted.embedded.restart(Data::Kept);
                Ok(())
            }
        }
    }

    /// How often it was called so since its start; of a stream, how often one was opened.
    ///
    /// # Panics
    ///
    /// When the server does not say so within 30 s, as each of these counts does.
    pub async fn calls(&self, call: Call) -> u64 {
        self.count(&started(call), |embedded| embedded.calls(call)).await
    }

    /// Calls of the key space since its start: reads, writes and transactions.
    ///
    /// # Panics
    ///
    /// As [`calls`](Self::calls).
    pub async fn kv_calls(&self) -> u64 {
        let mut calls = 0;
        for call in [Call::Range, Call::Put, Call::DeleteRange, Call::Txn] {
            calls += self.calls(call).await;
        }
        calls
    }

    /// The watches there are.
    ///
    /// # Panics
    ///
    /// As [`calls`](Self::calls).
    pub async fn watches(&self) -> u64 {
        self.count(WATCHES, |embedded| embedded.watches() as u64).await
    }

    /// The streams of watches there are.
    ///
    /// # Panics
    ///
    /// As [`calls`](Self::calls).
    pub async fn watch_streams(&self) -> u64 {
        self.count(WATCH_STREAMS, |embedded| embedded.watch_streams() as u64).await
    }

    /// The events that it has sent to watches since its start: a put that two watch are two.
    ///
    /// # Panics
    ///
    /// As [`calls`](Self::calls).
    pub async fn events(&self) -> u64 {
        self.count(EVENTS, Embedded::events).await
    }

    /// How often a lease was renewed since its start.
    ///
    /// # Panics
    ///
    /// As [`calls`](Self::calls).
    pub async fn renewals(&self) -> u64 {
        self.count(RENEWALS, Embedded::renewals).await
    }

    async fn count(&self, metric: &str, count: impl Fn(&Embedded) -> u64) -> u64 {
        let cluster = match &self.0 {
            Running::Embedded(hosted, _) => return count(&hosted.embedded),
            Running::Etcd(cluster) => cluster,
        };
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(count) = cluster.member(0).metric(metric).await {
                return count as u64;
            }
            assert!(Instant::now() < until, "not within {PATIENCE:?}: the metric {metric}");
            sleep(POLL).await;
        }
    }
}
