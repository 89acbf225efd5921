//! What etcd says when it refuses: every error text of its servers, with a name.
//!
//! etcd's errors are told apart by their text alone, as Go's client does: the gRPC code of some
//! differs between versions (3.4 and 3.5 answer `Unavailable` where newer ones answer
//! `FailedPrecondition`), the text does not.

use crate::retry::Code;

/// How all texts begin.
const PREFIX: &str = "etcdserver: ";

macro_rules! etcd_errors {
    ($($name:ident: $code:ident, $text:literal;)*) => {
        /// An error that etcd itself reported, by the name Go's client gives it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EtcdError {
            $(
                #[doc = concat!("`", $text, "`")]
                $name,
            )*
        }

        impl EtcdError {
            /// Every error in the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The text that etcd sends.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The gRPC code that current servers send with it.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                }
            }
        }
    };
}

etcd_errors! {
    EmptyKey: InvalidArgument, "etcdserver: key is not provided";
    KeyNotFound: InvalidArgument, "etcdserver: key not found";
    ValueProvided: InvalidArgument, "etcdserver: value is provided";
    LeaseProvided: InvalidArgument, "etcdserver: lease is provided";
    TooManyOps: InvalidArgument, "etcdserver: too many operations in txn request";
    DuplicateKey: InvalidArgument, "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion: InvalidArgument, "etcdserver: invalid client api version";
    InvalidSortOption: InvalidArgument, "etcdserver: invalid sort option";
    Compacted: OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FutureRevision: OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    NoSpace: ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    LeaseNotFound: NotFound, "etcdserver: requested lease not found";
    LeaseExist: FailedPrecondition, "etcdserver: lease already exists";
    LeaseTtlTooLarge: OutOfRange, "etcdserver: too large lease TTL";
    WatchCanceled: Canceled, "etcdserver: watch canceled";
    MemberExist: FailedPrecondition, "etcdserver: member ID already exist";
    PeerUrlExist: FailedPrecondition, "etcdserver: Peer URLs already exists";
    MemberNotEnoughStarted: FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members";
    MemberBadUrls: InvalidArgument, "etcdserver: given member URLs are invalid";
    MemberNotFound: NotFound, "etcdserver: member not found";
    MemberNotLearner: FailedPrecondition, "etcdserver: can only promote a learner member";
    MemberLearnerNotReady: FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners: FailedPrecondition, "etcdserver: too many learner members in cluster";
    ClusterIdMismatch: FailedPrecondition, "etcdserver: cluster ID mismatch";
    RequestTooLarge: InvalidArgument, "etcdserver: request is too large";
    TooManyRequests: ResourceExhausted, "etcdserver: too many requests";
    RootUserNotExist: FailedPrecondition, "etcdserver: root user does not exist";
    RootRoleNotExist: FailedPrecondition, "etcdserver: root user does not have root role";
    UserAlreadyExist: FailedPrecondition, "etcdserver: user name already exists";
    UserEmpty: InvalidArgument, "etcdserver: user name is empty";
    UserNotFound: FailedPrecondition, "etcdserver: user name not found";
    RoleAlreadyExist: FailedPrecondition, "etcdserver: role name already exists";
    RoleNotFound: FailedPrecondition, "etcdserver: role name not found";
    RoleEmpty: InvalidArgument, "etcdserver: role name is empty";
    AuthFailed: InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    PermissionNotGiven: InvalidArgument, "etcdserver: permission not given";
    PermissionDenied: PermissionDenied, "etcdserver: permission denied";
    RoleNotGranted: FailedPrecondition, "etcdserver: role is not granted to the user";
    PermissionNotGranted: FailedPrecondition, "etcdserver: permission is not granted to the role";
    AuthNotEnabled: FailedPrecondition, "etcdserver: authentication is not enabled";
    InvalidAuthToken: Unauthenticated, "etcdserver: invalid auth token";
    InvalidAuthMgmt: InvalidArgument, "etcdserver: invalid auth management";
    AuthOldRevision: InvalidArgument, "etcdserver: revision of auth store is old";
    NoLeader: Unavailable, "etcdserver: no leader";
    NotLeader: FailedPrecondition, "etcdserver: not leader";
    LeaderChanged: Unavailable, "etcdserver: leader changed";
    NotCapable: FailedPrecondition, "etcdserver: not capable";
    Stopped: Unavailable, "etcdserver: server stopped";
    Timeout: Unavailable, "etcdserver: request timed out";
    TimeoutDueToLeaderFail: Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutDueToConnectionLost: Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex: Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    Unhealthy: Unavailable, "etcdserver: unhealthy cluster";
    Corrupt: DataLoss, "etcdserver: corrupt cluster";
    NotSupportedForLearner: FailedPrecondition, "etcdserver: rpc not supported for learner";
    BadLeaderTransferee: FailedPrecondition, "etcdserver: bad leader transferee";
    WrongDowngradeVersionFormat: InvalidArgument, "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTargetVersion: InvalidArgument, "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable: FailedPrecondition, "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess: FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade: FailedPrecondition, "etcdserver: no inflight downgrade job";
    RequestCanceled: Canceled, "etcdserver: request canceled";
    DeadlineExceeded: DeadlineExceeded, "etcdserver: context deadline exceeded";
    ElectionNotLeader: Unknown, "election: not leader";
    ElectionNoLeader: Unknown, "election: no leader";
    MutexSessionExpired: Unknown, "mutex: session is expired";
}

