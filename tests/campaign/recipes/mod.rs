//! Each recipe, as workers use it and as they are judged.

mod mutex;
mod rwlock;
mod semaphore;

pub(crate) use self::{
    mutex::CountsUnderAMutex, rwlock::CountsUnderAnRwLock, semaphore::SharesPermits,
};
