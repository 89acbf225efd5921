//! Puts, gets and transactions of single keys, 256 bytes each, by each peer through its public
//! handle.

use crate::{Order, measure::closed_loop, pb, peers};

const VALUE: &[u8] = &[b'v'; 256];
/// As many keys as a busy service has hot ones.
const KEYS: usize = 1000;

fn key(number: usize) -> String {
    format!("bench/{}", number % KEYS)
}

pub async fn run(order: &Order) -> anyhow::Result<()> {
    match order.peer.as_str() {
        "tenure" | "tenure-local" => tenure(order).await,
        "etcd-client" | "etcd-client-ct" => etcd_client(order).await,
        "tonic" => bare(order).await,
        _ => peers::none_such(order),
    }
}

async fn tenure(order: &Order) -> anyhow::Result<()> {
    use tenure::{Compare, Get, Put};
    let client = peers::tenure(order).await?;
    client.put(key(0), VALUE).await?;
    match order.work.as_str() {
        "put" => {
            let put = move |n| {
                let client = client.clone();
                async move { client.put(key(n), VALUE).await }
            };
            closed_loop(order, put).await
        }
        "get" => {
            let get = move |n| {
                let client = client.clone();
                async move { client.get(key(n)).await }
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
                    txn.await
                }
            };
            closed_loop(order, txn).await
        }
    }
}

async fn etcd_client(order: &Order) -> anyhow::Result<()> {
    use etcd_client::{Compare, CompareOp, Txn, TxnOp};
    let mut client = peers::etcd_client(order).await?;
    client.put(key(0), VALUE, None).await?;
    let kv = client.kv_client();
    match order.work.as_str() {
        "put" => {
            let put = move |n| {
                let mut kv = kv.clone();
                async move { kv.put(key(n), VALUE, None).await }
            };
            closed_loop(order, put).await
        }
        "get" => {
            let get = move |n| {
                let mut kv = kv.clone();
                async move { kv.get(key(n), None).await }
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
                    kv.txn(txn).await
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
    let kv = KvClient::new(peers::tonic(order).await?);
    let put_request =
        |n| PutRequest { key: key(n).into(), value: VALUE.to_vec(), ..PutRequest::default() };
    let get_request = |n| RangeRequest { key: key(n).into(), ..RangeRequest::default() };
    match order.work.as_str() {
        "put" => {
            let put = move |n| {
                let mut kv = kv.clone();
                async move { kv.put(put_request(n)).await }
            };
            closed_loop(order, put).await
        }
        "get" => {
            let get = move |n| {
                let mut kv = kv.clone();
                async move { kv.range(get_request(n)).await }
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
                    kv.txn(TxnRequest { compare, success, failure }).await
                }
            };
            closed_loop(order, txn).await
        }
    }
}
