//! What a real etcd says about how much it was asked for.

use tenure_embed::Call;

use crate::Member;

pub(crate) const WATCHES: &str = "etcd_debugging_mvcc_watcher_total";
pub(crate) const WATCH_STREAMS: &str = "etcd_debugging_mvcc_watch_stream_total";
pub(crate) const EVENTS: &str = "etcd_debugging_mvcc_events_total";
pub(crate) const RENEWALS: &str = "etcd_debugging_lease_renewed_total";

/// The metric that counts a call as soon as it comes.
pub(crate) fn started(call: Call) -> String {
    let (service, method) = call.path().trim_start_matches('/').split_once('/').unwrap_or_default();
    let kind = match call {
        Call::Watch | Call::LeaseKeepAlive => "bidi_stream",
        _ => "unary",
    };
    let labels = format!(r#"grpc_method="{method}",grpc_service="{service}",grpc_type="{kind}""#);
    format!("grpc_server_started_total{{{labels}}}")
}

impl Member {
    /// How often it was called so since its start; of a stream, how often one was opened. `None`
    /// when it does not answer within half a second.
    pub async fn calls(&self, call: Call) -> Option<u64> {
        self.metric(&started(call)).await.map(|count| count as u64)
    }

    /// The streams of watches there are on it. `None` when it does not answer within half a
    /// second.
    pub async fn watch_streams(&self) -> Option<u64> {
        self.metric(WATCH_STREAMS).await.map(|count| count as u64)
    }
}
