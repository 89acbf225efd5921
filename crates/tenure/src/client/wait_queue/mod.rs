//! Who is next: one actor per prefix follows the keys of all contenders there.
//!
//! Contenders put a key each, and the oldest holds, or what its rule says. [`WaitQueue`](tenure_core::wait_queue)
//! decides; the actor here keeps its watch, and tells the contenders of this client.

mod actor;
mod long_way;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use actix::Addr;
use bytes::Bytes;
use tenure_core::{
    KeyRange, Revision,
    wait_queue::{Listed, Listing, Rule},
};

pub(crate) use self::actor::listing;
use self::actor::{Enter, Expect, Finish, Leave, QueueActor};
use super::Client;
use crate::error::Error;

/// What it is called in errors.
const WHAT: &str = "place in a queue";

/// Where a semaphore's number of permits is written.
pub(crate) fn room_key(prefix: &Bytes) -> Bytes {
    [prefix, &b"limit"[..]].concat().into()
}

/// How many permits a semaphore's key says that there are.
pub(crate) fn room_of(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A contender of this client, as its queue sees it.
pub(crate) trait Waiter: Send + Sync + 'static {
    /// Nobody is older than this key.
    fn turn(&self, key: &Bytes);
    /// Somebody else deleted this key.
    fn deleted(&self, key: &Bytes);
    /// This key was put at this revision, by its owner or by somebody else.
    fn rewritten(&self, key: &Bytes, revision: Revision);
    /// The queue cannot be followed; whoever still waits waits in vain.
    fn failed(&self, error: Error);
    /// Whether anybody wants to know how many are ahead.
    fn is_observed(&self) -> bool;
    /// So many keys are older than this one.
    fn ahead(&self, key: &Bytes, count: usize);
}

/// The queue of a prefix, for as long as somebody has a use for it.
#[derive(Debug)]
pub(crate) struct Queue {
    prefix: Bytes,
    actor: Addr<QueueActor>,
    /// The watch stands, and every key is known.
    knows_all: Arc<AtomicBool>,
}

impl Queue {
    /// All keys of contenders are under this.
    pub(crate) fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    pub(crate) fn range(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    /// Whether a newcomer need not look who is there: the watch will tell. That it may have ended
    /// meanwhile does no harm; somebody will look then.
    pub(crate) fn knows_all(&self) -> bool {
        self.knows_all.load(Ordering::Acquire)
    }

    /// Somebody is about to enter: it pays to watch from now on.
    pub(crate) fn expect(&self) {
        self.actor.do_send(Expect);
    }

    /// Where a semaphore's number of permits is written, if this is one.
    pub(crate) fn room_key(&self) -> Bytes {
        room_key(&self.prefix)
    }

    /// A key was put, created at this revision, and `before` was seen.
    pub(crate) fn enter(&self, own: Own, before: Before, waiter: Weak<dyn Waiter>) {
        if self.actor.connected() {
            self.actor.do_send(Enter { own, before, waiter });
        } else if let Some(waiter) = waiter.upgrade() {
            waiter.failed(Error::actor_gone(WHAT));
        }
    }

    /// The owner of a key has no interest in it any more.
    pub(crate) fn leave(&self, key: Bytes) {
        self.actor.do_send(Leave(key));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.actor.do_send(Finish);
    }
}

/// A key that was put.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) key: Bytes,
    pub(crate) created: Revision,
    /// Whom it waits for.
    pub(crate) rule: Rule,
    /// It follows its predecessor also in a short queue, so that whatever happens in the queue
    /// wakes one and not all. A hand-over takes a little longer then.
    pub(crate) one_by_one: bool,
}

/// What a transaction that put a key saw just before, or one that found it there.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    pub(crate) cluster_id: u64,
    /// The oldest keys; none if it did not look, since the watch tells.
    pub(crate) listing: Option<Listing>,
    /// Whether these were all.
    pub(crate) complete: bool,
    /// How many keys there were.
    pub(crate) count: u64,
    /// The last that the key waits for.
    pub(crate) ahead: Ahead,
    /// How many permits there were, of a semaphore.
    pub(crate) room: Option<u64>,
}

/// The youngest of the older keys that a key waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    NotAsked,
    Nobody,
    Key(Bytes),
}

impl Before {
    /// Whether it shows that it is a key's turn.
    pub(crate) fn admits(&self, own: &Own) -> bool {
        let all = self.listing.as_ref().filter(|_| self.complete);
        let older = |listed: &&Listed| listed.create_revision < own.created;
        own.rule == Rule::Nobody
            || all.is_some_and(|all| {
                let older = all.keys.iter().filter(older).map(|listed| &listed.key);
                own.rule.admits(older, self.room)
            })
            || self.ahead == Ahead::Nobody
    }
}

/// The queues of a client that are in use.
#[derive(Default)]
pub(crate) struct Queues(Mutex<InUse>);

#[derive(Default)]
struct InUse {
    by_prefix: HashMap<(usize, Bytes), Weak<Queue>>,
    /// With so many entries it pays to look for those that are over.
    sweep_at: usize,
}

impl Queues {
    /// The queue of a prefix that ends in a slash, as `client` sees it: under other layers the
    /// same words may mean other keys.
    pub(crate) fn of(&self, client: &Client, prefix: &Bytes) -> Arc<Queue> {
        let layers = Arc::as_ptr(client.seam()).cast::<()>() as usize;
        // Nothing in here can panic while it is held.
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (layers, prefix.clone());
        // The queue of other layers keeps them, so an address that is found is not used anew.
        let known = queues.by_prefix.get(&id).and_then(Weak::upgrade);
        if let Some(queue) = known.filter(|queue| queue.actor.connected()) {
            return queue;
        }
        if queues.by_prefix.len() >= queues.sweep_at {
            queues.by_prefix.retain(|_, queue| queue.strong_count() > 0);
            queues.sweep_at = 2 * queues.by_prefix.len() + 16;
        }
        let (owned, of) = (client.clone(), prefix.clone());
        let knows_all = Arc::new(AtomicBool::new(false));
        let tells = Arc::clone(&knows_all);
        let actor = client.start_actor(move |running| QueueActor::new(owned, of, tells, running));
        let queue = Arc::new(Queue { prefix: prefix.clone(), actor, knows_all });
        queues.by_prefix.insert(id, Arc::downgrade(&queue));
        queue
    }
}
