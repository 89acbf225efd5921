//! The protocol machines of [tenure](https://docs.rs/tenure), pure.
//!
//! Whatever has timers, retries or races is decided here, as a function of what happened and
//! when: no I/O, no clock, no task, no randomness of its own. The actors of `tenure` feed these
//! machines and carry out what they answer; tests drive them through years of bad luck in
//! milliseconds.
//!
//! Users want the crate `tenure`; the plain data types here are re-exported there.

pub mod backoff;
pub mod endpoints;
mod etcd_error;
mod fence;
mod key;
mod key_range;
mod key_value;
pub mod lease;
mod moment;
pub mod name;
pub mod rendezvous;
pub mod retry;
mod revision;
pub mod stm;
pub mod succession;
pub mod wait_queue;
pub mod watch;

pub use etcd_error::EtcdError;
pub use fence::{Fence, FenceGate, ParseFenceError, StaleFence};
pub use key::{Key, Value};
pub use key_range::{BadRange, KeyRange, RangeEnd, prefix_end};
pub use key_value::{Event, EventKind, KeyValue};
pub use moment::Moment;
pub use revision::{LeaseId, Revision};
