use std::error::Error as StdError;

use tenure_core::{
    EtcdError,
    retry::{Code, Failure, Origin, Verdict},
};
use tonic::Status;

use super::codec::Undecodable;
use crate::error::{Error, ErrorKind};

/// How tonic words an answer that ended before its message.
const NO_MESSAGE: &str = "Missing response message.";

/// Finds out who made a status. tonic makes some itself; only their sources tell.
pub(super) fn origin(status: &Status) -> Origin {
    let Some(source) = status.source() else {
        return if status.message() == NO_MESSAGE { Origin::Garbled } else { Origin::Server };
    };
    let mut next = Some(source);
    while let Some(error) = next {
        if error.is::<Undecodable>() {
            return Origin::Garbled;
        }
        if error.is::<tonic::ConnectError>()
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref::<h2::Error>().and_then(h2::Error::reason)
                == Some(h2::Reason::REFUSED_STREAM)
        {
            return Origin::NotSent;
        }
        next = error.source();
    }
    Origin::Connection
}

pub(super) fn failure(status: &Status, origin: Origin) -> Failure<'_> {
    Failure { origin, code: code(status.code()), text: status.message() }
}

/// The error that a status is to the user, once nothing more is tried.
pub(super) fn error(
    what: &'static str,
    status: Status,
    origin: Origin,
    verdict: Verdict,
    repeatable: bool,
) -> Error {
    let etcd = match origin {
        Origin::Server => EtcdError::from_text(status.message()),
        _ => None,
    };
    let kind = match (origin, verdict) {
        (Origin::Garbled, _) => ErrorKind::Protocol,
        (_, Verdict::Indeterminate) => ErrorKind::Indeterminate,
        (Origin::NotSent, _) => ErrorKind::Unavailable,
        (_, Verdict::Refused | Verdict::Elsewhere | Verdict::RefreshToken) => {
            if let Some(etcd) = etcd {
                return Error::etcd(what, etcd);
            }
            match status.code() {
                tonic::Code::PermissionDenied => ErrorKind::PermissionDenied,
                tonic::Code::Unauthenticated => ErrorKind::Unauthenticated,
                _ => ErrorKind::Refused,
            }
        }
        (_, Verdict::Again) => ErrorKind::Unavailable,
        (_, Verdict::Failed) => ErrorKind::Refused,
    };
    let error = Error::new(kind, what, describe(&status)).etcd_says(etcd).because(status);
    if origin == Origin::Garbled && !repeatable { error.unsure() } else { error }
}

/// tonic's own statuses say "transport error"; the reason is at the end of their sources.
fn describe(status: &Status) -> String {
    let mut text = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    let mut next = status.source();
    while let Some(error) = next {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        next = error.source();
    }
    text
}

fn code(code: tonic::Code) -> Code {
    match code {
        tonic::Code::Ok => Code::Ok,
        tonic::Code::Cancelled => Code::Canceled,
        tonic::Code::Unknown => Code::Unknown,
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Internal => Code::Internal,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
    }
}
