use std::collections::{BTreeMap, BTreeSet};

use tenure::wire::etcdserverpb::{
    AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
    AuthUserRevokeRoleResponse,
};

use super::{
    Auth, Caller, ROOT,
    password::{SignIn, given},
    refusals,
    rights::Rights,
    roles::Role,
};
use crate::refusal::Refusal;

#[derive(Debug)]
pub(super) struct User {
    pub(super) sign_in: SignIn,
    roles: BTreeSet<String>,
    /// Follows from the roles; kept, since every request asks for it.
    pub(super) rights: Rights,
}

impl User {
    fn new(sign_in: SignIn) -> Self {
        Self { sign_in, roles: BTreeSet::new(), rights: Rights::default() }
    }

    pub(super) fn is_root(&self) -> bool {
        self.has(ROOT)
    }

    pub(super) fn has(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    pub(super) fn lose(&mut self, role: &str) -> bool {
        self.roles.remove(role)
    }

    pub(super) fn reckon_rights(&mut self, roles: &BTreeMap<String, Role>) {
        let held = self.roles.iter().filter_map(|role| roles.get(role));
        self.rights = Rights::of(held.flat_map(|role| &role.permissions));
    }
}

impl Auth {
    pub(crate) fn user_add(
        &mut self,
        caller: &Caller,
        request: AuthUserAddRequest,
    ) -> Result<AuthUserAddResponse, Refusal> {
        let no_password = request.options.is_some_and(|options| options.no_password);
        // etcd hashes before it asks who calls, so a password too long is refused to anyone.
        let sign_in = SignIn::of_new_user(no_password, request.password)?;
        self.may_administer(caller)?;
        if request.name.is_empty() {
            return Err(refusals::USER_EMPTY);
        }
        if self.users.contains_key(&request.name) {
            return Err(refusals::USER_ALREADY_EXIST);
        }
        self.users.insert(request.name, User::new(sign_in));
        self.commit();
        Ok(AuthUserAddResponse::default())
    }

    /// A user may see itself.
    pub(crate) fn user_get(
        &self,
        caller: &Caller,
        request: AuthUserGetRequest,
    ) -> Result<AuthUserGetResponse, Refusal> {
        if request.name != caller.name() {
            self.may_administer(caller)?;
        }
        let user = self.users.get(&request.name).ok_or(refusals::USER_NOT_FOUND)?;
        Ok(AuthUserGetResponse { header: None, roles: user.roles.iter().cloned().collect() })
    }

    pub(crate) fn user_list(
        &self,
        caller: &Caller,
        _: AuthUserListRequest,
    ) -> Result<AuthUserListResponse, Refusal> {
        self.may_administer(caller)?;
        Ok(AuthUserListResponse { header: None, users: self.users.keys().cloned().collect() })
    }

    pub(crate) fn user_delete(
        &mut self,
        caller: &Caller,
        request: AuthUserDeleteRequest,
    ) -> Result<AuthUserDeleteResponse, Refusal> {
        self.may_administer(caller)?;
        if self.enabled && request.name == ROOT {
            return Err(refusals::INVALID_AUTH_MGMT);
        }
        self.users.remove(&request.name).ok_or(refusals::USER_NOT_FOUND)?;
        self.tokens.forget_user(&request.name);
        self.commit();
        Ok(AuthUserDeleteResponse::default())
    }

    pub(crate) fn user_change_password(
        &mut self,
        caller: &Caller,
        request: AuthUserChangePasswordRequest,
    ) -> Result<AuthUserChangePasswordResponse, Refusal> {
        let password = given(request.password)?;
        self.may_administer(caller)?;
        let user = self.users.get_mut(&request.name).ok_or(refusals::USER_NOT_FOUND)?;
        user.sign_in = user.sign_in.changed(password, &request.hashed_password)?;
        self.tokens.forget_user(&request.name);
        self.commit();
        Ok(AuthUserChangePasswordResponse::default())
    }

    /// The root role can be granted without being there.
    pub(crate) fn user_grant_role(
        &mut self,
        caller: &Caller,
        request: AuthUserGrantRoleRequest,
    ) -> Result<AuthUserGrantRoleResponse, Refusal> {
        self.may_administer(caller)?;
        let user = self.users.get_mut(&request.user).ok_or(refusals::USER_NOT_FOUND)?;
        if request.role != ROOT && !self.roles.contains_key(&request.role) {
            return Err(refusals::ROLE_NOT_FOUND);
        }
        if user.roles.insert(request.role) {
            user.reckon_rights(&self.roles);
            self.commit();
        }
        Ok(AuthUserGrantRoleResponse::default())
    }

    pub(crate) fn user_revoke_role(
        &mut self,
        caller: &Caller,
        request: AuthUserRevokeRoleRequest,
    ) -> Result<AuthUserRevokeRoleResponse, Refusal> {
        self.may_administer(caller)?;
        if self.enabled && request.name == ROOT && request.role == ROOT {
            return Err(refusals::INVALID_AUTH_MGMT);
        }
        let user = self.users.get_mut(&request.name).ok_or(refusals::USER_NOT_FOUND)?;
        if !user.lose(&request.role) {
            return Err(refusals::ROLE_NOT_GRANTED);
        }
        user.reckon_rights(&self.roles);
        self.commit();
        Ok(AuthUserRevokeRoleResponse::default())
    }
}
