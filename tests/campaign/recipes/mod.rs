//! Each recipe, as workers use it and as they are judged.

mod election;
mod mutex;
mod rwlock;
mod semaphore;

pub(crate) use self::{
    election::LeadersCount, mutex::CountsUnderAMutex, rwlock::CountsUnderAnRwLock,
    semaphore::SharesPermits,
};
