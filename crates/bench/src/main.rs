//! What the client costs, beside its peers: a run is a process, and prints a line of JSON.
//!
//!     tenure-bench put --peer tenure --tasks 64 --count 20000 --endpoint http://127.0.0.1:2379
//!     tenure-bench summary <lines
//!
//! | work | `--tasks` | peers |
//! |---|---|---|
//! | `put` `get` `txn` | calls in flight | `tenure` `tenure-local` `etcd-client` `etcd-client-ct` `tonic` |
//! | `lock` | tasks with a lock each | `tenure` `tenure-one-session` `tenure-at` `etcd-client` `tonic` |
//! | `handover` | tasks with one lock | the same |
//! | `handover-busy` | the same, while two others write | the same |
//! | `handover-worn` | the same, after four times as long | the same |
//! | `handover-processes` | processes with one lock | the same |
//! | `election` `succession` | candidates; of the latter, while two others write | `tenure` `etcd-client` |
//! | `semaphore-wakes` `queue-wakes` | clients that wait for one permit, for items | `tenure` |
//! | `increments` | tasks that add to one counter | `tenure` `tenure-counter` `etcd-client` |
//! | `fanout` | watches of one key | `tenure` `etcd-client` `etcd-client-shared` `tonic` |
//! | `idle` | watches that nothing happens to | `tenure` `etcd-client` |
//! | `leases` | leases kept alive | `tenure` `etcd-client` |
//! | `renewals` | locks on one session | `tenure` |
//! | `server-put` `server-get` | calls in flight | servers: `embedded` `etcd` |
//! | `server-fanout` `server-fanout-apart` | watches of one key, on one stream or each on its own | the same |
//! | `server-memory` `server-memory-apart` | watches, beside `--count` keys | the same |

mod bare_lock;
mod elections;
mod fanout;
mod idle;
mod kv;
mod leases;
mod locks;
mod measure;
mod pb;
mod peers;
mod processes;
mod renewals;
mod server;
mod serving;
mod stm;
mod summary;
mod wakes;

use std::time::Duration;

use anyhow::bail;
use lexopt::prelude::*;

/// What one run is asked to do.
#[derive(Clone)]
pub struct Order {
    pub work: String,
    pub peer: String,
    pub endpoint: String,
    /// How many at once.
    pub tasks: usize,
    /// How many in all, where the count is what ends the run.
    pub count: usize,
    /// How long, where the clock does.
    pub time: Duration,
    /// The server's process, where that is what is measured.
    pub pid: u32,
    /// Of the lock, for a run that goes on where another one ended.
    pub name: String,
}

fn main() -> anyhow::Result<()> {
    let order = order()?;
    match order.work.as_str() {
        "summary" => summary::run(std::io::stdin().lock()),
        "put" | "get" | "txn" => peers::block_on(&order, kv::run(&order)),
        "lock" | "handover" | "handover-busy" | "handover-worn" => {
            peers::block_on(&order, locks::run(&order))
        }
        "handover-processes" => peers::block_on(&order, processes::contend_all(&order)),
        "election" | "succession" => peers::block_on(&order, elections::run(&order)),
        "semaphore-wakes" => peers::block_on(&order, wakes::semaphore(&order)),
        "queue-wakes" => peers::block_on(&order, wakes::queue(&order)),
        "increments" => peers::block_on(&order, stm::run(&order)),
        "fanout" => peers::block_on(&order, fanout::run(&order)),
        "idle" => peers::block_on(&order, idle::run(&order)),
        "leases" => peers::block_on(&order, leases::run(&order)),
        "server-put" | "server-get" => peers::block_on(&order, serving::calls(&order)),
        "server-fanout" | "server-fanout-apart" => peers::block_on(&order, serving::fanout(&order)),
        "server-memory" | "server-memory-apart" => peers::block_on(&order, serving::memory(&order)),
        "renewals" => peers::block_on(&order, renewals::run(&order)),
        // Started by runs that need other processes.
        "contender" => peers::block_on(&order, processes::contender(&order)),
        "writers" => peers::block_on(&order, processes::writers(&order)),
        "putter" => peers::block_on(&order, processes::putter(&order)),
        other => bail!("no work is called {other:?}; see the head of main.rs"),
    }
}

fn order() -> anyhow::Result<Order> {
    let mut order = Order {
        work: String::new(),
        peer: "tenure".to_owned(),
        endpoint: "http://127.0.0.1:2379".to_owned(),
        tasks: 64,
        count: 20_000,
        time: Duration::from_secs(3),
        pid: 0,
        name: String::new(),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(work) => order.work = work.string()?,
            Long("peer") => order.peer = arguments.value()?.string()?,
            Long("endpoint") => order.endpoint = arguments.value()?.string()?,
            Long("tasks") => order.tasks = arguments.value()?.parse()?,
            Long("count") => order.count = arguments.value()?.parse()?,
            Long("seconds") => {
                order.time = Duration::from_secs_f64(arguments.value()?.parse()?);
            }
            Long("pid") => order.pid = arguments.value()?.parse()?,
            Long("name") => order.name = arguments.value()?.string()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(order)
}
