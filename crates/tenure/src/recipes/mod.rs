//! What services coordinate with: most on a session, some on a client alone.

mod claim;
mod counter;
mod holder;
mod mutex;
mod stm;

pub use self::{
    claim::{Acquire, Acquiring, ClaimState, Held, Release},
    counter::{
        AddCount, AtomicCounter, Counted, CounterActor, GetCount, IdBlocks, Sequence, SetCount,
    },
    holder::{Contender, Holder},
    mutex::{
        AcquireLock, LockEvent, MultiGuard, MultiMutex, Mutex, MutexActor, MutexGuard, ReleaseLock,
        SubscribeLock, TryAcquireLock,
    },
    stm::{Isolation, Stm, StmActor, Transact, View},
};
