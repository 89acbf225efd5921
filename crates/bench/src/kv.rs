//! Puts, gets and transactions of single keys, 256 bytes each, by each peer through its public
//! handle.

use anyhow::bail;
use tokio::{runtime::Runtime, task::LocalSet};

use crate::{Order, measure::closed_loop};

#[allow(dead_code, reason = "generated")]
mod pb {
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    pub mod authpb {
        tonic::include_proto!("authpb");
    }
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
}

const VALUE: &[u8] = &[b'v'; 256];
/// As many keys as a busy service has hot ones.
const KEYS: usize = 1000;

fn key(number: usize) -> String {
    format!("bench/{}", number % KEYS)
}

pub fn run(runtime: &Runtime, order: &Order) -> anyhow::Result<()> {
    match order.peer.as_str() {
        "tenure" => runtime.block_on(tenure(order, false)),
        // One thread does it all, which is what `local` is for.
        "tenure-local" => {
            let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&one, tenure(order, true))
        }
        "etcd-client" => runtime.block_on(etcd_client(order)),
        "etcd-client-ct" => {
            let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            one.block_on(etcd_client(order))
        }
        "tonic" => runtime.block_on(bare(order)),
        other => bail!("no peer is called {other:?}"),
    }
}

async fn tenure(order: &Order, local: bool) -> anyhow::Result<()> {
    use tenure::{Client, Compare, Get, Put};
    let builder = Client::builder([order.endpoint.as_str()]);
    let builder = if local { builder.local() } else { builder };
    let client = builder.connect().await?;
    client.put(key(0), VALUE).await?;
    match order.work.as_str() {
        "put" => {
            let put = move |n| {
                let client = client.clone();
                async move { Ok(drop(client.put(key(n), VALUE).await?)) }
            };
            closed_loop(order, put).await
        }
        "get" => {
            let get = move |n| {
                let client = client.clone();
                async move { Ok(drop(client.get(key(n)).await?)) }
            };
            closed_loop(order, get).await
        }
        _ => {
            let txn = move |n| {
                let client = client.clone();
                async move {
                    let txn = client
                        .txn()
                        .when([Compare::create_revision(key(n)).greater(0)])
                        .and_then([Put::new(key(n), VALUE)])
                        .or_else([Get::new(key(n))]);
                    Ok(drop(txn.await?))
                }
            };
            closed_loop(order, txn).await
        }
    }
}

async fn etcd_client(order: &Order) -> anyhow::Result<()> {
    use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};
    let mut client = Client::connect([&order.endpoint], None).await?;
    client.put(key(0), VALUE, None).await?;
    let kv = client.kv_client();
    match order.work.as_str() {
        "put" => {
            let put = move |n| {
                let mut kv = kv.clone();
                async move { Ok(drop(kv.put(key(n), VALUE, None).await?)) }
            };
            closed_loop(order, put).await
        }
        "get" => {
            let get = move |n| {
                let mut kv = kv.clone();
                async move { Ok(drop(kv.get(key(n), None).await?)) }
            };
            closed_loop(order, get).await
        }
        _ => {
            let txn = move |n| {
                let mut kv = kv.clone();
                async move {
                    let txn = Txn::new()
                        .when([Compare::create_revision(key(n), CompareOp::Greater, 0)])
                        .and_then([TxnOp::put(key(n), VALUE, None)])
                        .or_else([TxnOp::get(key(n), None)]);
                    Ok(drop(kv.txn(txn).await?))
                }
            };
            closed_loop(order, txn).await
        }
    }
}

async fn bare(order: &Order) -> anyhow::Result<()> {
    use pb::etcdserverpb::{
        Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare::TargetUnion,
        kv_client::KvClient, request_op::Request,
    };
    let channel = tonic::transport::Endpoint::new(order.endpoint.clone())?.connect().await?;
    let kv = KvClient::new(channel);
    let put_request =
        |n| PutRequest { key: key(n).into(), value: VALUE.to_vec(), ..PutRequest::default() };
    let get_request = |n| RangeRequest { key: key(n).into(), ..RangeRequest::default() };
    match order.work.as_str() {
        "put" => {
            let put = move |n| {
                let mut kv = kv.clone();
                async move { Ok(drop(kv.put(put_request(n)).await?)) }
            };
            closed_loop(order, put).await
        }
        "get" => {
            let get = move |n| {
                let mut kv = kv.clone();
                async move { Ok(drop(kv.range(get_request(n)).await?)) }
            };
            closed_loop(order, get).await
        }
        _ => {
            let txn = move |n| {
                let mut kv = kv.clone();
                async move {
                    let compare = Compare {
                        key: key(n).into(),
                        target: 1,
                        result: 1,
                        target_union: Some(TargetUnion::CreateRevision(0)),
                        ..Compare::default()
                    };
                    let put = RequestOp { request: Some(Request::RequestPut(put_request(n))) };
                    let get = RequestOp { request: Some(Request::RequestRange(get_request(n))) };
                    let (compare, success, failure) = (vec![compare], vec![put], vec![get]);
                    Ok(drop(kv.txn(TxnRequest { compare, success, failure }).await?))
                }
            };
            closed_loop(order, txn).await
        }
    }
}
