//! etcdctl does on the embedded server what it does on an etcd: the same commands on both, by the
//! etcdctl beside each etcd there is, and what it prints compared.

mod support;

#[path = "etcdctl/auth.rs"]
mod auth;
#[path = "etcdctl/kv.rs"]
mod kv;
#[path = "etcdctl/lease.rs"]
mod lease;
#[path = "etcdctl/lock.rs"]
mod lock;
#[path = "etcdctl/maintenance.rs"]
mod maintenance;
#[path = "etcdctl/mirror.rs"]
mod mirror;
#[path = "etcdctl/printed.rs"]
mod printed;
#[path = "etcdctl/process.rs"]
mod process;
#[path = "etcdctl/sides.rs"]
mod sides;
#[path = "etcdctl/txn.rs"]
mod txn;
#[path = "etcdctl/watch.rs"]
mod watch;