impl EtcdError {
    /// The error with this text, whatever code came with it.
    ///
    /// Watches carry the reason of a refusal as Go prints a status, with the code in front; that
    /// form is understood too.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.rsplit_once(" desc = ").map_or(text, |(_, desc)| desc);
        // The Lock and Election services let the words of Go's recipes through.
        if text.starts_with("election: ") || text.starts_with("mutex: ") {
            return Self::ALL.iter().copied().find(|error| error.text() == text);
        }
        // Some 3.5 servers let the auth store's own words through.
        let known = match text.strip_prefix("auth: ") {
            Some("revision in header is old") => return Some(Self::AuthOldRevision),
            Some(rest) => rest,
            None => text.strip_prefix(PREFIX)?,
        };
        Self::ALL.iter().copied().find(|error| error.text().strip_prefix(PREFIX) == Some(known))
    }

    /// Whether a write that got this answer was surely not applied.
    ///
    /// Everything here is refused before it is proposed, or fails as a whole when it is applied,
    /// but for the answers that only say that the server stopped waiting.
    pub const fn is_definite(self) -> bool {
        !matches!(
            self,
            Self::LeaderChanged
                | Self::Stopped
                | Self::Timeout
                | Self::TimeoutDueToLeaderFail
                | Self::TimeoutDueToConnectionLost
                | Self::TimeoutWaitAppliedIndex
                | Self::Unhealthy
                | Self::RequestCanceled
                | Self::DeadlineExceeded
                | Self::WatchCanceled
        )
    }

    /// Whether a fresh token may cure it.
    pub const fn wants_token(self) -> bool {
        matches!(self, Self::InvalidAuthToken | Self::AuthOldRevision | Self::UserEmpty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_leads_back_to_its_error() {
        for &error in EtcdError::ALL {
            assert_eq!(EtcdError::from_text(error.text()), Some(error));
        }
    }

    #[test]
    fn a_reason_printed_by_go_is_understood() {
        let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(EtcdError::from_text(reason), Some(EtcdError::PermissionDenied));
    }

    #[test]
    fn the_auth_stores_own_words_are_understood() {
        let old = EtcdError::from_text("auth: revision in header is old");
        assert_eq!(old, Some(EtcdError::AuthOldRevision));
        let empty = EtcdError::from_text("auth: user name is empty");
        assert_eq!(empty, Some(EtcdError::UserEmpty));
    }

    #[test]
    fn an_unknown_text_has_no_name() {
        assert_eq!(EtcdError::from_text("etcdserver: something new"), None);
    }
}
