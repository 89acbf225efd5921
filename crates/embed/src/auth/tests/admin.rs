use tenure::wire::{
    authpb::{Permission, permission::Type},
    etcdserverpb::*,
};

use super::{Fixture, permission};
use crate::auth::{Auth, refusals::*};

#[test]
fn auth_is_turned_on_only_with_a_root_that_has_its_role() {
    let mut it = Fixture::off();
    let nobody = it.nobody();
    it.revoke_role("root", "root").unwrap();
    assert_eq!(it.auth.auth_enable(&nobody, AuthEnableRequest {}), Err(ROOT_ROLE_NOT_EXIST));
    it.delete_user("root").unwrap();
    assert_eq!(it.auth.auth_enable(&nobody, AuthEnableRequest {}), Err(ROOT_USER_NOT_EXIST));
}

#[test]
fn turning_auth_on_or_off_again_changes_nothing() {
    let mut it = Fixture::on(&[]);
    let revision = it.auth.revision;
    let root = it.root();
    it.auth.auth_enable(&root, AuthEnableRequest {}).unwrap();
    it.disable();
    it.disable();
    assert_eq!(it.auth.revision, revision + 1);
    let status = it.auth.auth_status(&it.nobody(), AuthStatusRequest {}).unwrap();
    let auth_revision = it.auth.revision;
    assert_eq!(status, AuthStatusResponse { header: None, enabled: false, auth_revision });
}

#[test]
fn the_revision_counts_changes_from_one() {
    let fresh = Auth::new(std::time::Duration::ZERO);
    assert_eq!(fresh.revision, 1);
    // Five changes, one permission; turning auth on does not count, turning it off does.
    let mut it = Fixture::on(&[(Type::Readwrite, "a", "")]);
    assert_eq!(it.auth.revision, 7);
    it.grant_role("al", "r").unwrap();
    assert_eq!(it.auth.revision, 7, "nothing changed");
    it.disable();
    assert_eq!(it.auth.revision, 8);
}

#[test]
fn names_are_neither_empty_nor_used_twice() {
    let mut it = Fixture::off();
    let root = it.root();
    let user = |name: &str| AuthUserAddRequest { name: name.to_owned(), ..Default::default() };
    assert_eq!(it.auth.user_add(&root, user("")), Err(USER_EMPTY));
    assert_eq!(it.auth.user_add(&root, user("al")), Err(USER_ALREADY_EXIST));
    let role = |name: &str| AuthRoleAddRequest { name: name.to_owned() };
    assert_eq!(it.auth.role_add(&root, role("")), Err(ROLE_EMPTY));
    assert_eq!(it.auth.role_add(&root, role("r")), Err(ROLE_ALREADY_EXIST));
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut it = Fixture::off();
    assert_eq!(it.roles_of("zz"), Err(USER_NOT_FOUND));
    assert_eq!(it.delete_user("zz"), Err(USER_NOT_FOUND));
    assert_eq!(it.change_password("zz", "x"), Err(USER_NOT_FOUND));
    assert_eq!(it.delete_role("zz"), Err(ROLE_NOT_FOUND));
    assert_eq!(it.grant_role("zz", "zz"), Err(USER_NOT_FOUND));
    assert_eq!(it.grant_role("al", "zz"), Err(ROLE_NOT_FOUND));
    assert_eq!(it.revoke_role("al", "zz"), Err(ROLE_NOT_GRANTED));
    assert_eq!(it.revoke("a", ""), Err(PERMISSION_NOT_GRANTED));
}

#[test]
fn lists_are_in_the_order_of_names() {
    let mut it = Fixture::off();
    it.add_user("b", "");
    it.add_role("Z");
    let users = it.auth.user_list(&it.nobody(), AuthUserListRequest {}).unwrap().users;
    assert_eq!(users, ["al", "b", "root"]);
    let roles = it.auth.role_list(&it.nobody(), AuthRoleListRequest {}).unwrap().roles;
    assert_eq!(roles, ["Z", "r"]);
}

#[test]
fn deleting_a_role_takes_it_and_its_rights_from_its_users() {
    let mut it = Fixture::on(&[(Type::Readwrite, "a", "")]);
    it.delete_role("r").unwrap();
    assert_eq!(it.roles_of("al").unwrap(), Vec::<String>::new());
    it.add_role("r");
    assert_eq!(it.permissions(), []);
    let al = it.al();
    assert_eq!(it.auth.may_watch(&al, b"a", b""), Err(PERMISSION_DENIED));
}

