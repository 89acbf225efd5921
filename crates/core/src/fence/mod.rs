mod gate;
#[cfg(feature = "serde")]
mod plain;
#[cfg(test)]
mod tests;
mod text;

use std::cmp::Ordering;

use bytes::Bytes;

pub use self::{
    gate::{FenceGate, StaleFence},
    text::ParseFenceError,
};
use crate::{LeaseId, Revision};

/// Proof of a hold that a resource outside etcd can check: whoever held later has the greater one.
///
/// A lock's holder may be paused for longer than its lease lasts, and go on as if nothing had
/// happened. So it shows its fence to the resource that the lock protects, and the resource
/// refuses whoever shows an older one than it has seen: Chubby calls this a sequencer, Kleppmann
/// a [fencing token]. A [`FenceGate`] does the resource's part.
///
/// Only fences of one name compare meaningfully: of one lock, one election. They are ordered by
/// `create_revision`, then by `mod_revision`, which tells a hold that was taken over by a resumed
/// session from the one before. Fences of different clusters do not compare, since each cluster
/// counts its revisions by itself; nor do two that differ in something else and not in these.
///
/// The printed form is one word, for a log line or an environment variable, and can be parsed:
/// `<create>.<mod>@<cluster>/<lease>/<key>`, revisions in decimal, ids in hexadecimal, and each
/// byte of the key outside `A-Za-z0-9_-./:` as `%XX`. With the feature `serde`, which `tenure` turns
/// on, a fence is a struct of these fields, the ids as hexadecimal strings, because JSON's numbers are too short for them.
///
/// ```
/// use tenure_core::Fence;
///
/// let fence: Fence = "7.7@cdf818194e3a8c32/694d8fab/tenure/mutex/jobs/694d8fab-1".parse()?;
/// let later: Fence = "9.9@cdf818194e3a8c32/694d8fac/tenure/mutex/jobs/694d8fac-1".parse()?;
/// assert!(fence < later);
/// # Ok::<_, tenure_core::ParseFenceError>(())
/// ```
///
/// [fencing token]: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(into = "plain::Plain", try_from = "plain::Plain")
)]
pub struct Fence {
    /// The cluster that the revisions are of.
    pub cluster_id: u64,
    /// The holder's own key.
    pub key: Bytes,
    /// When that key was created: later for each holder of a name.
    pub create_revision: Revision,
    /// When that key was put last.
    pub mod_revision: Revision,
    /// The lease the key dies with.
    pub lease: LeaseId,
}

impl PartialOrd for Fence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other {
            return Some(Ordering::Equal);
        }
        let revisions = |fence: &Self| (fence.create_revision, fence.mod_revision);
        let ordering = revisions(self).cmp(&revisions(other));
        (self.cluster_id == other.cluster_id && ordering.is_ne()).then_some(ordering)
    }
}
