//! What a transaction saw of the store, what became of it since, and when to try again.

mod pace;
mod reads;

pub use pace::Pace;
pub use reads::{RangeRead, Reads, Snapshot};