#[test]
fn the_same_range_again_changes_what_it_allows() {
    let mut it = Fixture::off();
    for (kind, range_end) in [
        (Type::Read, ""),
        (Type::Read, "b"),
        (Type::Read, "c"),
        (Type::Write, "b"),
        (Type::Readwrite, ""),
    ] {
        it.grant(kind, "a", range_end).unwrap();
    }
    let expected = [
        permission(Type::Readwrite, "a", ""),
        permission(Type::Write, "a", "b"),
        permission(Type::Read, "a", "c"),
    ];
    assert_eq!(it.permissions(), expected);
}

#[test]
fn permissions_stand_in_the_order_of_their_keys() {
    let mut it = Fixture::off();
    for key in ["b", "c", "a"] {
        it.grant(Type::Read, key, "\0").unwrap();
    }
    it.revoke("c", "\0").unwrap();
    let expected = [permission(Type::Read, "a", "\0"), permission(Type::Read, "b", "\0")];
    assert_eq!(it.permissions(), expected);
}

#[test]
fn a_permission_is_checked_before_its_role_is_looked_for() {
    let mut it = Fixture::off();
    let nobody = it.nobody();
    let mut grant = |perm: Option<Permission>| {
        let request = AuthRoleGrantPermissionRequest { name: "zz".to_owned(), perm };
        it.auth.role_grant_permission(&nobody, request).unwrap_err()
    };
    assert_eq!(grant(None), PERMISSION_NOT_GIVEN);
    assert_eq!(grant(Some(permission(Type::Read, "b", "a"))), INVALID_AUTH_MGMT);
    assert_eq!(grant(Some(permission(Type::Read, "", ""))), INVALID_AUTH_MGMT);
    assert_eq!(grant(Some(permission(Type::Read, "a", "b"))), ROLE_NOT_FOUND);
}

#[test]
fn a_permission_of_unknown_type_is_kept_and_allows_nothing() {
    let mut it = Fixture::off();
    let nobody = it.nobody();
    let perm = Permission { perm_type: 9, ..permission(Type::Read, "a", "") };
    let request = AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm: Some(perm) };
    it.auth.role_grant_permission(&nobody, request).unwrap();
    assert_eq!(it.permissions()[0].perm_type, 9);
    it.auth.auth_enable(&nobody, AuthEnableRequest {}).unwrap();
    let al = it.al();
    assert_eq!(it.auth.may_watch(&al, b"a", b""), Err(PERMISSION_DENIED));
}

#[test]
fn while_auth_is_on_root_stays_what_it_is() {
    let mut it = Fixture::on(&[]);
    it.add_role("root");
    assert_eq!(it.delete_user("root"), Err(INVALID_AUTH_MGMT));
    assert_eq!(it.delete_role("root"), Err(INVALID_AUTH_MGMT));
    assert_eq!(it.revoke_role("root", "root"), Err(INVALID_AUTH_MGMT));
    it.disable();
    it.delete_role("root").unwrap();
    assert_eq!(it.roles_of("root").unwrap(), Vec::<String>::new());
    it.delete_user("root").unwrap();
}

#[test]
fn only_root_administers_and_others_see_themselves() {
    let mut it = Fixture::on(&[]);
    let (al, nobody) = (it.al(), it.nobody());
    let auth = &mut it.auth;
    let user = |name: &str| AuthUserGetRequest { name: name.to_owned() };
    let role = |role: &str| AuthRoleGetRequest { role: role.to_owned() };
    assert_eq!(auth.user_get(&al, user("al")).unwrap().roles, ["r"]);
    auth.role_get(&al, role("r")).unwrap();
    for (caller, refusal) in [(&al, PERMISSION_DENIED), (&nobody, USER_EMPTY)] {
        let refused = Err(refusal.clone());
        assert_eq!(auth.user_get(caller, user("root")), refused);
        assert_eq!(auth.role_get(caller, role("zz")), Err(refusal.clone()));
        assert_eq!(auth.user_list(caller, AuthUserListRequest {}), Err(refusal.clone()));
        assert_eq!(auth.role_list(caller, AuthRoleListRequest {}), Err(refusal.clone()));
        assert_eq!(auth.auth_status(caller, AuthStatusRequest {}), Err(refusal.clone()));
        assert_eq!(auth.auth_enable(caller, AuthEnableRequest {}), Err(refusal.clone()));
        assert_eq!(auth.auth_disable(caller, AuthDisableRequest {}), Err(refusal.clone()));
        assert_eq!(auth.user_add(caller, AuthUserAddRequest::default()), Err(refusal.clone()));
        assert_eq!(auth.role_add(caller, AuthRoleAddRequest::default()), Err(refusal));
    }
    assert_eq!(auth.user_get(&nobody, user("")), Err(USER_NOT_FOUND), "nobody sees itself");
}
