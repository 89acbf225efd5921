use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

macro_rules! calls {
    ($($name:ident $path:literal,)*) => {
        /// A call of etcd's API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Call {
            $(
                #[doc = concat!("`", $path, "`")]
                $name,
            )*
        }

        impl Call {
            /// The path that it is called by, such as `/etcdserverpb.KV/Put`.
            pub fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }

            fn at(path: &str) -> Option<Self> {
                match path {
                    $($path => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        const CALLS: usize = [$(Call::$name),*].len();
    };
}

calls! {
    Range "/etcdserverpb.KV/Range",
    Put "/etcdserverpb.KV/Put",
    DeleteRange "/etcdserverpb.KV/DeleteRange",
    Txn "/etcdserverpb.KV/Txn",
    Compact "/etcdserverpb.KV/Compact",
    Watch "/etcdserverpb.Watch/Watch",
    LeaseGrant "/etcdserverpb.Lease/LeaseGrant",
    LeaseRevoke "/etcdserverpb.Lease/LeaseRevoke",
    LeaseKeepAlive "/etcdserverpb.Lease/LeaseKeepAlive",
    LeaseTimeToLive "/etcdserverpb.Lease/LeaseTimeToLive",
    LeaseLeases "/etcdserverpb.Lease/LeaseLeases",
    MemberList "/etcdserverpb.Cluster/MemberList",
    Status "/etcdserverpb.Maintenance/Status",
    Alarm "/etcdserverpb.Maintenance/Alarm",
    Authenticate "/etcdserverpb.Auth/Authenticate",
    Lock "/v3lockpb.Lock/Lock",
    Unlock "/v3lockpb.Lock/Unlock",
    Campaign "/v3electionpb.Election/Campaign",
}

/// How often each call came.
#[derive(Debug)]
pub(crate) struct Counts([AtomicU64; CALLS]);

impl Counts {
    pub(crate) fn count(&self, path: &str) {
        if let Some(call) = Call::at(path) {
            self.0[call as usize].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn of(&self, call: Call) -> u64 {
        self.0[call as usize].load(Relaxed)
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}
