//! What services coordinate with, each on a session.

mod claim;
mod election;
mod holder;
mod mutex;
mod name;
mod rwlock;
mod semaphore;

pub use self::{
    claim::{Acquire, Acquiring, ClaimActor, ClaimState, Held, Release},
    election::{Election, Leader, Leadership, Observer, TransferError},
    holder::{Contender, Holder},
    mutex::{
        AcquireLock, LockEvent, MultiGuard, MultiMutex, Mutex, MutexActor, MutexGuard, ReleaseLock,
        SubscribeLock, TryAcquireLock,
    },
    rwlock::{
        AcquireRead, AcquireWrite, Downgrade, ReadGuard, RwLock, RwLockActor, TryAcquireRead,
        TryAcquireWrite, WriteGuard,
    },
    semaphore::{
        AcquirePermits, PermitClaim, PermitEvent, Permits, ReleasePermits, ResizeSemaphore,
        Semaphore, SemaphoreActor, SubscribePermits, TryAcquirePermits,
    },
};
