//! Watches: who is told of which change, and the stream that tells it.
//!
//! A watch that is up to date gets changes as they happen, through its stream's bounded queue. One
//! that begins in the past, or that could not keep up, reads history from the store when its
//! stream has room for it.

mod fragment;
mod hub;
mod stream;

pub(crate) use hub::{Hub, Queue};
pub(crate) use stream::WatchStream;
