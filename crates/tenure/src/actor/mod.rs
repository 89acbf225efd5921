//! The same, spoken in actix messages, for programs that live in actix.
//!
//! ```no_run
//! use tenure::{Client, Get, actor::{self, Execute}};
//!
//! # async fn example(client: Client) -> anyhow::Result<()> {
//! let kv = actor::kv(&client);
//! let answer = kv.send(Execute::new(Get::new("config"))).await??;
//! # let _ = answer;
//! # Ok(())
//! # }
//! ```

use actix::Addr;

use crate::Client;
pub use crate::{
    client::kv::{Execute, KvActor},
    recipes::{
        AckJob, AcquireLock, AcquirePermits, AcquireRead, AcquireWrite, AddCount, AwaitLatch,
        BarrierActor, Campaign, ClaimActor, CountDownBy, CounterActor, DoubleBarrierActor,
        Downgrade, ElectionActor, EnqueueJob, EnterBarrier, GetCount, HoldBarrier, Job, LatchActor,
        LeaderBound, LeadershipChanged, LeaveBarrier, LockEvent, MutexActor, NackJob, PermitEvent,
        Proclaim, ReleaseBarrier, ReleaseLock, ReleasePermits, Resign, ResizeSemaphore,
        RunningActor, RwLockActor, SemaphoreActor, SetCount, StepDown, StmActor,
        SubscribeLeadership, SubscribeLock, SubscribePermits, TakeJob, Transact, TryAcquireLock,
        TryAcquirePermits, TryAcquireRead, TryAcquireWrite, WaitBarrier, WorkQueueActor,
    },
    session::{
        CloseSession, OpenSession, OrphanSession, SessionActor, SessionEvent, SubscribeSession,
    },
};

/// The actor that does operations on the key space for `client`. It ends with the client.
pub fn kv(client: &Client) -> Addr<KvActor> {
    client.kv_actor()
}
