//! The servers that are held against the model.

use std::any::Any;

use tenure_testkit::{Cluster, Embedded, EtcdBinary};

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Etcd(EtcdBinary),
    Embedded,
}

/// A server that nobody has used yet. Dropping it ends it.
pub(crate) struct Fresh {
    pub(crate) endpoint: String,
    _runs: Box<dyn Any>,
}

/// What a server cannot be asked, since it does not always answer the same, or not the right thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many keys that are equal in what they are sorted by stay in the order of keys.
    pub(crate) ties_kept: usize,
    /// Whether a watch from the compacted revision is told all of it.
    pub(crate) tells_all_of_the_compacted: bool,
    /// Whether it can be compacted at a revision that deleted a key and put it again.
    pub(crate) keeps_what_is_put_again: bool,
}

impl Kind {
    pub(crate) async fn start(&self) -> Fresh {
        match self {
            Self::Etcd(etcd) => {
                let cluster = Cluster::builder(etcd).fast(true).start().await.unwrap();
                Fresh { endpoint: cluster.endpoints().remove(0), _runs: Box::new(cluster) }
            }
            Self::Embedded => {
                let server = Embedded::builder().fast().start().await.unwrap();
                Fresh { endpoint: server.endpoints().remove(0), _runs: Box::new(server) }
            }
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        match self {
            Self::Etcd(etcd) => Limits {
                // etcd promises none; Go's sort before 1.19 keeps six.
                ties_kept: 6,
                // Compaction takes the first of two changes of a key with it, and before 3.5.16
                // each deletion too (issue 19179).
                tells_all_of_the_compacted: false,
                // Since it keeps deletions, it loses such keys (issue 22376; read, not tried).
                keeps_what_is_put_again: {
                    let version = etcd.version();
                    version < (3, 4, 34) || ((3, 5, 0)..(3, 5, 16)).contains(&version)
                },
            },
            Self::Embedded => Limits::NONE,
        }
    }
}

impl Limits {
    /// None: everything can be asked.
    pub(crate) const NONE: Self = Self {
        ties_kept: usize::MAX,
        tells_all_of_the_compacted: true,
        keeps_what_is_put_again: true,
    };

    /// What can be asked of either.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            ties_kept: self.ties_kept.min(other.ties_kept),
            tells_all_of_the_compacted: self.tells_all_of_the_compacted
                && other.tells_all_of_the_compacted,
            keeps_what_is_put_again: self.keeps_what_is_put_again && other.keeps_what_is_put_again,
        }
    }
}
