use std::fmt;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tenure_core::{
    Key, KeyRange, KeyValue, Moment, Revision, backoff::Outage, succession::Succession,
};

use super::{KIND, WHAT};
use crate::{
    client::{Client, WatchResponse, WatchStream},
    error::{Error, ErrorKind, Result},
    ops::{Order, SortBy},
    recipes::{Contender, holder::contenders},
};

/// Who leads in an election, for those who do not stand in it. Needs no session.
#[derive(Clone)]
pub struct Observer {
    client: Client,
    prefix: Result<Bytes>,
}

/// The leader of an election, as others see it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// Its key.
    pub key: Bytes,
    /// What it says of itself. [`Json::read`](crate::Json::read) reads what was written so.
    pub value: Bytes,
    /// The number of its term: the revision at which it became a candidate.
    pub term: Revision,
    /// When this process first saw it lead, on [`Client::clock`].
    pub since: Moment,
}

impl Leader {
    fn of(kv: KeyValue, since: Moment) -> Self {
        Self { key: kv.key, value: kv.value, term: kv.create_revision, since }
    }
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, term, since, .. } = self;
        let mut leader = f.debug_struct("Leader");
        leader.field("key", key).field("term", term).field("since", since).finish_non_exhaustive()
    }
}

impl Observer {
    /// The election of this name; see [`Election::new`](super::Election::new).
    pub fn new(client: &Client, name: impl AsRef<str>) -> Self {
        Self::on(client, KIND.prefix_of(name.as_ref()))
    }

    /// The election on a raw prefix; see [`Election::at`](super::Election::at).
    pub fn at(client: &Client, prefix: impl Into<Key>) -> Self {
        Self::on(client, KIND.raw_prefix(prefix.into()))
    }

    pub(super) fn on(client: &Client, prefix: Result<Bytes>) -> Self {
        Self { client: client.clone(), prefix }
    }

    /// Who leads now, if anybody does.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, else those of [`Client::get`].
    pub async fn leader(&self) -> Result<Option<Leader>> {
        let all = self.client.get(KeyRange::prefix(self.prefix.clone()?));
        let first = all.first(SortBy::CreateRevision).limit(1).await?;
        Ok(first.into_kv().map(|kv| Leader::of(kv, self.client.now())))
    }

    /// The candidates in the order of their turns. The first leads.
    ///
    /// # Errors
    ///
    /// Those of [`leader`](Self::leader).
    pub async fn candidates(&self) -> Result<Vec<Contender>> {
        contenders(&self.client, &self.prefix.clone()?).await
    }

    /// Who leads, from now on: first how it is, then each change of leader or of its value; `None`
    /// while nobody leads. Values that came together while the stream was not read may be skipped
    /// only after a compaction or a lost connection, never the last.
    ///
    /// It survives lost connections and compactions, and ends only after an error: that the user
    /// may not read this, or that the client was closed. Nothing is read before it is polled.
    pub fn observe(&self) -> impl Stream<Item = Result<Option<Leader>>> + Send + Unpin + use<> {
        let watching = self.prefix.clone().map(|prefix| Watching {
            client: self.client.clone(),
            range: KeyRange::prefix(prefix),
            succession: Succession::new(),
            cluster_id: None,
            watch: None,
            leader: None,
            outage: None,
        });
        stream::unfold(Some(watching), |watching| async {
            let mut watching = match watching? {
                Ok(watching) => watching,
                Err(error) => return Some((Err(error), None)),
            };
            match watching.next().await {
                Ok(leader) => Some((Ok(leader), Some(Ok(watching)))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

struct Watching {
    client: Client,
    range: KeyRange,
    succession: Succession,
    /// The cluster that what is known is of.
    cluster_id: Option<u64>,
    watch: Option<WatchStream>,
    leader: Option<Leader>,
    outage: Option<Outage>,
}

impl Watching {
    /// The next change, or the error that ends it all.
    async fn next(&mut self) -> Result<Option<Leader>> {
        loop {
            if let Some(leader) = self.succession.poll() {
                self.leader = leader.map(|kv| {
                    let known =
                        self.leader.as_ref().filter(|leader| leader.term == kv.create_revision);
                    let since = known.map_or_else(|| self.client.now(), |leader| leader.since);
                    Leader::of(kv, since)
                });
                return Ok(self.leader.clone());
            }
            if let Err(error) = self.follow().await {
                self.watch = None;
                self.succession.gap();
                self.bear(error).await?;
            }
        }
    }

    /// Waits for the next that the watch tells. A new watch is followed by a listing, which tells
    /// what came before.
    async fn follow(&mut self) -> Result<()> {
        let open = || {
            let watch = self.client.watch(self.range.clone()).require_leader();
            watch.created_notify().interruptions().open()
        };
        let watch = self.watch.get_or_insert_with(open);
        match watch.next().await {
            Some(Ok(WatchResponse::Created { .. })) => {
                let all = self.client.get(self.range.clone());
                let all = all.sort(SortBy::CreateRevision, Order::Ascending).await?;
                self.outage = None;
                if self.is_another(all.header.cluster_id) {
                    self.succession = Succession::new();
                }
                self.succession.handle_listing(all.kvs, all.header.revision);
            }
            Some(Ok(WatchResponse::Events { events, .. })) => self.succession.handle_events(events),
            Some(Ok(WatchResponse::Resumed)) => {
                let cluster_id = self.client.count(self.range.clone()).await?.header.cluster_id;
                if self.cluster_id.is_some_and(|known| known != cluster_id) {
                    // It waits for revisions that mean nothing there.
                    tracing::warn!(range = ?self.range, "another cluster answers");
                    self.watch = None;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(self.client.gone(WHAT)),
        }
        Ok(())
    }

    /// Whether revisions of this cluster are no successors of those that are known.
    fn is_another(&mut self, cluster_id: u64) -> bool {
        self.cluster_id.replace(cluster_id).is_some_and(|known| known != cluster_id)
    }

    /// Pauses before the next try, if there can be one.
    async fn bear(&mut self, error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::PermissionDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::InvalidInput
            | ErrorKind::Closed
            | ErrorKind::Internal => Err(error),
            ErrorKind::Compacted => Ok(()),
            _ => {
                if self.outage.is_none() {
                    tracing::warn!(range = ?self.range, %error, "an election cannot be followed");
                }
                let now = self.client.now();
                let pause = self.outage.get_or_insert_with(|| Outage::new(now)).pause(now);
                self.client.sleep(pause).await;
                Ok(())
            }
        }
    }
}
