//! Plays any bytes as calls of any service of a fresh server, for the fuzzer and for the tests.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tenure::{
    Connector,
    wire::{
        authpb::Permission,
        etcdserverpb::{compare::TargetUnion, request_op::Request, watch_request::RequestUnion, *},
        v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest},
        v3lockpb::{LockRequest, UnlockRequest},
    },
};
use tenure_embed::Embedded;
use tokio::{task::LocalSet, time::timeout};

/// Longer than any call that is answered at all may take; in virtual time.
const PATIENCE: Duration = Duration::from_secs(30);
/// As deep as this driver nests a txn by design; the bytes may nest deeper.
const DEPTH: usize = 3;

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Notes panics in tasks, which tokio keeps to itself. Once, before [`play`].
pub(crate) fn note_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICKED.store(true, Relaxed);
        before(info);
    }));
}

/// Whether anything panicked since [`note_panics`].
pub(crate) fn panicked() -> bool {
    PANICKED.load(Relaxed)
}

/// Plays these bytes, and fails if the server does not answer afterwards.
pub(crate) fn play(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let server = Embedded::builder().in_process().start().await.expect("it starts");
        let mut entropy = Entropy(bytes);
        while !entropy.0.is_empty() {
            let pipe = server.connector().connect("").await.expect("it listens");
            let (mut http, connection) = h2::client::handshake(pipe).await.expect("it speaks h2");
            let connection = tokio::spawn(connection);
            for _ in 0..16 {
                if entropy.0.is_empty() || !call(&mut http, &mut entropy).await {
                    break;
                }
            }
            connection.abort();
        }
        let client = server.connect().local().connect().await.expect("a client");
        // Whatever it says (users may be on by now), it must say it at once.
        let answer = timeout(PATIENCE, client.get("a")).await;
        assert!(answer.is_ok(), "the server does not answer any more");
        client.close().await;
    });
}

/// One call with one or a few messages. Says whether the connection is of any use still.
async fn call(http: &mut h2::client::SendRequest<Bytes>, entropy: &mut Entropy<'_>) -> bool {
    let path = PATHS[entropy.below(PATHS.len())];
    let head = http::Request::post(format!("http://embedded{path}"))
        .header("content-type", "application/grpc")
        .body(())
        .expect("a request");
    let Ok((answer, mut requests)) = http.send_request(head, false) else { return false };
    for last in 0..=entropy.below(3) {
        let frame = entropy.frame(path);
        if requests.send_data(frame, false).is_err() {
            break;
        }
        if last == 2 {
            let _ = requests.send_data(Bytes::new(), true);
        }
    }
    if entropy.below(4) != 0 {
        let _ = requests.send_data(Bytes::new(), true);
    }
    // Streams, and calls that wait for a lock, are given up.
    let Ok(Ok(answer)) = timeout(PATIENCE, answer).await else { return true };
    let mut body = answer.into_body();
    while let Ok(Some(Ok(data))) = timeout(Duration::from_millis(100), body.data()).await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    true
}

const PATHS: &[&str] = &[
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Cluster/MemberAdd",
    "/etcdserverpb.Cluster/MemberRemove",
    "/etcdserverpb.Cluster/MemberUpdate",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Cluster/MemberPromote",
    "/etcdserverpb.Maintenance/Alarm",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Defragment",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Maintenance/Downgrade",
    "/etcdserverpb.Auth/AuthEnable",
    "/etcdserverpb.Auth/AuthDisable",
    "/etcdserverpb.Auth/AuthStatus",
    "/etcdserverpb.Auth/Authenticate",
    "/etcdserverpb.Auth/UserAdd",
    "/etcdserverpb.Auth/UserGet",
    "/etcdserverpb.Auth/UserList",
    "/etcdserverpb.Auth/UserDelete",
    "/etcdserverpb.Auth/UserChangePassword",
    "/etcdserverpb.Auth/UserGrantRole",
    "/etcdserverpb.Auth/UserRevokeRole",
    "/etcdserverpb.Auth/RoleAdd",
    "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList",
    "/etcdserverpb.Auth/RoleDelete",
    "/etcdserverpb.Auth/RoleGrantPermission",
    "/etcdserverpb.Auth/RoleRevokePermission",
    "/v3lockpb.Lock/Lock",
    "/v3lockpb.Lock/Unlock",
    "/v3electionpb.Election/Campaign",
    "/v3electionpb.Election/Proclaim",
    "/v3electionpb.Election/Leader",
    "/v3electionpb.Election/Observe",
    "/v3electionpb.Election/Resign",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/nowhere/at/all",
];

