//! Each recipe, as workers use it and as they are judged.

mod mutex;

pub(crate) use self::mutex::CountsUnderAMutex;
