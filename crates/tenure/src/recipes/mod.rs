//! What services coordinate with, each on a session.

mod answering;
mod barrier;
mod claim;
mod counter;
mod double_barrier;
mod election;
mod follow;
mod holder;
mod latch;
mod mutex;
mod name;
mod once;
mod queue;
mod rwlock;
mod semaphore;
mod stm;
mod wait;

pub use self::{
    barrier::{Barrier, BarrierActor, BarrierGuard, HoldBarrier, ReleaseBarrier, WaitBarrier},
    claim::{Acquire, Acquiring, ClaimActor, ClaimState, Held, Release},
    counter::{
        AddCount, AtomicCounter, Counted, CounterActor, GetCount, IdBlocks, Sequence, SetCount,
    },
    double_barrier::{
        DoubleBarrier, DoubleBarrierActor, Enter, EnterBarrier, Entering, Leave, LeaveBarrier,
        Membership, Party,
    },
    election::{
        Campaign, Election, ElectionActor, Health, Lead, LeadState, Leader, LeaderBound,
        Leadership, LeadershipChanged, Leading, Observer, Proclaim, Reign, Resign, RunningActor,
        StepDown, SubscribeLeadership, TransferError,
    },
    holder::{Contender, Holder},
    latch::{AwaitLatch, CountDown, CountDownBy, CountDownLatch, LatchActor},
    mutex::{
        AcquireLock, LockEvent, MultiGuard, MultiMutex, Mutex, MutexActor, MutexGuard, ReleaseLock,
        SubscribeLock, TryAcquireLock,
    },
    queue::{
        AckJob, Delivery, Enqueue, EnqueueJob, Job, NackJob, PriorityQueue, Queue, QueueItem,
        Queued, QueuedState, Take, TakeJob, WorkQueueActor,
    },
    rwlock::{
        AcquireRead, AcquireWrite, Downgrade, ReadGuard, RwLock, RwLockActor, TryAcquireRead,
        TryAcquireWrite, WriteGuard,
    },
    semaphore::{
        AcquirePermits, PermitClaim, PermitEvent, Permits, ReleasePermits, ResizeSemaphore,
        Semaphore, SemaphoreActor, SubscribePermits, TryAcquirePermits,
    },
    stm::{Isolation, Stm, StmActor, Transact, View},
    wait::Wait,
};
