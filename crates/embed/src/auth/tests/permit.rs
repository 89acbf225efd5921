use std::collections::BTreeMap;

use bytes::Bytes;
use tenure::wire::{
    authpb::permission::Type::{Read, Readwrite, Write},
    etcdserverpb::{request_op::Request, *},
};
use tonic::Code;

use super::Fixture;
use crate::{
    auth::{Auth, Caller, refusals::*},
    refusal::Refusal,
};

type Answer = Result<(), Refusal>;

const DENIED: Answer = Err(PERMISSION_DENIED);

/// Lease 7 holds `b`.
fn lease(id: i64) -> Vec<Bytes> {
    if id == 7 { vec![Bytes::from_static(b"b")] } else { vec![] }
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..Default::default() }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false }
}

fn compare(key: &'static str, range_end: &'static str) -> TxnRequest {
    let compare = Compare { key: key.into(), range_end: range_end.into(), ..Default::default() };
    TxnRequest { compare: vec![compare], ..Default::default() }
}

fn nest(txn: TxnRequest) -> TxnRequest {
    TxnRequest { success: vec![op(Request::RequestTxn(txn))], ..Default::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn al(permissions: &[(tenure::wire::authpb::permission::Type, &str, &str)]) -> (Auth, Caller) {
    let mut it = Fixture::on(permissions);
    let al = it.al();
    (it.auth, al)
}

#[test]
fn reading_needs_read_and_writing_write() {
    let (auth, al) = al(&[(Read, "r", ""), (Write, "w", "")]);
    assert_eq!(auth.may_range(&al, &range("r", "")), Ok(()));
    assert_eq!(auth.may_range(&al, &range("w", "")), DENIED);
    assert_eq!(auth.may_put(&al, &put("r"), &lease), DENIED);
    assert_eq!(auth.may_put(&al, &put("w"), &lease), Ok(()));
    assert_eq!(auth.may_delete_range(&al, &delete("r", "")), DENIED);
    assert_eq!(auth.may_delete_range(&al, &delete("w", "")), Ok(()));
}

#[test]
fn the_previous_value_needs_read_too() {
    let (auth, al) = al(&[(Write, "w", ""), (Readwrite, "x", "")]);
    for (key, answer) in [("w", DENIED), ("x", Ok(()))] {
        let put = PutRequest { prev_kv: true, ..put(key) };
        let delete = DeleteRangeRequest { prev_kv: true, ..delete(key, "") };
        assert_eq!(auth.may_put(&al, &put, &lease), answer);
        assert_eq!(auth.may_delete_range(&al, &delete), answer);
        for request in [Request::RequestPut(put), Request::RequestDeleteRange(delete)] {
            let txn = TxnRequest { failure: vec![op(request)], ..Default::default() };
            assert_eq!(auth.may_txn(&al, &txn, &lease), answer);
        }
    }
}

#[test]
fn a_range_must_lie_within_what_is_allowed() {
    let (auth, al) = al(&[(Readwrite, "a", "c"), (Read, "c", "e"), (Readwrite, "x", "\0")]);
    assert_eq!(auth.may_range(&al, &range("a", "e")), Ok(()));
    assert_eq!(auth.may_range(&al, &range("a", "f")), DENIED);
    assert_eq!(auth.may_delete_range(&al, &delete("a", "e")), DENIED);
    assert_eq!(auth.may_range(&al, &range("y", "\0")), Ok(()));
    assert_eq!(auth.may_range(&al, &range("d", "\0")), DENIED);
    assert_eq!(auth.may_range(&al, &range("\0", "\0")), DENIED);
}

#[test]
fn one_key_opens_no_range_behind_it() {
    let (auth, al) = al(&[(Readwrite, "a", "")]);
    assert_eq!(auth.may_range(&al, &range("a", "\0")), DENIED);
    assert_eq!(auth.may_delete_range(&al, &delete("a", "\0")), DENIED);
    assert_eq!(auth.may_watch(&al, b"a", b"\0"), DENIED);
    assert_eq!(auth.may_watch(&al, b"a", b"b"), DENIED);
    assert_eq!(auth.may_watch(&al, b"a", b""), Ok(()));
}

#[test]
fn a_watch_without_key_begins_at_the_first() {
    let (auth, al) = al(&[(Read, "\0", "\0")]);
    assert_eq!(auth.may_watch(&al, b"", b"\0"), Ok(()));
    assert_eq!(auth.may_watch(&al, b"", b""), Ok(()));
}

#[test]
fn each_compare_and_op_of_a_txn_counts_wherever_it_stands() {
    let (auth, al) = al(&[(Readwrite, "a", "")]);
    let ops = |key, end| {
        [
            Request::RequestRange(range(key, end)),
            Request::RequestDeleteRange(delete(key, end)),
            Request::RequestPut(put(key)),
        ]
    };
    for (key, end, answer) in [("a", "", Ok(())), ("b", "", DENIED)] {
        let mut txns = vec![compare(key, end)];
        for request in ops(key, end) {
            let then = vec![op(Request::RequestRange(range("a", ""))), op(request)];
            txns.push(TxnRequest { success: then.clone(), ..Default::default() });
            txns.push(TxnRequest { failure: then, ..Default::default() });
        }
        for txn in txns {
            assert_eq!(auth.may_txn(&al, &txn, &lease), answer, "{txn:?}");
            let nested = nest(nest(txn));
            assert_eq!(auth.may_txn(&al, &nested, &lease), answer, "{nested:?}");
        }
    }
    assert_eq!(auth.may_txn(&al, &compare("a", "b"), &lease), DENIED);
}

#[test]
fn a_txn_that_touches_nothing_is_anybodys() {
    let mut it = Fixture::on(&[]);
    let (al, nobody) = (it.al(), it.nobody());
    assert_eq!(it.auth.may_txn(&al, &TxnRequest::default(), &lease), Ok(()));
    assert_eq!(it.auth.may_txn(&nobody, &TxnRequest::default(), &lease), Ok(()));
    let unset = TxnRequest { success: vec![RequestOp::default()], ..Default::default() };
    assert_eq!(it.auth.may_txn(&al, &unset, &lease), Ok(()));
}

#[test]
fn attaching_to_a_lease_needs_write_on_all_it_holds() {
    let (auth, al) = al(&[(Readwrite, "a", "")]);
    for (id, answer) in [(7, DENIED), (8, Ok(()))] {
        let put = PutRequest { lease: id, ..put("a") };
        assert_eq!(auth.may_put(&al, &put, &lease), answer);
        let txn = TxnRequest { success: vec![op(Request::RequestPut(put))], ..Default::default() };
        assert_eq!(auth.may_txn(&al, &txn, &lease), answer);
        assert_eq!(auth.may_revoke_lease(&al, lease(id)), answer);
        assert_eq!(auth.may_keep_alive(&al, lease(id)), answer);
        assert_eq!(auth.may_see_lease(&al, lease(id)), answer);
    }
    let untouched = |_| -> Vec<Bytes> { unreachable!("no lease is named") };
    assert_eq!(auth.may_put(&al, &put("a"), &untouched), Ok(()));
}

#[test]
fn the_keys_of_a_lease_may_be_borrowed() {
    struct Leases(BTreeMap<i64, Vec<Bytes>>);
    impl Leases {
        fn keys(&self, id: i64) -> impl Iterator<Item = &Bytes> {
            self.0.get(&id).into_iter().flatten()
        }
    }
    let leases = Leases(BTreeMap::from([(7, lease(7))]));
    let (auth, al) = al(&[(Readwrite, "a", ""), (Write, "b", "")]);
    let put = PutRequest { lease: 7, ..put("a") };
    assert_eq!(auth.may_put(&al, &put, &|id| leases.keys(id)), Ok(()));
    assert_eq!(auth.may_keep_alive(&al, leases.keys(7)), Ok(()));
    assert_eq!(auth.may_see_lease(&al, leases.keys(7)), DENIED);
}

#[test]
fn nobody_is_told_to_sign_in_and_root_may_do_everything() {
    let mut it = Fixture::on(&[]);
    let (root, nobody) = (it.root(), it.nobody());
    for (caller, answer) in [(&nobody, Err(USER_EMPTY)), (&root, Ok(()))] {
        let auth = &it.auth;
        let alarm = AlarmRequest::default();
        assert_eq!(auth.may_range(caller, &range("\0", "\0")), answer);
        assert_eq!(auth.may_put(caller, &PutRequest { lease: 7, ..put("a") }, &lease), answer);
        assert_eq!(auth.may_watch(caller, b"a", b"\0"), answer);
        assert_eq!(auth.may_grant_lease(caller), answer);
        assert_eq!(auth.may_revoke_lease(caller, lease(7)), answer);
        assert_eq!(auth.may_keep_alive(caller, lease(8)), answer, "even of a lease without keys");
        assert_eq!(auth.may_see_lease(caller, lease(8)), answer);
        assert_eq!(auth.may_list_members(caller), answer);
        assert_eq!(auth.may_alarm(caller, &alarm), answer);
        assert_eq!(auth.may_alarm(caller, &AlarmRequest { action: 1, ..alarm }), answer);
        assert_eq!(auth.may_compact(caller), answer);
        assert_eq!(auth.may_administer(caller), answer);
    }
}

#[test]
fn while_auth_is_off_anybody_may_do_everything() {
    let mut it = Fixture::off();
    let anybody = it.caller("garbage").unwrap();
    assert_eq!(it.auth.may_range(&anybody, &range("\0", "\0")), Ok(()));
    assert_eq!(it.auth.may_revoke_lease(&anybody, lease(7)), Ok(()));
    assert_eq!(it.auth.may_administer(&anybody), Ok(()));
    assert_eq!(it.auth.may_maintain(Some("garbage"), it.now), Ok(()));
}

#[test]
fn a_user_sees_alarms_and_members_and_grants_leases_but_does_not_administer() {
    let (auth, al) = al(&[(Readwrite, "\0", "\0")]);
    let alarm = AlarmRequest::default();
    assert_eq!(auth.may_alarm(&al, &alarm), Ok(()));
    for action in [1, 2, 7] {
        assert_eq!(auth.may_alarm(&al, &AlarmRequest { action, ..alarm }), DENIED);
    }
    assert_eq!(auth.may_list_members(&al), Ok(()));
    assert_eq!(auth.may_grant_lease(&al), Ok(()));
    assert_eq!(auth.may_compact(&al), DENIED);
    assert_eq!(auth.may_administer(&al), DENIED);
}

#[test]
fn maintenance_refuses_in_words_of_its_own() {
    let mut it = Fixture::on(&[]);
    let (al, root) = (it.token("al", "apw").unwrap(), it.token("root", "rpw").unwrap());
    for (token, text) in [
        (None, "auth: user name is empty"),
        (Some("garbage"), "auth: invalid auth token"),
        (Some(&*al), "auth: permission denied"),
    ] {
        let refused = it.auth.may_maintain(token, it.now);
        assert_eq!(refused, Err(Refusal::new(Code::Unknown, text)));
    }
    assert_eq!(it.auth.may_maintain(Some(&root), it.now), Ok(()));
}

#[test]
fn a_caller_is_stale_after_any_change_and_its_token_is_not() {
    let mut it = Fixture::on(&[(Readwrite, "a", "")]);
    let token = it.token("al", "apw").unwrap();
    let before = it.caller(&token).unwrap();
    it.grant(Read, "b", "").unwrap();
    assert_eq!(it.auth.may_range(&before, &range("b", "")), Err(AUTH_OLD_REVISION));
    let after = it.caller(&token).unwrap();
    assert_eq!(it.auth.may_range(&after, &range("b", "")), Ok(()));
    it.revoke("b", "").unwrap();
    let last = it.caller(&token).unwrap();
    assert_eq!(it.auth.may_range(&last, &range("b", "")), DENIED);
}

#[test]
fn whoever_has_the_root_role_is_root() {
    let mut it = Fixture::on(&[]);
    it.grant_role("al", "root").unwrap();
    let al = it.al();
    assert_eq!(it.auth.may_administer(&al), Ok(()));
    assert_eq!(it.auth.may_range(&al, &range("\0", "\0")), Ok(()));
    it.revoke_role("al", "root").unwrap();
    let al = it.al();
    assert_eq!(it.auth.may_administer(&al), DENIED);
}
