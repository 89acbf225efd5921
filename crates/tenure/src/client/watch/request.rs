use std::{fmt, future::IntoFuture, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tenure_core::{
    KeyRange, Revision,
    watch::{Spec, Weight},
};

use super::{Watch, WatchStream};
use crate::{
    error::{Error, Result},
    ops::check_range,
};

/// What to watch, and how; see [`Client::watch`](crate::Client::watch).
#[derive(Clone)]
#[must_use = "a watch starts when it is awaited, or by `open`"]
pub struct WatchRequest {
    via: Arc<dyn Watch>,
    range: KeyRange,
    start: Revision,
    prev_kv: bool,
    progress_notify: bool,
    fragment: bool,
    no_put: bool,
    no_delete: bool,
    limit: Weight,
    pub(super) created_notify: bool,
    pub(super) interruptions: bool,
    pub(super) require_leader: bool,
    pub(super) timeout: Option<Duration>,
}

/// What may lie unread before a watch is stopped at the server, and resumed later.
const LIMIT: Weight = Weight { events: 4096, bytes: 4 * 1024 * 1024 };

impl WatchRequest {
    pub(crate) fn new(via: &Arc<dyn Watch>, range: KeyRange) -> Self {
        Self {
            via: Arc::clone(via),
            range,
            start: Revision::NONE,
            prev_kv: false,
            progress_notify: false,
            fragment: true,
            no_put: false,
            no_delete: false,
            limit: LIMIT,
            created_notify: false,
            interruptions: false,
            require_leader: false,
            timeout: None,
        }
    }

    /// Starts with the changes of `revision`, which may be past or still to come. By default it
    /// starts with what changes after the server has accepted it.
    pub fn start_revision(mut self, revision: Revision) -> Self {
        self.start = revision;
        self
    }

    /// Events carry the key as it was before, unless that is compacted away.
    pub fn prev_kv(mut self) -> Self {
        self.prev_kv = true;
        self
    }

    /// Leaves puts out.
    pub fn without_puts(mut self) -> Self {
        self.no_put = true;
        self
    }

    /// Leaves deletions out.
    pub fn without_deletes(mut self) -> Self {
        self.no_delete = true;
        self
    }

    /// Has the server tell how far it is while nothing happens, every ten minutes by default:
    /// [`WatchResponse::Progress`](super::WatchResponse::Progress).
    pub fn progress_notify(mut self) -> Self {
        self.progress_notify = true;
        self
    }

    /// Tells once that the server has accepted the watch:
    /// [`WatchResponse::Created`](super::WatchResponse::Created).
    pub fn created_notify(mut self) -> Self {
        self.created_notify = true;
        self
    }

    /// Tells when the watch is off the server for a while, and when it is back.
    pub fn interruptions(mut self) -> Self {
        self.interruptions = true;
        self
    }

    /// Whether the server may send one big answer in parts, which are joined here. On by default:
    /// an answer can be larger than a connection likes to carry.
    pub fn fragment(mut self, fragment: bool) -> Self {
        self.fragment = fragment;
        self
    }

    /// Leaves a member that knows no leader for another one, rather than staying there in
    /// silence.
    pub fn require_leader(mut self) -> Self {
        self.require_leader = true;
        self
    }

    /// How many events, and bytes of keys and values, may lie unread; 4,096 and 4 MiB by default.
    /// Beyond that the watch is stopped at the server and resumed, without a gap, once half of
    /// them were read. The events of one revision are always accepted whole.
    pub fn buffer(mut self, events: usize, bytes: usize) -> Self {
        self.limit = Weight { events, bytes };
        self
    }

    /// How long to wait for the server to accept the watch, in place of the client's setting for
    /// reads.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Starts the watch without waiting for the server to accept it; its stream tells what came
    /// of it.
    pub fn open(self) -> WatchStream {
        let via = Arc::clone(&self.via);
        via.watch(self)
    }

    pub(super) fn check(&self) -> Result<()> {
        check_range("watch", &self.range)?;
        if self.start < Revision::NONE {
            return Err(Error::invalid("watch", "the start revision is negative"));
        }
        Ok(())
    }

    pub(super) fn spec(self) -> Spec {
        let (key, range_end) = self.range.to_wire();
        Spec {
            key,
            range_end,
            start: self.start,
            prev_kv: self.prev_kv,
            progress_notify: self.progress_notify,
            fragment: self.fragment,
            no_put: self.no_put,
            no_delete: self.no_delete,
            limit: self.limit,
        }
    }

    pub(super) fn limit(&self) -> Weight {
        self.limit
    }
}

impl IntoFuture for WatchRequest {
    type Output = Result<WatchStream>;
    type IntoFuture = BoxFuture<'static, Result<WatchStream>>;

    /// Waits until the server has accepted the watch. Dropping the future drops the watch.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.check()?;
            let mut stream = self.open();
            stream.accepted().await?;
            Ok(stream)
        })
    }
}

impl fmt::Debug for WatchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchRequest")
            .field("range", &self.range)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
