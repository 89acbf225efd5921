//! etcd's errors, as its clients know them: a gRPC code and a text, both matched by clients.

use std::borrow::Cow;

use tonic::{Code, Status};

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: Cow<'static, str>,
}

impl Refusal {
    pub(crate) const fn new(code: Code, text: &'static str) -> Self {
        Self { code, text: Cow::Borrowed(text) }
    }
}

/// The same code, as tenure names it.
pub(crate) fn plain(code: Code) -> tenure::Code {
    use tenure::Code as Plain;
    match code {
        Code::Ok => Plain::Ok,
        Code::Cancelled => Plain::Canceled,
        Code::Unknown => Plain::Unknown,
        Code::InvalidArgument => Plain::InvalidArgument,
        Code::DeadlineExceeded => Plain::DeadlineExceeded,
        Code::NotFound => Plain::NotFound,
        Code::AlreadyExists => Plain::AlreadyExists,
        Code::PermissionDenied => Plain::PermissionDenied,
        Code::ResourceExhausted => Plain::ResourceExhausted,
        Code::FailedPrecondition => Plain::FailedPrecondition,
        Code::Aborted => Plain::Aborted,
        Code::OutOfRange => Plain::OutOfRange,
        Code::Unimplemented => Plain::Unimplemented,
        Code::Internal => Plain::Internal,
        Code::Unavailable => Plain::Unavailable,
        Code::DataLoss => Plain::DataLoss,
        Code::Unauthenticated => Plain::Unauthenticated,
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.text)
    }
}

/// Names refusals: `NAME = Code "text";`.
macro_rules! refusals {
    ($($name:ident = $code:ident $text:literal;)*) => {
        $(pub(crate) const $name: Refusal = Refusal::new(Code::$code, $text);)*
    };
}
pub(crate) use refusals;

refusals! {
    EMPTY_KEY = InvalidArgument "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument "etcdserver: duplicate key given in txn request";
    INVALID_SORT = InvalidArgument "etcdserver: invalid sort option";
    TOO_LARGE = InvalidArgument "etcdserver: request is too large";
    COMPACTED = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REVISION = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    NO_SPACE = ResourceExhausted "etcdserver: mvcc: database space exceeded";
    CORRUPT = DataLoss "etcdserver: corrupt cluster";
    LEASE_NOT_FOUND = NotFound "etcdserver: requested lease not found";
    LEASE_EXISTS = FailedPrecondition "etcdserver: lease already exists";
    LEASE_TTL_TOO_LARGE = OutOfRange "etcdserver: too large lease TTL";
    NO_LEADER = Unavailable "etcdserver: no leader";
    TIMED_OUT = Unavailable "etcdserver: request timed out";
    STOPPED = Unavailable "etcdserver: server stopped";
}
