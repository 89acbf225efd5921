use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tenure_core::watch::{Item, State};

/// What waits between the Watch actor and one subscriber. How much may wait is bounded by the
/// registry, which stops the watch at the server before it is too much.
#[derive(Debug)]
struct Queue {
    items: VecDeque<Item>,
    state: State,
    ended: bool,
    waker: Option<Waker>,
}

/// The actor's end. Dropping it ends the subscriber's stream.
#[derive(Debug)]
pub(super) struct Feed(Arc<Mutex<Queue>>);

/// The subscriber's end.
#[derive(Debug)]
pub(super) struct Intake(Arc<Mutex<Queue>>);

pub(super) fn queue() -> (Feed, Intake) {
    let queue =
        Queue { items: VecDeque::new(), state: State::Connecting, ended: false, waker: None };
    let queue = Arc::new(Mutex::new(queue));
    (Feed(Arc::clone(&queue)), Intake(queue))
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // Nothing in here can panic while it is held.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    pub(super) fn push(&self, item: Item) {
        let waker = {
            let mut queue = lock(&self.0);
            // An interruption that is over before anybody heard of it was none; so these cannot
            // pile up.
            if item == Item::Resumed && queue.items.back() == Some(&Item::Interrupted) {
                queue.items.pop_back();
                return;
            }
            queue.items.push_back(item);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A subscriber who waits is woken to hear that its watch is paused: it may have taken
    /// something that nobody was told of.
    pub(super) fn state(&self, state: State) {
        let waker = {
            let mut queue = lock(&self.0);
            queue.state = state;
            (state == State::Paused).then(|| queue.waker.take()).flatten()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let waker = {
            let mut queue = lock(&self.0);
            queue.ended = true;
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Intake {
    /// The next item; `None` when the actor is gone and everything was taken.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let mut queue = lock(&self.0);
        match queue.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if queue.ended => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn state(&self) -> Option<State> {
        let queue = lock(&self.0);
        (!queue.ended).then_some(queue.state)
    }
}
