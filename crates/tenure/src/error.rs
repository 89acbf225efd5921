//! One error for the whole library, that a person can act on.

use std::{error::Error as StdError, fmt, sync::Arc};

use bytes::Bytes;
use tenure_core::{EtcdError, Revision};

/// What every call of this library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not happen.
///
/// Cheap to clone. [`kind`](Self::kind) tells what to do about it,
/// [`etcd_error`](Self::etcd_error) what exactly etcd said, and the text names the call, the
/// endpoint and the rule. Keys appear in texts, values, passwords and tokens never.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    what: &'static str,
    message: String,
    endpoint: Option<Arc<str>>,
    etcd: Option<EtcdError>,
    compacted: Option<Revision>,
    loss: Option<LossReason>,
    conflicting: Vec<Bytes>,
    unsure: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What can be done about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that cannot be; nothing was sent. The text names the field
    /// and the rule.
    InvalidInput,
    /// etcd refused; nothing was applied. [`Error::etcd_error`] says which refusal.
    Refused,
    /// User or password is wrong, a token is not accepted, or none was sent.
    Unauthenticated,
    /// The user may not do this.
    PermissionDenied,
    /// The revision asked for is compacted away: read anew, then go on from there.
    /// [`Error::compact_revision`] may say from where history still exists.
    Compacted,
    /// No server could be reached, or none was able to serve; nothing was applied.
    Unavailable,
    /// A write was sent and no answer came back: it may or may not have been applied, now or a
    /// little later. Read before writing again.
    Indeterminate,
    /// What applies nothing (a read, a sign-in, a renewal) got no answer in time, or a wait
    /// reached its limit.
    Timeout,
    /// An answer could not be decoded, or broke the rules of the protocol; the connection it came
    /// on was dropped.
    Protocol,
    /// The server ended a watch.
    WatchCanceled,
    /// The client was closed, or every handle of it dropped.
    Closed,
    /// The session, or the place in a queue, that this rests on is lost;
    /// [`Error::loss_reason`] says why. Nothing was applied.
    Lost,
    /// Others changed what a transaction rests on, at each of its tries; nothing was applied.
    /// [`Error::conflicting_keys`] says what.
    Conflict,
    /// There is no room: as many as may are there already. Nothing stays of the asking.
    Full,
    /// An actor of the client ended unexpectedly. A defect: please report it.
    Internal,
}

/// Why something that was held in the cluster is held no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// No renewal was answered before the lease could have expired. The server may still have it
    /// for a moment.
    Expired,
    /// The server says that there is no such lease: it was revoked, or expired.
    Revoked,
    /// No answer came to the first renewal of a lease whose TTL is not known.
    Unanswered,
    /// The lease could not be renewed because the user is no longer let in.
    AuthDenied,
    /// Another cluster answers at the same endpoints: one that was made anew, or restored.
    ClusterChanged,
    /// Somebody deleted the key. The session may live on.
    KeyDeleted,
    /// The key was written by somebody else: another process resumed this session. Only the new
    /// owner holds it now.
    TakenOver,
    /// The session or the client was closed.
    Closed,
    /// Nobody keeps the lease alive any more, on purpose. It lives on until its TTL is over.
    Orphaned,
    /// What kept it ended unexpectedly: a defect of this library. The lease lives on until its
    /// TTL is over.
    Failed,
}

