//! How much a cluster was asked for, by its own count.
#![allow(dead_code, reason = "each test file uses some of it")]

use tenure_testkit::{Cluster, Member};

/// Calls of the key space that arrived since the start, at all members that answer.
pub(crate) async fn kv_calls(cluster: &Cluster) -> u64 {
    let mut calls = 0;
    for member in cluster.members() {
        for method in ["Range", "Put", "DeleteRange", "Txn"] {
            calls += started(member, method).await;
        }
    }
    calls
}

/// Calls of one method of the key space that arrived at this member.
pub(crate) async fn started(member: &Member, method: &str) -> u64 {
    let labels = format!(r#"grpc_method="{method}",grpc_service="etcdserverpb.KV""#);
    let name = format!("grpc_server_started_total{{{labels},grpc_type=\"unary\"}}");
    member.metric(&name).await.map_or(0, |count| count as u64)
}
