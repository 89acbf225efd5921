//! Every call the client makes: its path, its name in errors, and whether it may be repeated.

use std::marker::PhantomData;

use http::uri::PathAndQuery;

use crate::wire::{etcdserverpb as pb, v3electionpb as election, v3lockpb as lock};

/// One method of an etcd service.
pub(crate) struct Rpc<Q, A> {
    /// What errors and logs call it.
    pub(crate) name: &'static str,
    path: &'static str,
    /// Whether doing it twice is as good as once.
    pub(crate) repeatable: bool,
    /// Whether it goes without a token: etcd refuses a dead one even where a fresh one is asked
    /// for, and whoever fetches one must not wait for one.
    pub(super) anonymous: bool,
    /// Whether an attempt goes on although nobody waits for it any more.
    pub(super) goes_on: bool,
    /// Whether the server answers only once it is somebody's turn, so that its silence says
    /// nothing about it.
    pub(super) waits: bool,
    messages: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Rpc<Q, A> {
    const fn repeatable(name: &'static str, path: &'static str) -> Self {
        Self {
            name,
            path,
            repeatable: true,
            anonymous: false,
            goes_on: false,
            waits: false,
            messages: PhantomData,
        }
    }

    const fn once(name: &'static str, path: &'static str) -> Self {
        Self { repeatable: false, ..Self::repeatable(name, path) }
    }

    /// Not repeated: it may have made a contender.
    const fn waiting(name: &'static str, path: &'static str) -> Self {
        Self { waits: true, ..Self::once(name, path) }
    }

    pub(super) fn path(&self) -> PathAndQuery {
        PathAndQuery::from_static(self.path)
    }
}

pub(crate) static RANGE: Rpc<pb::RangeRequest, pb::RangeResponse> =
    Rpc::repeatable("get", "/etcdserverpb.KV/Range");
pub(crate) static PUT: Rpc<pb::PutRequest, pb::PutResponse> =
    Rpc::once("put", "/etcdserverpb.KV/Put");
pub(crate) static DELETE_RANGE: Rpc<pb::DeleteRangeRequest, pb::DeleteRangeResponse> =
    Rpc::once("delete", "/etcdserverpb.KV/DeleteRange");
pub(crate) static TXN: Rpc<pb::TxnRequest, pb::TxnResponse> =
    Rpc::once("txn", "/etcdserverpb.KV/Txn");
/// A txn without a write in any branch, which Go never repeats although it could. Given up while
/// it is read, it kills an etcd 3.5 before 3.5.5 (etcd's issue 14110): so it is not.
pub(crate) static READ_TXN: Rpc<pb::TxnRequest, pb::TxnResponse> =
    Rpc { goes_on: true, ..Rpc::repeatable("txn", "/etcdserverpb.KV/Txn") };
pub(crate) static COMPACT: Rpc<pb::CompactionRequest, pb::CompactionResponse> =
    Rpc::once("compact", "/etcdserverpb.KV/Compact");

pub(crate) static WATCH: Rpc<pb::WatchRequest, pb::WatchResponse> =
    Rpc::once("watch", "/etcdserverpb.Watch/Watch");

/// Repeatable because the client chooses the id: granted twice, it is the same lease.
pub(crate) static LEASE_GRANT: Rpc<pb::LeaseGrantRequest, pb::LeaseGrantResponse> =
    Rpc::repeatable("lease grant", "/etcdserverpb.Lease/LeaseGrant");
pub(crate) static LEASE_REVOKE: Rpc<pb::LeaseRevokeRequest, pb::LeaseRevokeResponse> =
    Rpc::repeatable("lease revoke", "/etcdserverpb.Lease/LeaseRevoke");
pub(crate) static LEASE_TIME_TO_LIVE: Rpc<pb::LeaseTimeToLiveRequest, pb::LeaseTimeToLiveResponse> =
    Rpc::repeatable("lease time to live", "/etcdserverpb.Lease/LeaseTimeToLive");
pub(crate) static LEASE_LEASES: Rpc<pb::LeaseLeasesRequest, pb::LeaseLeasesResponse> =
    Rpc::repeatable("leases", "/etcdserverpb.Lease/LeaseLeases");
pub(crate) static LEASE_KEEP_ALIVE: Rpc<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse> =
    Rpc::once("lease keep alive", "/etcdserverpb.Lease/LeaseKeepAlive");

pub(crate) static AUTHENTICATE: Rpc<pb::AuthenticateRequest, pb::AuthenticateResponse> =
    Rpc { anonymous: true, ..Rpc::repeatable("sign in", "/etcdserverpb.Auth/Authenticate") };

pub(crate) static MEMBER_LIST: Rpc<pb::MemberListRequest, pb::MemberListResponse> =
    Rpc::repeatable("member list", "/etcdserverpb.Cluster/MemberList");

pub(crate) static LOCK: Rpc<lock::LockRequest, lock::LockResponse> =
    Rpc::waiting("server lock", "/v3lockpb.Lock/Lock");
/// Deletes whatever has that name: a second one may end a later hold.
pub(crate) static UNLOCK: Rpc<lock::UnlockRequest, lock::UnlockResponse> =
    Rpc::once("server unlock", "/v3lockpb.Lock/Unlock");

pub(crate) static CAMPAIGN: Rpc<election::CampaignRequest, election::CampaignResponse> =
    Rpc::waiting("server campaign", "/v3electionpb.Election/Campaign");
pub(crate) static PROCLAIM: Rpc<election::ProclaimRequest, election::ProclaimResponse> =
    Rpc::once("server proclaim", "/v3electionpb.Election/Proclaim");
/// Repeatable because it is about one creation of the key.
pub(crate) static RESIGN: Rpc<election::ResignRequest, election::ResignResponse> =
    Rpc::repeatable("server resign", "/v3electionpb.Election/Resign");
pub(crate) static LEADER: Rpc<election::LeaderRequest, election::LeaderResponse> =
    Rpc::repeatable("server leader", "/v3electionpb.Election/Leader");
pub(crate) static OBSERVE: Rpc<election::LeaderRequest, election::LeaderResponse> =
    Rpc::once("server observe", "/v3electionpb.Election/Observe");
