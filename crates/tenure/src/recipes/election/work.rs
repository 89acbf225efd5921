use std::{
    any::Any,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tenure_core::Fence;
use tokio::{runtime::Handle, task::JoinHandle};

use super::Reign;

/// What is to be done while leading.
pub(super) struct Work<F>(Arc<Mutex<F>>);

impl<F, W> Work<F>
where
    F: FnMut(Arc<Reign>) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    pub(super) fn of(work: F) -> Self {
        Self(Arc::new(Mutex::new(work)))
    }

    /// Begins a term's work, all of it on this runtime: what makes the future may block, too.
    pub(super) fn start(&self, runtime: &Handle, reign: Arc<Reign>) -> Running {
        let (work, fence) = (Arc::clone(&self.0), reign.fence());
        let task = runtime.spawn(async move {
            // It may have panicked in the term before.
            let work = (*work.lock().unwrap_or_else(PoisonError::into_inner))(reign);
            work.await;
        });
        Running { fence, state: State::Runs(task) }
    }
}

/// The work of one term. Dropped, it is aborted.
pub(super) struct Running {
    fence: Fence,
    state: State,
}

enum State {
    Runs(JoinHandle<()>),
    Aborted(JoinHandle<()>),
    Returned,
    Failed,
    /// Its runtime ended.
    Gone,
}

impl Running {
    /// Waits until it has ended. Cancel safe.
    pub(super) async fn ended(&mut self) {
        let (task, aborted) = match &mut self.state {
            State::Runs(task) => (task, false),
            State::Aborted(task) => (task, true),
            _ => return,
        };
        self.state = match task.await {
            Ok(()) => State::Returned,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => {
                    let panic = text_of(&*panic);
                    tracing::error!(fence = %self.fence, panic, "the leader's work panicked");
                    State::Failed
                }
                Err(_) if aborted => State::Failed,
                Err(_) => State::Gone,
            },
        };
    }

    /// Ends it as soon as it awaits something.
    pub(super) fn abort(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Failed) {
            State::Runs(task) => {
                task.abort();
                State::Aborted(task)
            }
            ended => ended,
        };
    }

    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.state, State::Runs(_) | State::Aborted(_))
    }

    /// Whether it returned.
    pub(super) fn has_returned(&self) -> bool {
        matches!(self.state, State::Returned)
    }

    /// Whether no work can run any more.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let State::Runs(task) | State::Aborted(task) = &self.state {
            task.abort();
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of unknown text")
}
