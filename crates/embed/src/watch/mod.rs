//! Watches: who is told of which change, and the stream that tells it.
//!
//! A watch that is up to date gets changes as they happen, through its stream's bounded queue. One
//! that begins in the past, or that could not keep up, reads history from the store when its
//! stream has room for it.

mod fragment;
mod hub;
mod queue;
mod stream;
mod watcher;

pub(crate) use hub::Hub;
pub(crate) use stream::WatchStream;
