//! Members, and signing in.

use super::{Transport, rpc::MEMBER_LIST};
use crate::{config::Credentials, error::Result, ops::CallOptions, wire::etcdserverpb as pb};

impl Transport {
    /// The client URLs of all members that take requests: started, and no learners.
    pub(crate) async fn serving_urls(&self) -> Result<Vec<String>> {
        let request = pb::MemberListRequest { linearizable: true };
        let answer = self.call(&MEMBER_LIST, request, &CallOptions::default()).await?;
        let serving = answer.members.into_iter().filter(|m| !m.name.is_empty() && !m.is_learner);
        Ok(serving.flat_map(|member| member.client_ur_ls).collect())
    }
}

impl From<&Credentials> for pb::AuthenticateRequest {
    fn from(credentials: &Credentials) -> Self {
        Self { name: credentials.user.clone(), password: credentials.password.clone() }
    }
}
