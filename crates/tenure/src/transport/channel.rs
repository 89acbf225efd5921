//! The connection to one endpoint: made when it is first wanted, and again after each loss.
//!
//! tonic has such a channel, but there each call goes to a task that hands back a future: from
//! another thread two wake-ups more than a call needs.

use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use http::Uri;
use hyper::{client::conn::http2, rt::Executor as _};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{mpsc, watch as latest},
    time::timeout,
};
use tonic::{ConnectError, Status, body::Body};

#[cfg(feature = "tls")]
use super::tls::Secure;
use super::{
    Io,
    connector::{Connector, Counted, Openings},
};
use crate::{config::Config, error::Result, runtime::Executor};

/// What takes the requests of a connection.
pub(super) type Sender = http2::SendRequest<Body>;

type Connected = std::result::Result<Sender, NotConnected>;

/// A connection that is there or will be. Dropped it ends, once the calls on it have.
pub(super) struct Channel {
    wanted: mpsc::Sender<()>,
    latest: latest::Receiver<Connected>,
}

impl Channel {
    /// To be called in the client's place, where the connections are to live.
    pub(super) fn new(
        uri: &Uri,
        config: &Config,
        openings: Arc<Openings>,
        executor: Executor,
    ) -> Result<Self> {
        let mut http2 = http2::Builder::new(executor.clone());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(config.keep_alive_time)
            .keep_alive_timeout(config.keep_alive_timeout)
            .keep_alive_while_idle(false);
        let maker = Maker {
            authority: uri.authority().map_or_else(String::new, ToString::to_string),
            connector: Arc::clone(&config.connector),
            openings,
            #[cfg(feature = "tls")]
            secure: Secure::new(uri, config)?,
            timeout: config.connect_timeout,
            http2,
            executor: executor.clone(),
        };
        let (wanted, wishes) = mpsc::channel(1);
        let (publish, latest) = latest::channel(Err(NotConnected(Arc::new("not yet".into()))));
        executor.execute(maker.run(wishes, publish));
        Ok(Self { wanted, latest })
    }

    /// The connection there is, or else the next one.
    pub(super) async fn sender(&self) -> std::result::Result<Sender, Status> {
        if let Some(sender) = usable(&self.latest.borrow()) {
            return Ok(sender);
        }
        let mut latest = self.latest.clone();
        // What comes from here on is news, so that none is missed.
        if let Some(sender) = usable(&latest.borrow_and_update()) {
            return Ok(sender);
        }
        // A wish that is there already is as good.
        let _ = self.wanted.try_send(());
        let news = latest.changed().await;
        let connected = match news {
            Ok(()) => latest.borrow().clone(),
            Err(_) => Err(NotConnected(Arc::new("the client is closed".into()))),
        };
        connected.map_err(|error| Status::from_error(Box::new(ConnectError(error.into()))))
    }
}

fn usable(connected: &Connected) -> Option<Sender> {
    connected.as_ref().ok().filter(|sender| !sender.is_closed()).cloned()
}

/// Why there is no connection, told to all who waited for it.
#[derive(Clone, Debug)]
struct NotConnected(Arc<Box<dyn StdError + Send + Sync>>);

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for NotConnected {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self.0)
    }
}

/// Makes the connections of a channel, one after the other.
struct Maker {
    authority: String,
    connector: Arc<dyn Connector>,
    openings: Arc<Openings>,
    #[cfg(feature = "tls")]
    secure: Option<Secure>,
    timeout: Duration,
    http2: http2::Builder<Executor>,
    executor: Executor,
}

impl Maker {
    async fn run(self, mut wishes: mpsc::Receiver<()>, publish: latest::Sender<Connected>) {
        while wishes.recv().await.is_some() {
            // A wish that came while the last one was fulfilled.
            if usable(&publish.borrow()).is_some() {
                continue;
            }
            let connected = self.connect().await;
            // Whoever wished meanwhile hears of this one too.
            let _ = wishes.try_recv();
            let news = connected.map_err(|error| NotConnected(Arc::new(error)));
            let _ = publish.send_replace(news);
        }
    }

    async fn connect(&self) -> std::result::Result<Sender, Box<dyn StdError + Send + Sync>> {
        let io = timeout(self.timeout, self.open()).await.map_err(|_| {
            let text = format!("no connection within {:?}", self.timeout);
            io::Error::new(io::ErrorKind::TimedOut, text)
        })??;
        let (sender, connection) = self.http2.handshake(TokioIo::new(io)).await?;
        self.executor.execute(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        Ok(sender)
    }

    async fn open(&self) -> io::Result<Box<dyn Io>> {
        let io = self.connector.connect(&self.authority).await?;
        let io = Counted::new(io, Arc::clone(&self.openings));
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            return secure.connect(io).await;
        }
        Ok(Box::new(io))
    }
}
