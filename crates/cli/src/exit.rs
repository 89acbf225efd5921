//! What the command ends with.

use tenure::{Error, ErrorKind, LossReason};

/// Anything without a code of its own.
pub(crate) const OTHER: u8 = 1;
/// The command line asks for what cannot be.
pub(crate) const USAGE: u8 = 2;
/// `EX_UNAVAILABLE`: etcd cannot be reached, or cannot serve.
pub(crate) const UNAVAILABLE: u8 = 69;
/// `EX_TEMPFAIL`: somebody else has the lock.
pub(crate) const NOT_ACQUIRED: u8 = 75;
/// The lock, or the place in its queue, was lost.
pub(crate) const LOST: u8 = 76;
/// `EX_NOPERM`: the user is unknown to etcd, or may not do this.
pub(crate) const DENIED: u8 = 77;
/// As shells say it: the command is there and cannot be run.
pub(crate) const CANNOT_RUN: u8 = 126;
/// As shells say it: there is no such command.
pub(crate) const NO_COMMAND: u8 = 127;

/// The last part of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0        done; for `lock` with a command: that of the command
  1        any other error
  2        the command line is wrong
  69       etcd cannot be reached, or cannot serve
  75       not acquired: somebody else has the lock (--try, --wait)
  76       the lock was lost, or about to be: its command was stopped
  77       etcd does not know the user, or does not let it
  126      the command cannot be run
  127      there is no such command
  128 + n  ended by signal n: the command, or tenure before it had the lock

Environment: each flag of the connection is also taken from TENURE_<FLAG>, then from \
ETCDCTL_<FLAG>, e.g. TENURE_ENDPOINTS, ETCDCTL_CACERT. What is empty counts as not set.";

/// Why it did not work out, for a person and for a script.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(USAGE, text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let unheard =
            matches!(error.loss_reason(), Some(LossReason::Expired | LossReason::Unanswered));
        let code = match error.kind() {
            ErrorKind::InvalidInput => USAGE,
            ErrorKind::Unavailable | ErrorKind::Timeout => UNAVAILABLE,
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => DENIED,
            ErrorKind::Lost if unheard => UNAVAILABLE,
            ErrorKind::Lost => LOST,
            _ => OTHER,
        };
        Self { code, text: error.to_string() }
    }
}
