//! Items that are taken to be worked on.

use std::{fmt, ops::Deref};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tenure_core::{Fence, wait_queue::Rule};

use super::{
    layout::{Found, failures_of, name_of},
    work::Work,
};
use crate::{
    error::{Error, Result},
    ops::{Compare, Delete, Json, Op, Put},
    recipes::claim::{Acquire, Errand, Held, Naming, Release, Request, Stand},
};

/// What it is called in logs and errors.
const JOB: &str = "job";

/// An item that somebody works on: this is the proof, until it says otherwise. [`Held`] has what
/// all guards can.
///
/// While it is held nobody else has the item. When it is lost, with the session, the item goes back
/// to the queue, and this worker's writes through [`kv`](Held::kv) are refused: what is written so
/// is written once, however often the item is delivered.
///
/// # Dropping
///
/// Is a [`nack`](Self::nack) in the background, and never waits.
#[must_use = "the item goes back to the queue when this is dropped"]
pub struct Delivery {
    held: Held,
    work: Work,
    job: Bytes,
    value: Bytes,
}

impl Delivery {
    /// What was put into the queue.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The same, of an item that was put as [`Json`].
    ///
    /// # Errors
    ///
    /// Those of [`Json::read`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        Json::read(&self.value).map(|Json(value)| value)
    }

    /// How often it was delivered, this time included.
    pub fn attempts(&self) -> u32 {
        self.failures().saturating_add(1)
    }

    fn failures(&self) -> u32 {
        failures_of(name_of(&self.job))
    }

    /// What proves that the item is this worker's: higher for each delivery than for the one
    /// before.
    pub fn fence(&self) -> Fence {
        self.held.claim().fence()
    }

    /// It is done: the item is gone for good when this returns.
    ///
    /// Cancel safe: dropped, it goes on in the background.
    ///
    /// # Errors
    ///
    /// `Lost` if it was not held any more, or if nobody can say: the item may be delivered again.
    /// What etcd refuses.
    pub async fn ack(self) -> Result<()> {
        let run = Delete::new(self.work.layout().run(&self.job));
        self.held.claim().errand().leave_with(vec![run.into()]);
        released(self.held.release().await?)
    }

    /// It is not done: the item goes back, as the last of the queue (of its priority), or to the
    /// dead letters if it failed [too often](crate::Queue::max_attempts).
    ///
    /// Cancel safe: dropped, it goes on in the background.
    ///
    /// # Errors
    ///
    /// Those of [`ack`](Self::ack). However it ends, the item goes back.
    pub async fn nack(self) -> Result<()> {
        let Self { held, work, job, value } = self;
        let since = held.claim().fence().create_revision;
        released(held.release().await?)?;
        // What the transaction itself could not put at the end.
        if work.moving_back(&job, &value, failures_of(name_of(&job)) + 1).is_empty() {
            work.requeue(&job, since, &value).await?;
        }
        Ok(())
    }

    /// It has a worker from now on, so that it counts as an attempt.
    pub(super) fn hand_over(self) -> Self {
        let failures = self.failures().saturating_add(1);
        let back = self.work.moving_back(&self.job, &self.value, failures);
        self.held.claim().errand().leave_with(back);
        self
    }
}

fn released(release: Release) -> Result<()> {
    match release {
        Release::Released => Ok(()),
        Release::AlreadyLost(reason) => Err(Error::lost(JOB, reason)),
    }
}

/// Moves an item out of the queue, and puts a key that dies with this worker, in one transaction.
pub(super) fn take_to_work(
    work: Work,
    found: Found,
) -> BoxFuture<'static, Result<Option<Delivery>>> {
    Box::pin(async move {
        let layout = work.layout();
        let job = found.job();
        let home = layout.worker(&job);
        let queue = work.client().queues().of(work.client(), &home);
        let (naming, rule) = (Naming::PutOnce, Rule::Nobody);
        let stand = Stand { queue: Some(queue), home, naming, rule, one_by_one: false };
        let unchanged = Compare::mod_revision(found.key.clone()).equal(found.revision);
        let delete = Op::from(Delete::new(found.key.clone()));
        let put = Op::from(Put::new(layout.run(&job), found.value.clone()));
        let errand = Errand::new(vec![unchanged], vec![delete, put]);
        // Until somebody has it in hand it is no attempt.
        errand.leave_with(work.moving_back(&job, &found.value, failures_of(&found.name)));
        let request = Request::new(JOB, work.session(), vec![stand]).only_try().errand(errand);
        let held = Acquire::new(Ok(request), Ok).await?;
        Ok(held.map(|held| Delivery { held, work, job, value: found.value }))
    })
}

impl Deref for Delivery {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("fence", &self.fence())
            .field("attempts", &self.attempts())
            .finish_non_exhaustive()
    }
}
