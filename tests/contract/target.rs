//! Who is put to the test.

use tenure_embed::Embedded;
use tenure_testkit::{Cluster, EtcdBinary};

use super::cases::{Case, Column, Timing, Version};
use super::embedded;
use super::steps::Signal;

/// A kind of server, of which each case gets a new one.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Etcd(EtcdBinary),
    Embedded,
}

#[derive(Debug)]
pub(crate) enum Server {
    Etcd(Box<Cluster>),
    Embedded(Embedded),
}

impl Target {
    pub(crate) fn column(&self) -> Column {
        match self {
            Self::Etcd(etcd) => {
                let (major, minor, patch) = etcd.version();
                Column::Etcd(Version(major, minor, patch))
            }
            Self::Embedded => Column::Ours,
        }
    }

    /// How many cases to play at once. They mostly wait, but an etcd is busy while it starts.
    pub(crate) fn at_once(&self) -> usize {
        match self {
            Self::Etcd(_) => 4,
            Self::Embedded => 32,
        }
    }

    pub(crate) async fn start(&self, case: &Case) -> Server {
        match self {
            Self::Etcd(etcd) => {
                let fast = case.timing == Timing::Any;
                let mut builder = Cluster::builder(etcd).fast(fast);
                for flag in &case.flags {
                    builder = builder.flag(flag);
                }
                Server::Etcd(Box::new(builder.start().await.unwrap()))
            }
            Self::Embedded => Server::Embedded(embedded::start(&case.flags, case.timing).await),
        }
    }
}

impl Server {
    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::Etcd(cluster) => cluster.member(0).endpoint(),
            Self::Embedded(embedded) => embedded::endpoint(embedded),
        }
    }

    /// Ends it, and starts it again with the data it had.
    pub(crate) async fn restart(&mut self, signal: Signal) {
        match self {
            Self::Etcd(cluster) => {
                match signal {
                    Signal::Kill => cluster.kill(0).unwrap(),
                    Signal::Term => cluster.stop(0).await.unwrap(),
                }
                cluster.restart(0).await.unwrap();
            }
            Self::Embedded(embedded) => embedded::restart(embedded),
        }
    }
}
