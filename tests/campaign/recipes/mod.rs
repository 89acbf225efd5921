//! Each recipe, as workers use it and as they are judged.

mod bank;
mod double_barrier;
mod mutex;

pub(crate) use self::{
    bank::MovesMoney, double_barrier::MeetsAtABarrier, mutex::CountsUnderAMutex,
};
