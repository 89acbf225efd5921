//! The peers as their users have them.

use std::future::Future;

use anyhow::bail;
use tokio::{runtime::Builder, task::LocalSet};
use tonic::transport::{Channel, Endpoint};

use crate::Order;

/// Runs a peer on two workers, or, where its name says so, on one thread that does it all.
pub fn block_on<T>(
    order: &Order,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    if order.peer.ends_with("-local") || order.peer.ends_with("-ct") {
        let one = Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&one, work)
    } else {
        Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
    }
}

pub async fn tenure(order: &Order) -> anyhow::Result<tenure::Client> {
    let builder = tenure::Client::builder([order.endpoint.as_str()]);
    let builder = if order.peer == "tenure-local" { builder.local() } else { builder };
    let client = builder.connect().await?;
    client.get("bench/warm").await?;
    Ok(client)
}

pub async fn etcd_client(order: &Order) -> anyhow::Result<etcd_client::Client> {
    let mut client = etcd_client::Client::connect([&order.endpoint], None).await?;
    client.get("bench/warm", None).await?;
    Ok(client)
}

pub async fn tonic(order: &Order) -> anyhow::Result<Channel> {
    Ok(Endpoint::new(order.endpoint.clone())?.connect().await?)
}

pub fn none_such<T>(order: &Order) -> anyhow::Result<T> {
    bail!("{} has no peer called {:?}", order.work, order.peer)
}