/// How many keys a text names.
const NAMED: usize = 3;

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "no renewal was answered in time",
            Self::Revoked => "the lease was revoked, or expired on the server",
            Self::Unanswered => "the first renewal was not answered",
            Self::AuthDenied => "the user is no longer let in",
            Self::ClusterChanged => "another cluster answers at the same endpoints",
            Self::KeyDeleted => "somebody deleted the key",
            Self::TakenOver => "another process took the key over",
            Self::Closed => "the session was closed",
            Self::Orphaned => "the session was left to itself",
            Self::Failed => "what kept it ended unexpectedly",
        })
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: &'static str, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            what,
            message: message.into(),
            endpoint: None,
            etcd: None,
            compacted: None,
            loss: None,
            conflicting: Vec::new(),
            unsure: kind == ErrorKind::Indeterminate,
            source: None,
        }))
    }

    pub(crate) fn invalid(what: &'static str, rule: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, what, rule)
    }

    pub(crate) fn closed(what: &'static str) -> Self {
        Self::new(ErrorKind::Closed, what, "the client is closed")
    }

    pub(crate) fn actor_gone(what: &'static str) -> Self {
        Self::new(ErrorKind::Internal, what, "an actor of the client ended unexpectedly")
    }

    /// The error that etcd's text stands for, whatever call it answers.
    pub(crate) fn etcd(what: &'static str, error: EtcdError) -> Self {
        let kind = match error {
            EtcdError::PermissionDenied => ErrorKind::PermissionDenied,
            EtcdError::Compacted => ErrorKind::Compacted,
            EtcdError::NoLeader | EtcdError::NotSupportedForLearner => ErrorKind::Unavailable,
            EtcdError::AuthFailed
            | EtcdError::UserEmpty
            | EtcdError::InvalidAuthToken
            | EtcdError::AuthOldRevision => ErrorKind::Unauthenticated,
            _ => ErrorKind::Refused,
        };
        Self::new(kind, what, error.text()).edit(|inner| inner.etcd = Some(error))
    }

    pub(crate) fn compacted(what: &'static str, revision: Revision) -> Self {
        Self::etcd(what, EtcdError::Compacted).edit(|inner| {
            inner.compacted = Some(revision);
            inner.message = format!("the history before revision {revision} is compacted away");
        })
    }

    /// What was asked for rests on something that is held no longer.
    pub(crate) fn lost(what: &'static str, reason: LossReason) -> Self {
        Self::new(ErrorKind::Lost, what, reason.to_string()).edit(|inner| inner.loss = Some(reason))
    }

    /// Others changed these keys, at each of so many tries.
    pub(crate) fn conflict(what: &'static str, keys: Vec<Bytes>, tries: u32) -> Self {
        let mut names: Vec<_> = keys.iter().map(|key| key.escape_ascii().to_string()).collect();
        if names.len() > NAMED {
            names.truncate(NAMED);
            names.push(format!("{} more", keys.len() - NAMED));
        }
        let message = format!("given up after {tries} tries: others changed {}", names.join(", "));
        Self::new(ErrorKind::Conflict, what, message).edit(|inner| inner.conflicting = keys)
    }

    pub(crate) fn etcd_says(self, error: Option<EtcdError>) -> Self {
        self.edit(|inner| inner.etcd = error)
    }

    pub(crate) fn at(self, endpoint: &Arc<str>) -> Self {
        self.edit(|inner| inner.endpoint = Some(Arc::clone(endpoint)))
    }

    pub(crate) fn unsure(self) -> Self {
        self.edit(|inner| inner.unsure = true)
    }

    pub(crate) fn because(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.edit(|inner| inner.source = Some(Box::new(source)))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        // Errors are edited only while they are being made, so nobody else holds this one.
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }

    /// What can be done about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What etcd said, if it was etcd that said it.
    pub fn etcd_error(&self) -> Option<EtcdError> {
        self.0.etcd
    }

    /// The oldest revision that still has a history, where the server told it.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.0.compacted
    }

    /// Why what this rests on is held no longer, for [`ErrorKind::Lost`].
    pub fn loss_reason(&self) -> Option<LossReason> {
        self.0.loss
    }

    /// The keys that others changed, made or deleted, for [`ErrorKind::Conflict`].
    pub fn conflicting_keys(&self) -> &[Bytes] {
        &self.0.conflicting
    }

    /// The endpoint that answered, or did not.
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// Whether this is about a write that may have been applied all the same.
    pub fn may_have_been_applied(&self) -> bool {
        self.0.unsure
    }

    /// Whether the same call may succeed later without any change by the caller.
    ///
    /// False where it is not known whether a write was applied: that needs a look first.
    pub fn is_retryable(&self) -> bool {
        !self.0.unsure
            && (matches!(
                self.0.kind,
                ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Conflict
            ) || self.0.etcd == Some(EtcdError::TooManyRequests))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, what, message, endpoint, .. } = &*self.0;
        write!(f, "{what}")?;
        if let Some(endpoint) = endpoint {
            write!(f, " at {endpoint}")?;
        }
        write!(f, ": {message}")?;
        match kind {
            ErrorKind::Indeterminate => write!(f, " (the write may or may not be applied)"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
