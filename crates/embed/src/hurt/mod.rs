//! What goes wrong when a test says so.

mod call;
mod fault;
mod streams;

pub use call::Call;
pub(crate) use call::Counts;
pub use fault::{Fault, Injected};
pub(crate) use fault::{Faults, Harm};
pub(crate) use streams::Streams;
