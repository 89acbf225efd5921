//! Watches: what happens to keys, without a gap and without a repeat.

mod actor;
mod lane;
mod queue;
mod request;
mod stream;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use actix::Addr;

pub(crate) use self::actor::WatchActor;
pub use self::{
    request::WatchRequest,
    stream::{WatchResponse, WatchState, WatchStream},
};
use crate::transport::Transport;

/// What can be watched: the seam that layers stack on. For the layers of this crate, as [`Kv`] is.
///
/// [`Kv`]: crate::Kv
pub trait Watch: Send + Sync + 'static {
    /// Starts a watch. Its stream tells how that went.
    fn watch(&self, request: WatchRequest) -> WatchStream;

    /// Asks the server how far it is; the answer comes to all watches that are live.
    fn request_progress(&self);
}

/// The watches of a client, as far as the wire goes.
pub(crate) struct WatchCalls {
    pub(crate) transport: Transport,
    pub(crate) actor: Addr<WatchActor>,
    pub(crate) last_id: AtomicU64,
}

impl WatchCalls {
    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl Watch for Arc<WatchCalls> {
    fn watch(&self, request: WatchRequest) -> WatchStream {
        WatchStream::start(Self::clone(self), request)
    }

    fn request_progress(&self) {
        self.actor.do_send(actor::RequestProgress);
    }
}
