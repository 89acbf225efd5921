use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tenure::{Client, ClientBuilder, Clock, LeaseId, Revision, wire::etcdserverpb::AlarmType};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    Builder, Call, Fault,
    hurt::{Counts, Faults, Injected, Streams},
    node::Node,
    serve::{Connections, InProcess, Listeners, Router},
    tap::{Tap, Taps},
};

/// How long pings are put off where nothing can be lost: they would only cost real time in virtual
/// hours.
const NEVER_PING: Duration = Duration::from_secs(365 * 24 * 3600);
/// What a client calls the server that it reaches through a pipe.
pub(crate) const IN_PROCESS: &str = "http://embedded:2379";

/// A running server. Dropping it ends it: its connections break and its ports are free again.
pub struct Embedded {
    shared: Arc<Shared>,
}

/// What the server's tasks and handles have in common.
pub(crate) struct Shared {
    router: Mutex<Arc<Router>>,
    pub(crate) connections: Connections,
    pub(crate) faults: Faults,
    pub(crate) streams: Streams,
    pub(crate) taps: Taps,
    pub(crate) counts: Counts,
    pub(crate) runtime: Handle,
    listeners: Listeners,
}

/// What a restart leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// Keys, history, leases and users are as they were; each lease that is not frozen has its
    /// whole time again.
    Kept,
    /// Everything is gone, and the cluster is another one.
    Lost,
}

/// What can be wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alarm {
    /// The database is full: what needs room is refused.
    NoSpace,
    /// The data are corrupt: what changes them is refused.
    Corrupt,
}

impl Shared {
    /// What serves a connection that is made now.
    pub(crate) fn router(&self) -> Arc<Router> {
        Arc::clone(&self.router.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn node(&self) -> Arc<Node> {
        self.router().node()
    }
}

impl Embedded {
    /// A server as etcd is by default, on a free loopback port.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// A server with settings.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn from_builder(builder: Builder) -> io::Result<Self> {
        let Builder { mut settings, listen, .. } = builder;
        let listeners = Listeners::bind(&listen)?;
        if settings.advertised.is_empty() {
            settings.advertised = listeners.endpoints();
        }
        if settings.advertised.is_empty() {
            settings.advertised.push(IN_PROCESS.to_owned());
        }
        tracing::info!(
            endpoints = ?settings.advertised,
            "embedded etcd server: single process, no replication, data in memory"
        );
        let shared = Arc::new(Shared {
            router: Mutex::new(Arc::new(Router::new(Node::new(settings)))),
            connections: Connections::default(),
            faults: Faults::default(),
            streams: Streams::default(),
            taps: Taps::new(Instant::now()),
            counts: Counts::default(),
            runtime: Handle::current(),
            listeners,
        });
        shared.listeners.accept(&shared)?;
        Ok(Self { shared })
    }

    /// The URLs it listens on; none with [`Builder::in_process`].
    pub fn endpoints(&self) -> Vec<String> {
        self.shared.listeners.endpoints()
    }

    /// The way in without a socket, for [`ClientBuilder::connector`]. It holds nothing: once the
    /// server is gone, connecting fails.
    pub fn connector(&self) -> InProcess {
        InProcess::new(&self.shared)
    }

    /// A client to be, over a pipe, whose deadlines count on tokio's clock. Paused time needs
    /// [`ClientBuilder::local`], too.
    pub fn connect(&self) -> ClientBuilder {
        Client::builder([IN_PROCESS])
            .connector(self.connector())
            .keep_alive_time(NEVER_PING)
            .clock(Clock::tokio())
    }

    /// A client of this server, over a pipe, on a thread of its own: for real time.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`].
    pub async fn client(&self) -> tenure::Result<Client> {
        self.connect().connect().await
    }

    /// Does this to calls from now on, until the returned handle is dropped or the fault has
    /// happened as often as it says.
    pub fn inject(&self, fault: Fault) -> Injected {
        self.shared.faults.add(fault)
    }

    /// Breaks all connections, with whatever is in flight. Clients may come back at once.
    pub fn cut_connections(&self) {
        self.shared.connections.cut();
    }

    /// Ends all watch and keep-alive streams, as a server that goes away does; calls go on.
    pub fn cut_streams(&self) {
        self.shared.streams.cut();
    }

    /// Sends nothing more on watch and keep-alive streams, old ones and new, until told
    /// otherwise: they stay open, and what happens meanwhile comes later.
    pub fn silence_streams(&self, silent: bool) {
        self.shared.streams.silence(silent);
    }

    /// Breaks all connections and refuses new ones; when it returns, its ports are free.
    ///
    /// Dropping the future leaves its ports closed or closing, and may leave connections that
    /// were made before.
    pub async fn refuse_connections(&self) {
        self.shared.connections.refuse(true);
        self.shared.listeners.close().await;
        self.shared.connections.cut();
    }

    /// Takes connections again, on the same ports.
    ///
    /// # Errors
    ///
    /// When somebody else took a port meanwhile.
    pub async fn accept_connections(&self) -> io::Result<()> {
        self.shared.connections.refuse(false);
        self.shared.listeners.accept(&self.shared)
    }

    /// As if the process was killed and came back: connections break, tokens are forgotten.
    pub fn restart(&self, data: Data) {
        // Its tasks run where the others do, wherever this is called.
        let _on_its_runtime = self.shared.runtime.enter();
        let mut router = self.shared.router.lock().unwrap_or_else(PoisonError::into_inner);
        // From here on the old member refuses whatever is still under way.
        let kept = router.node().stopped();
        let fresh = match data {
            Data::Kept => kept,
            Data::Lost => Node::new(kept.settings().clone()),
        };
        *router = Arc::new(Router::new(fresh));
        drop(router);
        self.shared.connections.cut();
    }

    /// Ends a lease now, with its keys. Says whether it was there.
    pub fn expire_lease(&self, lease: LeaseId) -> bool {
        self.shared.node().lock().end_lease(lease.get()).is_ok()
    }

    /// Stops a lease's time until it is renewed. Says whether it is there.
    pub fn freeze_lease(&self, lease: LeaseId) -> bool {
        self.shared.node().lock().leases.freeze(lease.get())
    }

    /// Forgets history before this revision.
    ///
    /// # Errors
    ///
    /// With etcd's text, when it is compacted already or not reached yet.
    pub fn compact(&self, revision: Revision) -> io::Result<()> {
        let compacted = self.shared.node().lock().store.compact(revision.0);
        compacted.map_err(|refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal.text))
    }

