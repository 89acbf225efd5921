use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::Error;
use crate::port::Port;
use accept::Door;
use meter::Meter;
pub use rules::Direction;
use rules::{Flow, Rules};
use shared::{Filter, Shared};

mod accept;
mod links;
mod meter;
mod pump;
mod rules;
mod shared;

/// A TCP proxy on 127.0.0.1 before one server, which breaks the link on demand.
///
/// Faults stay until [`pass`](Self::pass), and stack: a slow link can be a black hole too. They
/// hold for connections that are open and for new ones. Each method takes effect before it
/// returns, except that a reset reaches the sockets when the runtime next runs their tasks.
///
/// The proxy runs on the runtime that started it. Dropping it resets what is open and closes the
/// port.
pub struct Proxy {
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Starts a proxy on a free port before `target`: `host:port`, or a URL with one. Nothing
    /// needs to listen there yet.
    ///
    /// # Errors
    ///
    /// When no port can be opened.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(target: &str) -> Result<Self, Error> {
        let (scheme, address) = target.split_once("://").unwrap_or(("http", target));
        let open = || Port::reserve().and_then(|port| Ok((port.listen()?, port)));
        let (listener, port) =
            open().map_err(Error::io(format_args!("cannot open a port before {target}")))?;
        let shared = Arc::new(Shared {
            scheme: scheme.to_owned(),
            port,
            runtime: Handle::current(),
            target: Mutex::new(address.to_owned()),
            door: Door::open(listener),
            filter: Mutex::default(),
            rules: watch::Sender::default(),
            links: Arc::default(),
            to_server: Meter::default(),
            to_client: Meter::default(),
        });
        let accepting = tokio::spawn(accept::serve(Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, accepting })
    }

    /// What a client connects to: `http://127.0.0.1:port`, with the scheme of the target.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.shared.scheme, self.shared.port.address())
    }

    /// Ends every fault: a clean link again. Bytes that [`pause`](Self::pause) held are delivered.
    /// A connection that lost bytes to a black hole, or was opened into one, is reset.
    pub fn pass(&self) {
        let _runtime = self.shared.runtime.enter();
        self.shared.door.reopen(&self.shared.port).expect("the port is held for the door");
        self.shared.to_client.cut_after(None);
        self.shared.rules.send_replace(Rules::default());
    }

    /// Refuses new connections, as a host without the server does. Open ones go on.
    pub fn refuse(&self) {
        self.shared.door.shut();
    }

    /// Swallows bytes. Connections stay open, new ones are accepted, and nothing is heard, not
    /// even that a side closed. Into a black hole on the way to the server nobody is connected.
    pub fn blackhole(&self, direction: Direction) {
        self.shared.rules.send_modify(|rules| rules.set(direction, Flow::Swallow));
    }

    /// Holds bytes back, both ways, until [`pass`](Self::pass): the cable is out and comes back
    /// before anybody's TCP gives up.
    pub fn pause(&self) {
        self.shared.rules.send_modify(|rules| rules.set(Direction::Both, Flow::Hold));
    }

    /// Delivers bytes that much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.rules.send_modify(|rules| rules.delay = delay);
    }

    /// Limits each direction to so many bytes a second, over all connections. 0 is unlimited.
    pub fn rate(&self, bytes_per_second: u64) {
        self.shared.rules.send_modify(|rules| rules.rate = NonZeroU64::new(bytes_per_second));
    }

    /// Resets every open connection, to both sides. New ones are welcome.
    pub fn reset(&self) {
        self.shared.links.reset(|_| true);
    }

    /// Delivers so many bytes more toward clients, over all connections, then resets them all.
    /// New ones are welcome.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.to_client.cut_after(Some(bytes));
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.links.open()
    }

    /// Connections that were accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.links.accepted()
    }

    /// Bytes delivered to the server since the start.
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.delivered()
    }

    /// Bytes delivered to clients since the start.
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.to_client.delivered()
    }

    /// Connects new clients to `address` (`host:port`, or a URL with one) from now on. Open
    /// connections stay where they are; the scheme of [`endpoint`](Self::endpoint) too.
    pub fn retarget(&self, address: &str) {
        let address = address.split_once("://").map_or(address, |(_, address)| address);
        self.shared.set_target(address);
    }

    pub(crate) fn port(&self) -> u16 {
        self.shared.port.address().port()
    }

    /// Serves only clients for whose address `admits` holds. Open connections of others are reset,
    /// new ones hear nothing; those that heard nothing so far are reset, to dial again.
    pub(crate) fn admit_only(&self, admits: impl Fn(SocketAddr) -> bool + Send + Sync + 'static) {
        let admits: Filter = Arc::new(admits);
        self.shared.set_filter(Arc::clone(&admits));
        self.shared.links.reset(|link| !link.served || !admits(link.client));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.door.shut();
        self.reset();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("endpoint", &self.endpoint())
            .field("target", &self.shared.target())
            .field("rules", &*self.shared.rules.borrow())
            .finish_non_exhaustive()
    }
}
