//! What the first in line has to hear: that something came or went, or that somebody is gone.

use std::collections::HashSet;

use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll, select_all},
};
use tenure_core::backoff::Outage;

use super::work::Work;
use crate::{
    client::WatchResponse,
    error::{Error, ErrorKind, Result},
};

/// What is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// An item comes.
    Items,
    /// An item is taken.
    Room,
    /// Whoever works on a job is gone, and the job is not done.
    Orphans,
}

/// Watches, and what is missed while one does not stand is worth a look, too.
pub(super) struct News {
    watches: SelectAll<BoxStream<'static, Result<Told>>>,
    /// So many do not stand yet.
    closed: usize,
}

enum Told {
    Stands,
    Matters(bool),
}

impl News {
    pub(super) fn of(work: &Work, subjects: &[Subject]) -> Self {
        let watches = subjects.iter().map(|subject| subject.watch(work));
        Self { watches: select_all(watches), closed: subjects.len() }
    }

    /// Waits until it is worth to look; at first, until all that comes later will be heard.
    ///
    /// # Errors
    ///
    /// Why a watch ended. Begin anew then.
    pub(super) async fn next(&mut self) -> Result<()> {
        loop {
            match self.watches.next().await {
                Some(Ok(Told::Stands)) => {
                    self.closed = self.closed.saturating_sub(1);
                    if self.closed == 0 {
                        return Ok(());
                    }
                }
                Some(Ok(Told::Matters(true))) if self.closed == 0 => return Ok(()),
                Some(Ok(Told::Matters(_))) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(Error::actor_gone("watch")),
            }
        }
    }
}

impl Subject {
    fn watch(self, work: &Work) -> BoxStream<'static, Result<Told>> {
        let (client, layout) = (work.client(), work.layout());
        let watch = match self {
            Self::Items => client.watch(layout.items()).without_deletes(),
            Self::Room => client.watch(layout.items()).without_puts(),
            Self::Orphans => client.watch(layout.running()).without_puts(),
        };
        let work = work.clone();
        let told = watch.require_leader().created_notify().open().map(move |told| match told? {
            WatchResponse::Created { .. } => Ok(Told::Stands),
            told if self == Self::Orphans => Ok(Told::Matters(work.leaves_orphans(&told))),
            told => Ok(Told::Matters(!told.events().is_empty())),
        });
        told.boxed()
    }
}

impl Work {
    /// Whether a worker is gone without its job.
    fn leaves_orphans(&self, told: &WatchResponse) -> bool {
        let gone = told.events().iter().map(|event| &event.kv.key);
        let layout = self.layout();
        let done: HashSet<_> = gone.clone().filter_map(|key| layout.job_of_run(key)).collect();
        gone.filter_map(|key| layout.job_of_worker(key)).any(|job| !done.contains(&job))
    }

    /// Waits a little if it is worth to try again after this error; gives it back if it is not.
    pub(super) async fn outlast(&self, error: Error, outage: &mut Option<Outage>) -> Result<()> {
        match error.kind() {
            // What was missed is seen by looking.
            ErrorKind::Compacted => return Ok(()),
            ErrorKind::WatchCanceled => {}
            _ if error.is_retryable() => {}
            _ => return Err(error),
        }
        tracing::debug!(prefix = ?self.layout().prefix(), %error, "a queue is looked at again");
        let now = self.client().now();
        let pause = outage.get_or_insert_with(|| Outage::new(now)).pause(now);
        self.client().sleep(pause).await;
        Ok(())
    }
}
