use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// The open connections of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    accepted: u64,
    open: HashMap<u64, Link>,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: SocketAddr,
    pub(crate) served: bool,
    task: Option<AbortHandle>,
}

impl Links {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.state().accepted
    }

    pub(crate) fn open(&self) -> usize {
        self.state().open.len()
    }

    /// Counts a new connection; it stays open until the returned entry is dropped.
    pub(crate) fn add(self: &Arc<Self>, client: SocketAddr) -> Entry {
        let mut state = self.state();
        state.accepted += 1;
        let id = state.accepted;
        state.open.insert(id, Link { client, served: false, task: None });
        Entry { links: Arc::clone(self), id }
    }

    /// Names the connection's task, and whether that serves it or lets it wait for nothing. A
    /// connection that was reset before this is ended now.
    pub(crate) fn carried_by(&self, id: u64, task: AbortHandle, served: bool) {
        match self.state().open.get_mut(&id) {
            Some(link) => (link.task, link.served) = (Some(task), served),
            None => task.abort(),
        }
    }

    /// Ends the connections for which `ends` holds: their sockets close with a reset.
    pub(crate) fn reset(&self, ends: impl Fn(&Link) -> bool) {
        let ended: Vec<Link> =
            self.state().open.extract_if(|_, link| ends(link)).map(|(_, link)| link).collect();
        for task in ended.into_iter().filter_map(|link| link.task) {
            task.abort();
        }
    }
}

/// One connection's place among the open ones. Dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Entry {
    links: Arc<Links>,
    pub(crate) id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.links.state().open.remove(&self.id);
    }
}
