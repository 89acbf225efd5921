//! Work that runs while its process leads, and at no other time.

use std::{
    fmt,
    future::{Future, IntoFuture},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::{runtime::Handle, sync::watch as latest};

use super::{
    Election, Reign, WHAT,
    campaigner::Campaigner,
    leading::{Leading, Told},
    work::Work,
};
use crate::{
    error::{Error, Result},
    ops::IntoValue,
};

/// Work to be run while leading; made by [`Election::lead`].
#[must_use = "nobody stands in the election until it is started or awaited"]
pub struct Lead<F> {
    pub(super) election: Election,
    pub(super) value: Result<Bytes>,
    pub(super) work: F,
    pub(super) budget: Duration,
    pub(super) once: bool,
}

impl<F, W> Lead<F>
where
    F: FnMut(Arc<Reign>) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    /// What the candidate says of itself; nothing by default.
    pub fn value(mut self, value: impl IntoValue) -> Self {
        self.value = value.into_value();
        self
    }

    pub(super) fn value_or(mut self, value: Result<Bytes>) -> Self {
        self.value = value;
        self
    }

    /// How long the work may take to end, 5 s by default. So long, but no longer than a third of
    /// the session's TTL, before the leadership would be lost for want of renewals it is told to.
    pub fn stop_within(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Ends after the work has returned once by itself, in place of standing again. Work that
    /// panics has not returned.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Stands in the election from now on, and runs the work whenever it leads, on the runtime
    /// this is called on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` outside a tokio runtime, for a bad name, or for a value that cannot be
    /// written.
    pub fn start(self) -> Result<Leading> {
        let runtime = Handle::try_current()
            .map_err(|_| Error::invalid(WHAT, "work is led inside a tokio runtime"))?;
        let value = self.value?;
        self.election.queue.as_ref().map_err(Error::clone)?;
        let client = self.election.session.client().clone();
        let (stop, stopped) = latest::channel(false);
        let told = Told::new();
        let leading = Leading::new(client.clone(), stop, told.clone());
        let campaigner = Campaigner {
            election: self.election,
            value,
            work: Work::of(self.work),
            budget: self.budget,
            once: self.once,
            runtime,
            stopped,
            told,
        };
        client.spawn(campaigner.run());
        Ok(leading)
    }
}

/// Starts it, and waits until it ends. Dropping the future stops it in the background.
impl<F, W> IntoFuture for Lead<F>
where
    F: FnMut(Arc<Reign>) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        let started = self.start();
        Box::pin(async move { started?.ended().await })
    }
}

impl<F> fmt::Debug for Lead<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").field("election", &self.election).finish_non_exhaustive()
    }
}
