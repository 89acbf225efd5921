//! What may be said, and done, about a call that failed.
//!
//! The rule of the house: a write is sent at most once unless nothing reached a server; a read
//! goes on to another member. Everything else follows from three facts about the failure: may the
//! call be repeated, was it sent, and what was answered.

mod attempts;
mod classify;

pub use attempts::{Attempts, Policy, Step};
pub use classify::{Failure, Origin, Verdict, classify};

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the gRPC specification")]
pub enum Code {
    Ok,
    Canceled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}
