use std::{
    convert::Infallible,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use futures::FutureExt;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tenure::Io;
use tokio::sync::watch;

use super::authority::AnyAuthority;
use crate::embedded::Shared;

/// Much may be under way: a slow link is none of this server's business.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Clients that give calls up in numbers are no attackers here.
const RESETS: usize = 10_000;

/// All connections there are, which break together.
#[derive(Debug)]
pub(crate) struct Connections {
    cuts: watch::Sender<u64>,
    refused: AtomicBool,
}

impl Default for Connections {
    fn default() -> Self {
        Self { cuts: watch::Sender::new(0), refused: AtomicBool::new(false) }
    }
}

impl Connections {
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn refuse(&self, refused: bool) {
        self.refused.store(refused, SeqCst);
    }

    pub(crate) fn are_refused(&self) -> bool {
        self.refused.load(SeqCst)
    }
}

/// Breaks the connection that a call came on.
#[derive(Clone, Debug)]
pub(crate) struct Cut(watch::Sender<bool>);

impl Cut {
    pub(crate) fn now(&self) {
        self.0.send_replace(true);
    }
}

/// Serves a connection until either side has enough of it.
pub(crate) async fn serve(shared: Weak<Shared>, io: impl Io) {
    let Some(strong) = shared.upgrade() else { return };
    // Before the router is looked at: a restart puts another one there, and cuts.
    let mut cuts = strong.connections.cuts.subscribe();
    let router = strong.router();
    if strong.connections.are_refused() {
        return;
    }
    drop(strong);
    let cut = Cut(watch::Sender::new(false));
    let mut cut_alone = cut.0.subscribe();
    let service = service_fn(move |request: http::Request<Incoming>| {
        Arc::clone(&router).answer(&shared, &cut, request).map(Ok::<_, Infallible>)
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(None)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(None);
    tokio::select! {
        biased;
        _ = cuts.changed() => {}
        _ = cut_alone.wait_for(|cut| *cut) => {}
        // How it ended is told to the client, or nobody's business.
        _ = http.serve_connection(TokioIo::new(AnyAuthority::new(io)), service) => {}
    }
}
