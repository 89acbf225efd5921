//! Each recipe, as workers use it and as they are judged.

mod bank;
mod double_barrier;
mod mutex;
mod queue;

pub(crate) use self::{
    bank::MovesMoney, double_barrier::MeetsAtABarrier, mutex::CountsUnderAMutex,
    queue::WorksOffAQueue,
};
