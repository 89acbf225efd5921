use std::{error::Error as StdError, iter::successors};

use tenure_core::{
    EtcdError,
    retry::{Code, Failure, Origin, Verdict},
};
use tonic::Status;

use super::{codec::Undecodable, link::Link};
use crate::error::{Error, ErrorKind};

/// How tonic begins what it says of answers that it cannot make sense of.
const SENSELESS: [&str; 4] = [
    "Missing response message.",
    "protocol error: ",
    "Unexpected EOF decoding stream.",
    "Error decompressing",
];

/// How tonic begins what it says of an answer above `max_receive_bytes`.
const TOO_LARGE: &str = "Error, decoded message length too large";

/// Finds out who made a status. tonic makes some itself; only their sources tell.
pub(super) fn origin(status: &Status) -> Origin {
    if status.source().is_none() {
        let senseless = SENSELESS.iter().any(|text| status.message().starts_with(text));
        return if senseless { Origin::Garbled } else { Origin::Server };
    }
    if causes(status).any(|error| error.is::<Undecodable>()) {
        Origin::Garbled
    } else if causes(status).any(is_not_sent) {
        Origin::NotSent
    } else {
        Origin::Connection
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    successors(status.source(), |&error| error.source())
}

/// A GOAWAY proves nothing, whatever its reason: it is about streams that were seen too.
fn is_not_sent(error: &(dyn StdError + 'static)) -> bool {
    error.is::<tonic::ConnectError>()
        || error.downcast_ref().is_some_and(hyper::Error::is_canceled)
        || error.downcast_ref().is_some_and(|error: &h2::Error| {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            refused && error.is_reset() && error.is_remote()
        })
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
    link: &Link,
) -> Error {
    let etcd = match origin {
        Origin::Server => EtcdError::from_text(status.message()),
        _ => None,
    };
    let kind = match (origin, verdict) {
        _ if status.message().starts_with(TOO_LARGE) => ErrorKind::Protocol,
        (Origin::Garbled, _) => ErrorKind::Protocol,
        (_, Verdict::Indeterminate) => ErrorKind::Indeterminate,
        (Origin::NotSent, _) => ErrorKind::Unavailable,
        (_, Verdict::Refused | Verdict::Elsewhere | Verdict::RefreshToken) => {
            if let Some(etcd) = etcd {
                return Error::etcd(what, etcd).at(link.name());
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
    let mut text = describe(&status);
    let cut = causes(&status).any(|error| error.is::<hyper::Error>());
    if let Some(hint) = link.hint().filter(|_| cut) {
        text = format!("{text} ({hint})");
    }
    let error = Error::new(kind, what, text).etcd_says(etcd).because(status).at(link.name());
    if origin == Origin::Garbled && !repeatable { error.unsure() } else { error }
}

/// A status made of an error says little; the reason is at the end of its sources.
fn describe(status: &Status) -> String {
    let mut text = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    for error in causes(status) {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
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
