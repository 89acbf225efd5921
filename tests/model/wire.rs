//! Requests to a server, and its answers byte for byte but for what no two servers have in common.

use std::{fmt::Debug, time::Duration};

use prost::Message;
use tenure::wire::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    PutResponse, RangeResponse, ResponseHeader, TxnResponse, WatchResponse,
};
use tonic::Code;

use super::raw::Raw;

/// Long for anything that should happen; only a failure takes it.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// An answer of etcd, which has a header.
pub(crate) trait Answer: Message + Default + Debug {
    fn header(&mut self) -> &mut Option<ResponseHeader>;
}

macro_rules! answers {
    ($($answer:ty),* $(,)?) => {$(
        impl Answer for $answer {
            fn header(&mut self) -> &mut Option<ResponseHeader> {
                &mut self.header
            }
        }
    )*};
}

answers! {
    CompactionResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    PutResponse, RangeResponse, TxnResponse, WatchResponse,
}

pub(crate) async fn call<A: Answer>(
    raw: &Raw,
    path: &str,
    request: &impl Message,
) -> Result<Result<A, (Code, String)>, String> {
    match raw.unary(path, request.encode_to_vec(), &[]).await {
        Ok(bytes) => decode(&bytes).map(Ok),
        Err(status) if status.broken => Err(format!("the connection broke: {status:?}")),
        Err(status) => Ok(Err((status.code, status.message))),
    }
}

/// Without the ids of its header. Those of headers inside are 0 in etcd.
pub(crate) fn decode<A: Answer>(bytes: &[u8]) -> Result<A, String> {
    let mut answer = A::decode(bytes).map_err(|error| format!("{error} in {bytes:?}"))?;
    // So that equal messages are equal bytes.
    if answer.encode_to_vec() != bytes {
        return Err(format!("an answer that is encoded in an odd way: {bytes:?}, {answer:?}"));
    }
    if let Some(header) = answer.header() {
        let own = (header.cluster_id != 0, header.member_id != 0, header.raft_term != 0);
        if own != (true, true, true) {
            return Err(format!("a header without an id: {answer:?}"));
        }
        *header = ResponseHeader { revision: header.revision, ..ResponseHeader::default() };
    }
    Ok(answer)
}
