use tenure::wire::{
    authpb::{Permission, permission::Type},
    etcdserverpb::*,
};
use tokio::time::{Duration, Instant};

use super::{Auth, Caller};
use crate::refusal::Refusal;

mod admin;
mod permit;
mod sign_in;

/// Users `root` and `al`, whose passwords are `rpw` and `apw`, and `al`'s role `r`.
struct Fixture {
    auth: Auth,
    now: Instant,
}

impl Fixture {
    /// Auth is still off.
    fn off() -> Self {
        let mut it = Self { auth: Auth::new(Duration::from_secs(2)), now: Instant::now() };
        it.add_user("root", "rpw");
        it.grant_role("root", "root").unwrap();
        it.add_user("al", "apw");
        it.add_role("r");
        it.grant_role("al", "r").unwrap();
        it
    }

    /// Auth is on, and `r` may do this.
    fn on(permissions: &[(Type, &str, &str)]) -> Self {
        let mut it = Self::off();
        for (kind, key, range_end) in permissions {
            it.grant(*kind, key, range_end).unwrap();
        }
        it.auth.auth_enable(&it.nobody(), AuthEnableRequest {}).unwrap();
        it
    }

    fn nobody(&self) -> Caller {
        Caller { user: None, revision: self.auth.revision }
    }

    fn token(&mut self, name: &str, password: &str) -> Result<String, Refusal> {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = AuthenticateRequest { name, password };
        self.auth.authenticate(request, self.now).map(|response| response.token)
    }

    fn caller(&mut self, token: &str) -> Result<Caller, Refusal> {
        self.auth.caller(Some(token), self.now)
    }

    fn al(&mut self) -> Caller {
        let token = self.token("al", "apw").unwrap();
        self.caller(&token).unwrap()
    }

    /// While auth is off, anybody.
    fn root(&mut self) -> Caller {
        match self.token("root", "rpw") {
            Ok(token) => self.caller(&token).unwrap(),
            Err(_) => self.nobody(),
        }
    }

    fn add_user(&mut self, name: &str, password: &str) {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = AuthUserAddRequest { name, password, ..Default::default() };
        let root = self.root();
        self.auth.user_add(&root, request).unwrap();
    }

    fn add_role(&mut self, name: &str) {
        let root = self.root();
        self.auth.role_add(&root, AuthRoleAddRequest { name: name.to_owned() }).unwrap();
    }

    fn grant_role(&mut self, user: &str, role: &str) -> Result<AuthUserGrantRoleResponse, Refusal> {
        let root = self.root();
        let (user, role) = (user.to_owned(), role.to_owned());
        self.auth.user_grant_role(&root, AuthUserGrantRoleRequest { user, role })
    }

    fn revoke_role(
        &mut self,
        name: &str,
        role: &str,
    ) -> Result<AuthUserRevokeRoleResponse, Refusal> {
        let root = self.root();
        let (name, role) = (name.to_owned(), role.to_owned());
        self.auth.user_revoke_role(&root, AuthUserRevokeRoleRequest { name, role })
    }

    fn grant(
        &mut self,
        kind: Type,
        key: &str,
        range_end: &str,
    ) -> Result<AuthRoleGrantPermissionResponse, Refusal> {
        let perm = Some(permission(kind, key, range_end));
        let root = self.root();
        let request = AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm };
        self.auth.role_grant_permission(&root, request)
    }

    fn revoke(
        &mut self,
        key: &str,
        range_end: &str,
    ) -> Result<AuthRoleRevokePermissionResponse, Refusal> {
        let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
        let root = self.root();
        let request = AuthRoleRevokePermissionRequest { role: "r".to_owned(), key, range_end };
        self.auth.role_revoke_permission(&root, request)
    }

    fn delete_user(&mut self, name: &str) -> Result<AuthUserDeleteResponse, Refusal> {
        let root = self.root();
        self.auth.user_delete(&root, AuthUserDeleteRequest { name: name.to_owned() })
    }

    fn delete_role(&mut self, role: &str) -> Result<AuthRoleDeleteResponse, Refusal> {
        let root = self.root();
        self.auth.role_delete(&root, AuthRoleDeleteRequest { role: role.to_owned() })
    }

    fn change_password(
        &mut self,
        name: &str,
        password: &str,
    ) -> Result<AuthUserChangePasswordResponse, Refusal> {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = AuthUserChangePasswordRequest { name, password, ..Default::default() };
        let root = self.root();
        self.auth.user_change_password(&root, request)
    }

    fn disable(&mut self) {
        let root = self.root();
        self.auth.auth_disable(&root, AuthDisableRequest {}).unwrap();
    }

    fn roles_of(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let root = self.root();
        let request = AuthUserGetRequest { name: name.to_owned() };
        self.auth.user_get(&root, request).map(|response| response.roles)
    }

    fn permissions(&mut self) -> Vec<Permission> {
        let root = self.root();
        let request = AuthRoleGetRequest { role: "r".to_owned() };
        self.auth.role_get(&root, request).unwrap().perm
    }
}

fn permission(kind: Type, key: &str, range_end: &str) -> Permission {
    Permission {
        perm_type: kind as i32,
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    }
}