    /// Raises an alarm of this member.
    pub fn raise_alarm(&self, alarm: Alarm) {
        let node = self.shared.node();
        node.lock().alarms.raise(alarm.into(), node.member());
    }

    /// Lifts all alarms of a kind.
    pub fn lift_alarm(&self, alarm: Alarm) {
        self.shared.node().lock().alarms.lift(alarm.into());
    }

    /// As if the leader were gone: what needs one waits for
    /// [`change_leader`](Self::change_leader), and fails after 5 s and two election timeouts; what
    /// requires one fails at once, streams that do end after three election timeouts; no lease
    /// ends.
    pub fn lose_leader(&self) {
        self.shared.node().lose_leader();
    }

    /// As if a new leader was elected: the term rises, and each lease has its whole time again.
    pub fn change_leader(&self) {
        self.shared.node().elect();
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        Revision(self.shared.node().lock().store.revision())
    }

    /// How many watches there are, those that its own Lock and Election services wait by among
    /// them.
    pub fn watches(&self) -> usize {
        self.shared.node().lock().hub.count()
    }

    /// How many streams of watches there are.
    pub fn watch_streams(&self) -> usize {
        self.shared.node().lock().hub.streams()
    }

    /// How many events were sent to watches since the start.
    pub fn events(&self) -> u64 {
        self.shared.node().events()
    }

    /// How often a lease was renewed since the start.
    pub fn renewals(&self) -> u64 {
        self.shared.node().lock().leases.renewals()
    }

    /// How many tokens are good now.
    pub fn tokens(&self) -> usize {
        self.shared.node().lock().auth.tokens(Instant::now())
    }

    /// How often this was called since the start, whatever became of it; of streams, how often one
    /// was opened.
    pub fn calls(&self, call: Call) -> u64 {
        self.shared.counts.of(call)
    }

    /// Keeps what is asked and answered from now on: the last `capacity` calls.
    pub fn tap(&self, capacity: usize) -> Tap {
        self.shared.taps.open(capacity)
    }

    /// Ends the server: connections break, and its ports are free when this returns. Dropping the
    /// future ends it too, its ports a little later.
    pub async fn stop(self) {
        self.refuse_connections().await;
    }
}

impl From<Alarm> for AlarmType {
    fn from(alarm: Alarm) -> Self {
        match alarm {
            Alarm::NoSpace => Self::Nospace,
            Alarm::Corrupt => Self::Corrupt,
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.connections.refuse(true);
        self.shared.listeners.abort();
        self.shared.connections.cut();
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}