/// Bytes that decide what is called with what. When they run out, it is zeros.
struct Entropy<'a>(&'a [u8]);

impl Entropy<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn yes(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.below(64).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Bytes::copy_from_slice(taken)
    }

    fn key(&mut self) -> Bytes {
        const KEYS: [&[u8]; 8] = [b"", b"\0", b"a", b"a/7", b"b", b"ab", b"\xff", b"\xff\xff"];
        Bytes::from_static(KEYS[self.below(KEYS.len())])
    }

    fn number(&mut self) -> i64 {
        const NUMBERS: [i64; 12] =
            [0, 1, 2, 3, 4, 7, 60, 1000, -1, i64::MAX, i64::MIN, 9_000_000_000];
        NUMBERS[self.below(NUMBERS.len())]
    }

    fn name(&mut self) -> String {
        ["", "root", "al", "bo"][self.below(4)].to_owned()
    }

    /// A message in its frame, mostly one that the call takes, sometimes damaged.
    fn frame(&mut self, path: &str) -> Bytes {
        let mut message = match self.below(8) {
            0 => self.bytes().to_vec(),
            _ => self.message(path),
        };
        let damage = self.below(16);
        if damage == 1 && !message.is_empty() {
            let at = self.below(message.len());
            message[at] ^= self.byte();
        }
        if damage == 2 {
            message.truncate(message.len() / 2);
        }
        let mut frame = BytesMut::new();
        frame.put_u8(u8::from(damage == 3));
        let length = u32::try_from(message.len()).unwrap_or_default();
        frame.put_u32(if damage == 4 { u32::MAX } else { length });
        frame.put_slice(&message);
        frame.freeze()
    }

    fn message(&mut self, path: &str) -> Vec<u8> {
        let (_, method) = path.rsplit_once('/').unwrap_or_default();
        match method {
            "Range" => self.range().encode_to_vec(),
            "Put" => self.put().encode_to_vec(),
            "DeleteRange" => self.delete().encode_to_vec(),
            "Txn" => self.txn(DEPTH).encode_to_vec(),
            "Compact" => {
                let (revision, physical) = (self.number(), self.yes());
                CompactionRequest { revision, physical }.encode_to_vec()
            }
            "Watch" => self.watch().encode_to_vec(),
            "LeaseGrant" => {
                let (ttl, id) = (self.number(), self.number());
                LeaseGrantRequest { ttl, id }.encode_to_vec()
            }
            "LeaseRevoke" => LeaseRevokeRequest { id: self.number() }.encode_to_vec(),
            "LeaseKeepAlive" => LeaseKeepAliveRequest { id: self.number() }.encode_to_vec(),
            "LeaseTimeToLive" => {
                let (id, keys) = (self.number(), self.yes());
                LeaseTimeToLiveRequest { id, keys }.encode_to_vec()
            }
            "Alarm" => {
                let (action, alarm) = (self.below(4) as i32, self.below(4) as i32);
                AlarmRequest { action, member_id: 7, alarm }.encode_to_vec()
            }
            "HashKV" => HashKvRequest { revision: self.number() }.encode_to_vec(),
            "UserAdd" => {
                let (name, password) = (self.name(), self.name());
                AuthUserAddRequest { name, password, ..Default::default() }.encode_to_vec()
            }
            "UserGrantRole" => {
                let (user, role) = (self.name(), self.name());
                AuthUserGrantRoleRequest { user, role }.encode_to_vec()
            }
            "UserGet" | "UserDelete" | "RoleAdd" | "RoleGet" | "RoleDelete" => {
                // The name is field 1 of each of these.
                AuthRoleAddRequest { name: self.name() }.encode_to_vec()
            }
            "Authenticate" => {
                let (name, password) = (self.name(), self.name());
                AuthenticateRequest { name, password }.encode_to_vec()
            }
            "RoleGrantPermission" => {
                let perm = Permission {
                    perm_type: self.below(4) as i32,
                    key: self.key(),
                    range_end: self.key(),
                };
                let perm = self.yes().then_some(perm);
                AuthRoleGrantPermissionRequest { name: self.name(), perm }.encode_to_vec()
            }
            "Lock" => {
                let (name, lease) = (self.key(), self.number());
                LockRequest { name, lease }.encode_to_vec()
            }
            "Unlock" => UnlockRequest { key: self.key() }.encode_to_vec(),
            "Campaign" => {
                let (name, lease, value) = (self.key(), self.number(), self.key());
                CampaignRequest { name, lease, value }.encode_to_vec()
            }
            "Leader" | "Observe" => LeaderRequest { name: self.key() }.encode_to_vec(),
            "Proclaim" => {
                let (leader, value) = (self.leader(), self.key());
                ProclaimRequest { leader, value }.encode_to_vec()
            }
            "Resign" => ResignRequest { leader: self.leader() }.encode_to_vec(),
            _ => self.bytes().to_vec(),
        }
    }

    fn range(&mut self) -> RangeRequest {
        RangeRequest {
            key: self.key(),
            range_end: self.key(),
            limit: self.number(),
            revision: self.number(),
            sort_order: self.below(4) as i32,
            sort_target: self.below(6) as i32,
            keys_only: self.yes(),
            count_only: self.yes(),
            min_mod_revision: self.number(),
            max_create_revision: self.number(),
            ..RangeRequest::default()
        }
    }

    fn put(&mut self) -> PutRequest {
        PutRequest {
            key: self.key(),
            value: self.key(),
            lease: self.number(),
            prev_kv: self.yes(),
            ignore_value: self.below(4) == 1,
            ignore_lease: self.below(4) == 1,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.key(), prev_kv: self.yes() }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compare = (0..self.below(3)).map(|_| self.compare()).collect();
        let success = (0..self.below(4)).map(|_| self.op(depth)).collect();
        let failure = (0..self.below(4)).map(|_| self.op(depth)).collect();
        TxnRequest { compare, success, failure }
    }

    fn compare(&mut self) -> Compare {
        let target_union = match self.below(6) {
            0 => None,
            1 => Some(TargetUnion::Version(self.number())),
            2 => Some(TargetUnion::CreateRevision(self.number())),
            3 => Some(TargetUnion::ModRevision(self.number())),
            4 => Some(TargetUnion::Value(self.key())),
            _ => Some(TargetUnion::Lease(self.number())),
        };
        Compare {
            result: self.below(5) as i32,
            target: self.below(6) as i32,
            key: self.key(),
            range_end: self.key(),
            target_union,
        }
    }

    fn op(&mut self, depth: usize) -> RequestOp {
        let request = match self.below(5) {
            0 => None,
            1 => Some(Request::RequestRange(self.range())),
            2 => Some(Request::RequestPut(self.put())),
            3 => Some(Request::RequestDeleteRange(self.delete())),
            _ => depth.checked_sub(1).map(|depth| Request::RequestTxn(self.txn(depth))),
        };
        RequestOp { request }
    }

    fn watch(&mut self) -> WatchRequest {
        let request_union = match self.below(6) {
            0 => None,
            1 => Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
            2 => {
                let watch_id = self.number();
                Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            }
            _ => Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: self.key(),
                range_end: self.key(),
                start_revision: self.number(),
                progress_notify: self.yes(),
                filters: vec![self.below(3) as i32],
                prev_kv: self.yes(),
                watch_id: self.number(),
                fragment: self.yes(),
            })),
        };
        WatchRequest { request_union }
    }

    fn leader(&mut self) -> Option<LeaderKey> {
        let leader = LeaderKey {
            name: self.key(),
            key: self.key(),
            rev: self.number(),
            lease: self.number(),
        };
        self.yes().then_some(leader)
    }
}
