//! What is under a range and what becomes of it, without a gap, for as long as somebody asks.

use bytes::Bytes;
use futures::StreamExt;
use tenure_core::{Event, KeyRange, KeyValue, Revision, backoff::Outage};

use crate::{
    client::{Client, WatchResponse, WatchStream},
    error::{Error, ErrorKind, Result},
};

/// What there is to know of a range.
pub(super) enum Seen {
    /// Everything there is, as of a revision.
    All { revision: Revision, kvs: Vec<KeyValue> },
    /// What happened after that.
    Changes(Vec<Event>),
}

impl Seen {
    /// What was seen of a key, if anything. A deleted one was created at no revision.
    pub(super) fn of(&self, key: &Bytes) -> Option<Option<&KeyValue>> {
        match self {
            Self::All { kvs, .. } => Some(kvs.iter().find(|kv| kv.key == *key)),
            Self::Changes(events) => {
                let last = events.iter().rev().find(|event| event.kv.key == *key);
                last.map(|event| Some(&event.kv))
            }
        }
    }
}

/// Follows a range; [`next`](Self::next) tells.
pub(super) struct Follow {
    client: Client,
    range: KeyRange,
    /// None while it is not known how things are.
    watch: Option<WatchStream>,
    outage: Option<Outage>,
    /// The cluster that was read.
    cluster_id: Option<u64>,
    /// The watch was away: whether it is still the same cluster is not known. Another one may be
    /// long at revisions that this one has behind it.
    in_doubt: bool,
}

impl Follow {
    /// Begins with everything there is.
    pub(super) fn new(client: &Client, range: KeyRange) -> Self {
        let (client, watch, outage) = (client.clone(), None, None);
        Self { client, range, watch, outage, cluster_id: None, in_doubt: false }
    }

    /// Begins with what happens after a revision.
    pub(super) fn after(client: &Client, range: KeyRange, revision: Revision) -> Self {
        let mut follow = Self::new(client, range);
        follow.watch = Some(follow.watch_after(revision));
        follow
    }

    /// Begins with what happens from now on, once the server has accepted the watch.
    pub(super) async fn standing(client: &Client, range: KeyRange) -> Result<Self> {
        let mut follow = Self::new(client, range);
        loop {
            let watch = follow.client.watch(follow.range.clone()).interruptions();
            match watch.require_leader().await {
                Ok(watch) => {
                    follow.watch = Some(watch);
                    return Ok(follow);
                }
                Err(error) => follow.rest(error).await?,
            }
        }
    }

    fn watch_after(&self, revision: Revision) -> WatchStream {
        let watch = self.client.watch(self.range.clone()).start_revision(revision.next());
        watch.interruptions().require_leader().open()
    }

    /// Reads everything there is, whatever is watched.
    pub(super) async fn read(&mut self) -> Result<(Revision, Vec<KeyValue>)> {
        loop {
            match self.client.get(self.range.clone()).await {
                Ok(answer) => {
                    (self.cluster_id, self.in_doubt) = (Some(answer.header.cluster_id), false);
                    return Ok((answer.header.revision, answer.kvs));
                }
                Err(error) => self.rest(error).await?,
            }
        }
    }

    /// Gives up a watch that is of a cluster that is gone.
    async fn check_cluster(&mut self) -> Result<()> {
        while self.in_doubt && self.watch.is_some() {
            match self.client.count(self.range.clone()).await {
                Ok(answer) => {
                    let now = answer.header.cluster_id;
                    if self.cluster_id.is_some_and(|known| known != now) {
                        self.watch = None;
                    }
                    self.in_doubt = false;
                }
                Err(error) => self.rest(error).await?,
            }
        }
        Ok(())
    }

    /// Waits for what there is to tell next. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Seen> {
        loop {
            self.check_cluster().await?;
            let Some(watch) = &mut self.watch else {
                let (revision, kvs) = self.read().await?;
                self.watch = Some(self.watch_after(revision));
                return Ok(Seen::All { revision, kvs });
            };
            match watch.next().await {
                Some(Ok(told)) => {
                    self.outage = None;
                    self.in_doubt |= matches!(told, WatchResponse::Resumed);
                    let events = told.into_events();
                    if !events.is_empty() {
                        return Ok(Seen::Changes(events));
                    }
                }
                Some(Err(error)) => {
                    self.watch = None;
                    // What was missed is learnt by reading it again.
                    if error.kind() != ErrorKind::Compacted {
                        self.rest(error).await?;
                    }
                }
                None => self.watch = None,
            }
        }
    }

    /// Pauses before the next try, unless it would be in vain.
    async fn rest(&mut self, error: Error) -> Result<()> {
        let for_good = matches!(
            error.kind(),
            ErrorKind::InvalidInput
                | ErrorKind::PermissionDenied
                | ErrorKind::Unauthenticated
                | ErrorKind::Closed
                | ErrorKind::Internal
        );
        if for_good {
            return Err(error);
        }
        if self.outage.is_none() {
            tracing::warn!(range = ?self.range, %error, "keys cannot be followed");
        }
        let now = self.client.now();
        let pause = self.outage.get_or_insert_with(|| Outage::new(now)).pause(now);
        self.client.sleep(pause).await;
        Ok(())
    }
}
