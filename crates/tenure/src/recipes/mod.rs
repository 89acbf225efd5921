//! What services coordinate with, each on a session.

mod claim;
mod election;
mod holder;
mod mutex;
mod name;
mod rwlock;
mod semaphore;

pub use self::{
    claim::{Acquire, Acquiring, ClaimState, Held, Release},
    election::{
        Campaign, Election, ElectionActor, Health, Lead, LeadState, Leader, LeaderBound,
        Leadership, LeadershipChanged, Leading, Observer, Proclaim, Reign, Resign, RunningActor,
        StepDown, SubscribeLeadership, TransferError,
    },
    holder::{Contender, Holder},
    mutex::{
        AcquireLock, LockEvent, MultiGuard, MultiMutex, Mutex, MutexActor, MutexGuard, ReleaseLock,
        SubscribeLock, TryAcquireLock,
    },
    rwlock::{ReadGuard, RwLock, WriteGuard},
    semaphore::{PermitClaim, Permits, Semaphore},
};
