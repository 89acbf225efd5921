//! What services coordinate with, each on a session.

mod answering;
mod barrier;
mod claim;
mod double_barrier;
mod follow;
mod holder;
mod latch;
mod mutex;
mod once;
mod own_key;
mod wait;

pub use self::{
    barrier::{Barrier, BarrierActor, BarrierGuard, HoldBarrier, ReleaseBarrier, WaitBarrier},
    claim::{Acquire, Acquiring, ClaimState, Held, Release},
    double_barrier::{
        DoubleBarrier, DoubleBarrierActor, Enter, EnterBarrier, Entering, Leave, LeaveBarrier,
        Membership,
    },
    holder::{Contender, Holder},
    latch::{AwaitLatch, CountDown, CountDownBy, CountDownLatch, LatchActor},
    mutex::{
        AcquireLock, LockEvent, MultiGuard, MultiMutex, Mutex, MutexActor, MutexGuard, ReleaseLock,
        SubscribeLock, TryAcquireLock,
    },
    own_key::HeldKey,
    wait::Wait,
};
