//! Connections: from a port or through a pipe, and what answers on them.

mod authority;
mod connections;
mod in_process;
mod listeners;
mod router;

pub(crate) use connections::Connections;
pub use in_process::InProcess;
pub(crate) use listeners::Listeners;
pub(crate) use router::Router;
