use tenure::wire::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
    AuthStatusRequest, AuthStatusResponse, AuthenticateRequest, AuthenticateResponse,
};
use tokio::time::Instant;

use super::{Auth, Caller, ROOT, refusals};
use crate::refusal::Refusal;

impl Auth {
    pub(crate) fn auth_enable(
        &mut self,
        caller: &Caller,
        _: AuthEnableRequest,
    ) -> Result<AuthEnableResponse, Refusal> {
        self.may_administer(caller)?;
        if !self.enabled {
            let root = self.users.get(ROOT).ok_or(refusals::ROOT_USER_NOT_EXIST)?;
            if !root.is_root() {
                return Err(refusals::ROOT_ROLE_NOT_EXIST);
            }
            self.enabled = true;
        }
        Ok(AuthEnableResponse::default())
    }

    pub(crate) fn auth_disable(
        &mut self,
        caller: &Caller,
        _: AuthDisableRequest,
    ) -> Result<AuthDisableResponse, Refusal> {
        self.may_administer(caller)?;
        if self.enabled {
            self.enabled = false;
            self.tokens.forget_all();
            self.commit();
        }
        Ok(AuthDisableResponse::default())
    }

    pub(crate) fn auth_status(
        &self,
        caller: &Caller,
        _: AuthStatusRequest,
    ) -> Result<AuthStatusResponse, Refusal> {
        self.may_administer(caller)?;
        let (enabled, auth_revision) = (self.enabled, self.revision);
        Ok(AuthStatusResponse { header: None, enabled, auth_revision })
    }

    /// Signs in. Anybody may try, whatever token comes along.
    pub(crate) fn authenticate(
        &mut self,
        request: AuthenticateRequest,
        now: Instant,
    ) -> Result<AuthenticateResponse, Refusal> {
        if !self.enabled {
            return Err(refusals::AUTH_NOT_ENABLED);
        }
        let user = self.users.get(&request.name).ok_or(refusals::AUTH_FAILED)?;
        user.sign_in.check(&request.password)?;
        Ok(AuthenticateResponse { header: None, token: self.tokens.issue(&request.name, now) })
    }
}
