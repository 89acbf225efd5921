//! What services coordinate with, each on a session.

mod claim;
mod holder;
mod mutex;
mod name;
mod rwlock;

pub use self::{
    claim::{Acquire, Acquiring, ClaimState, Held, Release},
    holder::{Contender, Holder},
    mutex::{
        AcquireLock, LockEvent, MultiGuard, MultiMutex, Mutex, MutexActor, MutexGuard, ReleaseLock,
        SubscribeLock, TryAcquireLock,
    },
    rwlock::{ReadGuard, RwLock, WriteGuard},
};
