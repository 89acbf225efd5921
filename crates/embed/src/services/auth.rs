use tenure::wire::etcdserverpb::{auth_server::Auth, *};
use tonic::Request;

use super::{Answer, Services};
use crate::node::Needs;

/// Calls that are one function of the auth store each, and a header.
macro_rules! administration {
    ($($method:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl Auth for Services {
            $(
                async fn $method(&self, request: Request<$request>) -> Answer<$response> {
                    self.serve(request, Needs::Quorum, |state, token, request, now| {
                        let caller = state.caller(token, now)?;
                        let mut response = state.auth.$method(&caller, request)?;
                        state.agree();
                        response.header = Some(state.header());
                        Ok(response)
                    })
                    .await
                }
            )*

            /// Whoever signs in need not be anybody yet.
            async fn authenticate(
                &self,
                request: Request<AuthenticateRequest>,
            ) -> Answer<AuthenticateResponse> {
                self.serve(request, Needs::Quorum, |state, _, request, now| {
                    let mut response = state.auth.authenticate(request, now)?;
                    state.agree();
                    response.header = Some(state.header());
                    Ok(response)
                })
                .await
            }
        }
    };
}

administration! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse;
    auth_disable(AuthDisableRequest) -> AuthDisableResponse;
    auth_status(AuthStatusRequest) -> AuthStatusResponse;
    user_add(AuthUserAddRequest) -> AuthUserAddResponse;
    user_get(AuthUserGetRequest) -> AuthUserGetResponse;
    user_list(AuthUserListRequest) -> AuthUserListResponse;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse;
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse;
    role_list(AuthRoleListRequest) -> AuthRoleListResponse;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
}
