//! What became of a write, as its worker knows.

use tenure::Revision;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged(Revision),
    Refused,
    /// Nobody could say, or the worker was killed before it could.
    Unknown,
    /// Surely over, and done, or not: nobody told the revision, or not at first.
    Settled(bool),
}

impl Outcome {
    /// Whether it may be so, when this is the revision at which etcd did it.
    pub(crate) fn fits(self, done: Option<Revision>) -> bool {
        match self {
            Self::Acknowledged(revision) => done == Some(revision),
            Self::Refused => done.is_none(),
            Self::Unknown => true,
            Self::Settled(there) => done.is_some() == there,
        }
    }
}
