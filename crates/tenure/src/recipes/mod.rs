//! What services coordinate with, each on a session.

mod claim;
mod holder;
mod mutex;
mod name;
mod queue;
mod rwlock;

pub use self::{
    claim::{Acquire, Acquiring, ClaimState, Held, Release},
    holder::{Contender, Holder},
    mutex::{
        AcquireLock, LockEvent, MultiGuard, MultiMutex, Mutex, MutexActor, MutexGuard, ReleaseLock,
        SubscribeLock, TryAcquireLock,
    },
    queue::{
        AckJob, Delivery, Enqueue, EnqueueJob, Job, NackJob, PriorityQueue, Queue, QueueItem,
        Queued, QueuedState, Take, TakeJob, WorkQueueActor,
    },
    rwlock::{ReadGuard, RwLock, WriteGuard},
};
