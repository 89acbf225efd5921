//! What the client costs, beside its peers, one run and one line of JSON at a time.
//!
//!     tenure-bench put --peer tenure --tasks 64 --count 20000 --endpoint http://127.0.0.1:2379

mod kv;
mod measure;

use anyhow::{Context, bail};
use lexopt::prelude::*;

/// What one run is asked to do.
pub struct Order {
    pub work: String,
    pub peer: String,
    pub endpoint: String,
    pub tasks: usize,
    pub count: usize,
}

fn main() -> anyhow::Result<()> {
    let order = order()?;
    // As users of the peers have it: two workers.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("a runtime")?;
    match order.work.as_str() {
        "put" | "get" | "txn" => kv::run(&runtime, &order),
        other => bail!("no work is called {other:?}; there are put, get and txn"),
    }
}

fn order() -> anyhow::Result<Order> {
    let mut order = Order {
        work: String::new(),
        peer: "tenure".to_owned(),
        endpoint: "http://127.0.0.1:2379".to_owned(),
        tasks: 64,
        count: 20_000,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(work) => order.work = work.string()?,
            Long("peer") => order.peer = arguments.value()?.string()?,
            Long("endpoint") => order.endpoint = arguments.value()?.string()?,
            Long("tasks") => order.tasks = arguments.value()?.parse()?,
            Long("count") => order.count = arguments.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(order)
}
