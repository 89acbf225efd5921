use tenure_core::{KeyValue, Revision};

/// Where an answer comes from, and of which state of the store it speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster that answered.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The store's revision when the answer was given. Inside a txn's answers it is 0, or that of
    /// the read.
    pub revision: Revision,
    /// The term of the cluster's leader.
    pub raft_term: u64,
}

/// The keys of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetResponse {
    /// Where the answer comes from.
    pub header: Header,
    /// The keys, in the order that was asked for.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut some off.
    pub more: bool,
    /// How many keys the range holds, whatever the limit and the filters left out.
    pub count: u64,
}

impl GetResponse {
    /// The first key, if there is one: what a read of a single key is after.
    pub fn kv(&self) -> Option<&KeyValue> {
        self.kvs.first()
    }

    /// The first key, if there is one, without the rest.
    pub fn into_kv(self) -> Option<KeyValue> {
        self.kvs.into_iter().next()
    }
}

/// How many keys a range holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountResponse {
    /// Where the answer comes from.
    pub header: Header,
    /// How many keys there are.
    pub count: u64,
}

/// A key was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    /// Where the answer comes from; its revision is that of the put.
    pub header: Header,
    /// The key as it was before, if that was asked for and it was there.
    pub prev_kv: Option<KeyValue>,
}

/// Keys were deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteResponse {
    /// Where the answer comes from.
    pub header: Header,
    /// How many keys were deleted.
    pub deleted: u64,
    /// The keys as they were before, if that was asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// A transaction was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// Where the answer comes from.
    pub header: Header,
    /// Whether the conditions held, so that `and_then` was done.
    pub succeeded: bool,
    /// An answer for each operation of the branch that was done, in order.
    pub responses: Vec<OpResponse>,
}

/// A history was thrown away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactResponse {
    /// Where the answer comes from.
    pub header: Header,
}

/// The answer to an [`Op`](super::Op).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpResponse {
    /// To a get or a count.
    Get(GetResponse),
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    Delete(DeleteResponse),
    /// To a nested transaction.
    Txn(TxnResponse),
}

impl OpResponse {
    /// The answer to a get or a count; `None` to anything else.
    pub fn into_get(self) -> Option<GetResponse> {
        match self {
            Self::Get(get) => Some(get),
            _ => None,
        }
    }

    /// The answer to a put; `None` to anything else.
    pub fn into_put(self) -> Option<PutResponse> {
        match self {
            Self::Put(put) => Some(put),
            _ => None,
        }
    }

    /// The answer to a delete; `None` to anything else.
    pub fn into_delete(self) -> Option<DeleteResponse> {
        match self {
            Self::Delete(delete) => Some(delete),
            _ => None,
        }
    }

    /// The answer to a nested transaction; `None` to anything else.
    pub fn into_txn(self) -> Option<TxnResponse> {
        match self {
            Self::Txn(txn) => Some(txn),
            _ => None,
        }
    }
}
