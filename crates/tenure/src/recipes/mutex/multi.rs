use std::{collections::HashSet, fmt, ops::Deref, sync::Arc};

use tenure_core::Fence;

use super::KIND;
use crate::{
    client::Queue,
    error::{Error, Result},
    recipes::claim::{Acquire, Held, Release, Request, Stand},
    session::Session,
};

/// How many names fit into one transaction of etcd's 128 operations.
const MOST: usize = 60;

/// Several locks that are taken together, all or none.
///
/// All keys are put by one transaction, so that all queues have the same order: whoever takes all
/// its locks in one go cannot deadlock with others that do, in whatever order the names are given.
/// (Holding one lock while waiting for another can.) The names are those of [`Mutex::new`], and
/// the locks exclude theirs.
///
/// [`Mutex::new`]: super::Mutex::new
#[derive(Clone)]
pub struct MultiMutex {
    session: Session,
    queues: Result<Vec<Arc<Queue>>>,
}

impl MultiMutex {
    /// The locks of these names, 60 at most. What is wrong with them is told by
    /// [`acquire`](Self::acquire): none, too many, a bad one, or one twice.
    pub fn new(session: &Session, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self { session: session.clone(), queues: queues(session, names) }
    }

    /// Waits until all of them are ours; see [`Mutex::acquire`](super::Mutex::acquire).
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::acquire`](super::Mutex::acquire).
    pub fn acquire(&self) -> Acquire<MultiGuard> {
        Acquire::new(self.request(), |held| {
            held.map(|held| MultiGuard { held }).ok_or_else(crate::ops::other_kind)
        })
    }

    fn request(&self) -> Result<Request> {
        let stands = self.queues.clone()?.into_iter().map(Stand::in_line).collect();
        Ok(Request::new("lock", &self.session, stands))
    }

    /// The session it is used with.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Takes all of them if nobody has any, or waits for any; `None` otherwise, and nothing is left
    /// behind then. Errors and cancel safety are those of [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Acquire<Option<MultiGuard>> {
        let request = self.request().map(Request::only_try);
        Acquire::new(request, |held| Ok(held.map(|held| MultiGuard { held })))
    }
}

fn queues(
    session: &Session,
    names: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<Vec<Arc<Queue>>> {
    let client = session.client();
    let mut seen = HashSet::new();
    let mut queues = Vec::new();
    for name in names {
        let prefix = KIND.prefix_of(name.as_ref())?;
        if !seen.insert(prefix.clone()) {
            let rule = format!("{:?} is there twice", name.as_ref());
            return Err(Error::invalid("lock names", rule));
        }
        if queues.len() == MOST {
            return Err(Error::invalid("lock names", format!("more than {MOST}")));
        }
        queues.push(client.queues().of(client, &prefix));
    }
    if queues.is_empty() {
        return Err(Error::invalid("lock names", "there is none"));
    }
    Ok(queues)
}

impl fmt::Debug for MultiMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiMutex").finish_non_exhaustive()
    }
}

/// All the locks are ours, until this says that they are not: losing one is losing all. [`Held`] has
/// what all guards can.
///
/// # Dropping
///
/// Releases them in the background, as a [`MutexGuard`](super::MutexGuard) does.
#[must_use = "the locks are released when this is dropped"]
pub struct MultiGuard {
    held: Held,
}

impl MultiGuard {
    /// What proves the hold of each lock, in the order of the names.
    pub fn fences(&self) -> Vec<Fence> {
        self.held.claim().fences().collect()
    }

    /// Releases all of them at once; see [`MutexGuard::release`](super::MutexGuard::release).
    ///
    /// # Errors
    ///
    /// Those of [`MutexGuard::release`](super::MutexGuard::release).
    pub async fn release(self) -> Result<Release> {
        self.held.release().await
    }
}

impl Deref for MultiGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl fmt::Debug for MultiGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiGuard").field("fences", &self.fences()).finish_non_exhaustive()
    }
}
