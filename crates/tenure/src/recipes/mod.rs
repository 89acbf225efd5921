//! What services coordinate with, each on a session.

mod claim;
mod counter;
mod election;
mod holder;
mod mutex;
mod name;
mod rwlock;
mod semaphore;
mod stm;

pub use self::{
    claim::{Acquire, Acquiring, ClaimState, Held, Release},
    counter::{
        AddCount, AtomicCounter, Counted, CounterActor, GetCount, IdBlocks, Sequence, SetCount,
    },
    election::{
        Election, Health, Lead, LeadState, Leader, LeaderBound, Leadership, Leading, Observer,
        Reign, RunningActor, StepDown, TransferError,
    },
    holder::{Contender, Holder},
    mutex::{
        AcquireLock, LockEvent, MultiGuard, MultiMutex, Mutex, MutexActor, MutexGuard, ReleaseLock,
        SubscribeLock, TryAcquireLock,
    },
    rwlock::{ReadGuard, RwLock, WriteGuard},
    semaphore::{PermitClaim, Permits, Semaphore},
    stm::{Isolation, Stm, StmActor, Transact, View},
};
