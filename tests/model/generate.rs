//! Random sequences of requests, few keys and many meetings.

use bytes::Bytes;
use proptest::{bool, collection::vec, prelude::*, sample::select};
use tenure::wire::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest,
    WatchCreateRequest,
};

use super::{
    generate_txn,
    landmarks::{COMPACTED, NOW},
    shrink::many,
};

#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) steps: Vec<Step>,
    /// Opened when all is done.
    pub(crate) watches: Vec<WatchCreateRequest>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    KeepAlive(LeaseKeepAliveRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
    Watch(WatchCreateRequest),
    /// Of one of the watches there are.
    CancelWatch(usize),
}

const KEYS: [&[u8]; 10] =
    [b"\0", b"\0\0", b"a", b"a\0", b"a\xff", b"aa", b"ab", b"b", b"\xff", b"\xff\xff"];
/// Ends of ranges that are no keys: those of prefixes, and more.
const ENDS: [&[u8]; 5] = [b"\x01", b"a\x01", b"ac", b"c", b"\xff\xff\0"];
const VALUES: [&[u8]; 6] = [b"", b"\0", b"1", b"2", b"12", b"\xff\xfe"];

/// Leases that there may be.
const LEASES: [i64; 4] = [1, 7, -1, i64::MAX];
/// So far apart that leases of different TTLs expire in that order, however slow a test is.
const TTLS: [i64; 4] = [3600, 7200, 360_000, 9_000_000_000];

pub(crate) fn sequence() -> impl Strategy<Value = Sequence> {
    // The first are the first to go when it is shrunk.
    (many(watch(), 20..60), many(step(), 50..300))
        .prop_map(|(watches, steps)| Sequence { steps, watches })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => put().prop_map(Step::Put).boxed(),
        7 => delete().prop_map(Step::Delete).boxed(),
        40 => generate_txn::txn().prop_map(Step::Txn).boxed(),
        20 => range().prop_map(Step::Range).boxed(),
        3 => compact().prop_map(Step::Compact),
        6 => grant().prop_map(Step::Grant),
        2 => held().prop_map(|id| Step::Revoke(LeaseRevokeRequest { id })),
        2 => held().prop_map(|id| Step::KeepAlive(LeaseKeepAliveRequest { id })),
        2 => (held(), any::<bool>())
            .prop_map(|(id, keys)| Step::TimeToLive(LeaseTimeToLiveRequest { id, keys })),
        1 => Just(Step::Leases),
        3 => watch().prop_map(Step::Watch),
        1 => any::<usize>().prop_map(Step::CancelWatch),
    ]
}

fn bytes(all: &'static [&'static [u8]]) -> impl Strategy<Value = Bytes> {
    select(all).prop_map(Bytes::from_static)
}

/// Nothing, but now and then.
pub(super) fn rarely<T>(value: impl Strategy<Value = T>) -> impl Strategy<Value = T>
where
    T: Clone + Default + std::fmt::Debug,
{
    prop_oneof![5 => Just(T::default()), 1 => value]
}

pub(super) fn flag() -> impl Strategy<Value = bool> {
    bool::weighted(0.2)
}

pub(super) fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![300 => bytes(&KEYS), 1 => Just(Bytes::new())]
}

pub(super) fn end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => Just(Bytes::new()),
        2 => bytes(&ENDS),
        2 => bytes(&KEYS),
        1 => Just(Bytes::from_static(b"\0")),
    ]
}

pub(super) fn value() -> impl Strategy<Value = Bytes> {
    bytes(&VALUES)
}

/// The revision that is meant when none is said, the more likely ones, and others.
pub(super) fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => Just(0),
        4 => (-6..=2_i64).prop_map(|distance| NOW + distance),
        2 => (-2..=4_i64).prop_map(|distance| COMPACTED + distance),
        1 => 1..9_i64,
        1 => prop_oneof![-3..0_i64, Just(i64::MAX), Just(i64::MIN)],
    ]
}

fn held() -> impl Strategy<Value = i64> {
    prop_oneof![20 => select(&LEASES[..]), 1 => Just(0), 1 => Just(99)]
}

/// For something that refers to it.
pub(super) fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![30 => Just(0), 15 => select(&LEASES[..]), 1 => Just(99)]
}

fn grant() -> impl Strategy<Value = LeaseGrantRequest> {
    let ttl = prop_oneof![20 => select(&TTLS[..]), 1 => 9_000_000_001..=i64::MAX];
    // Which id the server chooses for 0 cannot be known.
    (select(&LEASES[..]), ttl).prop_map(|(id, ttl)| LeaseGrantRequest { id, ttl })
}

pub(super) fn put() -> impl Strategy<Value = PutRequest> {
    let ignores = (bool::weighted(0.07), bool::weighted(0.07), bool::weighted(0.9));
    (key(), value(), lease(), flag(), ignores).prop_map(
        |(key, mut value, mut lease, prev_kv, (ignore_value, ignore_lease, is_sound))| {
            if is_sound && ignore_value {
                value.clear();
            }
            if is_sound && ignore_lease {
                lease = 0;
            }
            PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
        },
    )
}

pub(super) fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), end(), flag()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

pub(super) fn range() -> impl Strategy<Value = RangeRequest> {
    let limit = prop_oneof![10 => Just(0), 8 => 1..6_i64, 1 => -1..0_i64, 1 => Just(i64::MAX)];
    // Real servers do not survive a target that there is not; an order is as good as none.
    let sort = rarely((prop_oneof![20 => 0..3, 1 => Just(7)], 0..5));
    let filters = (rarely(revision()), rarely(revision()), rarely(revision()), rarely(revision()));
    let ends = prop_oneof![1 => end(), 1 => Just(Bytes::from_static(b"\0"))];
    ((key(), ends), revision(), limit, sort, (flag(), flag(), flag()), filters).prop_map(
        |((key, range_end), revision, limit, (sort_order, sort_target), flags, filters)| {
            let (serializable, keys_only, count_only) = flags;
            RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable,
                keys_only,
                count_only,
                min_mod_revision: filters.0,
                max_mod_revision: filters.1,
                min_create_revision: filters.2,
                max_create_revision: filters.3,
            }
        },
    )
}

fn compact() -> impl Strategy<Value = CompactionRequest> {
    (revision(), any::<bool>())
        .prop_map(|(revision, physical)| CompactionRequest { revision, physical })
}

fn watch() -> impl Strategy<Value = WatchCreateRequest> {
    let key = prop_oneof![1 => Just(Bytes::new()), 4 => key(), 4 => Just(Bytes::from_static(b"a"))];
    let start = prop_oneof![5 => revision(), 1 => Just(COMPACTED)];
    let filters = rarely(vec(prop_oneof![4 => 0..2, 1 => Just(5)], 0..3));
    let ends = prop_oneof![1 => end(), 1 => Just(Bytes::from_static(b"\0"))];
    (key, ends, start, filters, any::<bool>(), flag()).prop_map(
        |(key, range_end, start_revision, filters, prev_kv, fragment)| WatchCreateRequest {
            key,
            range_end,
            start_revision,
            filters,
            prev_kv,
            fragment,
            ..WatchCreateRequest::default()
        },
    )
}
