//! Each recipe, as workers use it and as they are judged.

mod bank;
mod double_barrier;
mod election;
mod mutex;
mod queue;
mod rwlock;
mod semaphore;

pub(crate) use self::{
    bank::MovesMoney, double_barrier::MeetsAtABarrier, election::LeadersCount,
    mutex::CountsUnderAMutex, queue::WorksOffAQueue, rwlock::CountsUnderAnRwLock,
    semaphore::SharesPermits,
};
