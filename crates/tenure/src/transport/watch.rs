//! Watches, to the wire and back.

use std::sync::Arc;

use tenure_core::watch::{Response, Spec, Transmit};

use super::{Incoming, Outgoing, Transport, kv::event, link::Link, rpc::WATCH};
use crate::{
    error::Result,
    ops::CallOptions,
    wire::etcdserverpb::{
        self as pb, watch_create_request::FilterType, watch_request::RequestUnion,
    },
};

pub(crate) type WatchRequests = Outgoing<pb::WatchRequest>;
pub(crate) type WatchResponses = Incoming<pb::WatchResponse>;

impl Transport {
    /// A stream for any number of watches.
    pub(crate) fn watch_stream(
        &self,
        options: &CallOptions,
        avoid: Option<&Arc<Link>>,
    ) -> Result<(WatchRequests, WatchResponses)> {
        self.open(&WATCH, options, avoid)
    }
}

/// What the registry wants to say, as etcd hears it.
pub(crate) fn request(transmit: Transmit) -> pb::WatchRequest {
    let request = match transmit {
        Transmit::Create { id, spec } => RequestUnion::CreateRequest(create(id, spec)),
        Transmit::Cancel { id } => {
            RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: id })
        }
        Transmit::Progress => RequestUnion::ProgressRequest(pb::WatchProgressRequest {}),
    };
    pb::WatchRequest { request_union: Some(request) }
}

fn create(id: i64, spec: Spec) -> pb::WatchCreateRequest {
    let filters = [(spec.no_put, FilterType::Noput), (spec.no_delete, FilterType::Nodelete)];
    pb::WatchCreateRequest {
        key: spec.key,
        range_end: spec.range_end,
        start_revision: spec.start.0,
        progress_notify: spec.progress_notify,
        filters: filters.into_iter().filter(|f| f.0).map(|f| f.1.into()).collect(),
        prev_kv: spec.prev_kv,
        watch_id: id,
        fragment: spec.fragment,
    }
}

/// What etcd said, as the registry hears it.
pub(crate) fn response(answer: pb::WatchResponse) -> Response {
    Response {
        id: answer.watch_id,
        created: answer.created,
        canceled: answer.canceled,
        compact_revision: answer.compact_revision,
        reason: answer.cancel_reason,
        fragment: answer.fragment,
        revision: answer.header.map_or(0, |header| header.revision),
        events: answer.events.into_iter().map(event).collect(),
    }
}
