use bytes::Bytes;
use tenure::wire::{
    authpb::Permission,
    etcdserverpb::{
        AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
        AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
        AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
        AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse,
    },
};

use super::{Auth, Caller, ROOT, refusals, rights::interval};
use crate::refusal::Refusal;

/// Its permissions stand in the order of their keys, those of one key as they came.
#[derive(Debug, Default)]
pub(super) struct Role {
    pub(super) permissions: Vec<Permission>,
}

impl Role {
    /// The same range again changes what may be done with it.
    fn grant(&mut self, granted: Permission) {
        let same =
            self.permissions.iter_mut().find(|held| is_of(held, &granted.key, &granted.range_end));
        if let Some(held) = same {
            held.perm_type = granted.perm_type;
            return;
        }
        let place = self.permissions.partition_point(|held| held.key <= granted.key);
        // What is kept must not hold on to the whole buffer that a request came in.
        let key = Bytes::copy_from_slice(&granted.key);
        let range_end = Bytes::copy_from_slice(&granted.range_end);
        self.permissions.insert(place, Permission { key, range_end, ..granted });
    }

    fn revoke(&mut self, key: &Bytes, range_end: &Bytes) -> bool {
        let before = self.permissions.len();
        self.permissions.retain(|held| !is_of(held, key, range_end));
        self.permissions.len() < before
    }
}

fn is_of(permission: &Permission, key: &Bytes, range_end: &Bytes) -> bool {
    permission.key == *key && permission.range_end == *range_end
}

impl Auth {
    pub(crate) fn role_add(
        &mut self,
        caller: &Caller,
        request: AuthRoleAddRequest,
    ) -> Result<AuthRoleAddResponse, Refusal> {
        self.may_administer(caller)?;
        if request.name.is_empty() {
            return Err(refusals::ROLE_EMPTY);
        }
        if self.roles.contains_key(&request.name) {
            return Err(refusals::ROLE_ALREADY_EXIST);
        }
        self.roles.insert(request.name, Role::default());
        self.commit();
        Ok(AuthRoleAddResponse::default())
    }

    /// Who has a role may see it.
    pub(crate) fn role_get(
        &self,
        caller: &Caller,
        request: AuthRoleGetRequest,
    ) -> Result<AuthRoleGetResponse, Refusal> {
        if !self.users.get(caller.name()).is_some_and(|user| user.has(&request.role)) {
            self.may_administer(caller)?;
        }
        let role = self.roles.get(&request.role).ok_or(refusals::ROLE_NOT_FOUND)?;
        Ok(AuthRoleGetResponse { header: None, perm: role.permissions.clone() })
    }

    pub(crate) fn role_list(
        &self,
        caller: &Caller,
        _: AuthRoleListRequest,
    ) -> Result<AuthRoleListResponse, Refusal> {
        self.may_administer(caller)?;
        Ok(AuthRoleListResponse { header: None, roles: self.roles.keys().cloned().collect() })
    }

    pub(crate) fn role_delete(
        &mut self,
        caller: &Caller,
        request: AuthRoleDeleteRequest,
    ) -> Result<AuthRoleDeleteResponse, Refusal> {
        self.may_administer(caller)?;
        if self.enabled && request.role == ROOT {
            return Err(refusals::INVALID_AUTH_MGMT);
        }
        self.roles.remove(&request.role).ok_or(refusals::ROLE_NOT_FOUND)?;
        for user in self.users.values_mut() {
            if user.lose(&request.role) {
                user.reckon_rights(&self.roles);
            }
        }
        self.commit();
        Ok(AuthRoleDeleteResponse::default())
    }

    pub(crate) fn role_grant_permission(
        &mut self,
        caller: &Caller,
        request: AuthRoleGrantPermissionRequest,
    ) -> Result<AuthRoleGrantPermissionResponse, Refusal> {
        self.may_administer(caller)?;
        let permission = request.perm.ok_or(refusals::PERMISSION_NOT_GIVEN)?;
        if !interval(&permission).is_valid() {
            return Err(refusals::INVALID_AUTH_MGMT);
        }
        let role = self.roles.get_mut(&request.name).ok_or(refusals::ROLE_NOT_FOUND)?;
        role.grant(permission);
        self.role_changed(&request.name);
        Ok(AuthRoleGrantPermissionResponse::default())
    }

    pub(crate) fn role_revoke_permission(
        &mut self,
        caller: &Caller,
        request: AuthRoleRevokePermissionRequest,
    ) -> Result<AuthRoleRevokePermissionResponse, Refusal> {
        self.may_administer(caller)?;
        let role = self.roles.get_mut(&request.role).ok_or(refusals::ROLE_NOT_FOUND)?;
        if !role.revoke(&request.key, &request.range_end) {
            return Err(refusals::PERMISSION_NOT_GRANTED);
        }
        self.role_changed(&request.role);
        Ok(AuthRoleRevokePermissionResponse::default())
    }

    fn role_changed(&mut self, role: &str) {
        for user in self.users.values_mut().filter(|user| user.has(role)) {
            user.reckon_rights(&self.roles);
        }
        self.commit();
    }
}
