//! Each recipe, as workers use it and as they are judged.

mod election;
mod mutex;

pub(crate) use self::{election::LeadersCount, mutex::CountsUnderAMutex};
