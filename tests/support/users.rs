//! Users and roles, by etcd's own messages, over whatever leads to the server.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Uri, uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use tenure::{
    Client, Connector, Io, Tcp,
    wire::{
        authpb::{Permission, permission},
        etcdserverpb as pb,
    },
};
use tenure_testkit::TestServer;
use tonic::{
    Request,
    client::Grpc,
    transport::{Channel, Endpoint},
};

/// The password of everybody.
pub(crate) const PASSWORD: &str = "pw";

/// A client that signs in as this user.
pub(crate) async fn connect(server: &TestServer, user: &str) -> Client {
    server.connect().user(user, PASSWORD).connect().await.unwrap()
}

/// Users root, who may do everything, and alice, who may do everything below `a/`; then nobody
/// else may do anything.
pub(crate) async fn enable_auth(server: &TestServer) {
    let admin = Admin::nobody(server).await;
    admin.add_user("root").await;
    admin.add_role("root").await;
    admin.grant_role("root", "root").await;
    admin.add_user("alice").await;
    admin.add_role("a").await;
    admin.permit("a", permission::Type::Readwrite, "a/", "a0").await;
    admin.grant_role("alice", "a").await;
    admin.call::<_, pb::AuthEnableResponse>("AuthEnable", pb::AuthEnableRequest {}).await;
}

/// Somebody who changes users and roles.
pub(crate) struct Admin {
    channel: Channel,
    token: Option<String>,
}

impl Admin {
    /// While auth is off, nobody needs to sign in.
    async fn nobody(server: &TestServer) -> Self {
        let endpoint = server.endpoints().into_iter().next();
        let dial: Arc<dyn Connector> = match (server.embedded(), &endpoint) {
            (Some(embedded), None) => Arc::new(embedded.connector()),
            _ => Arc::new(Tcp),
        };
        let url = endpoint.unwrap_or_else(|| "http://in-process:2379".to_owned());
        let endpoint = Endpoint::from_shared(url).unwrap();
        let channel = endpoint.connect_with_connector(Dial(dial)).await.unwrap();
        Self { channel, token: None }
    }

    /// Signs in as root, as `etcdctl` does for each of its calls.
    pub(crate) async fn root(server: &TestServer) -> Self {
        let nobody = Self::nobody(server).await;
        let root = pb::AuthenticateRequest { name: "root".into(), password: PASSWORD.into() };
        let answer: pb::AuthenticateResponse = nobody.call("Authenticate", root).await;
        Self { token: Some(answer.token), ..nobody }
    }

    pub(crate) async fn add_user(&self, name: &str) {
        let request = pb::AuthUserAddRequest {
            name: name.into(),
            password: PASSWORD.into(),
            ..Default::default()
        };
        self.call::<_, pb::AuthUserAddResponse>("UserAdd", request).await;
    }

    pub(crate) async fn delete_user(&self, name: &str) {
        let request = pb::AuthUserDeleteRequest { name: name.into() };
        self.call::<_, pb::AuthUserDeleteResponse>("UserDelete", request).await;
    }

    pub(crate) async fn add_role(&self, name: &str) {
        let request = pb::AuthRoleAddRequest { name: name.into() };
        self.call::<_, pb::AuthRoleAddResponse>("RoleAdd", request).await;
    }

    pub(crate) async fn grant_role(&self, user: &str, role: &str) {
        let request = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        self.call::<_, pb::AuthUserGrantRoleResponse>("UserGrantRole", request).await;
    }

    pub(crate) async fn permit_to_read(&self, role: &str, key: &'static str) {
        self.permit(role, permission::Type::Read, key, "").await;
    }

    pub(crate) async fn permit_all(&self, role: &str, key: &'static str, range_end: &'static str) {
        self.permit(role, permission::Type::Readwrite, key, range_end).await;
    }

    async fn permit(
        &self,
        role: &str,
        what: permission::Type,
        key: &'static str,
        range_end: &'static str,
    ) {
        let (key, range_end) = (key.into(), range_end.into());
        let perm = Some(Permission { perm_type: what.into(), key, range_end });
        let request = pb::AuthRoleGrantPermissionRequest { name: role.into(), perm };
        self.call::<_, pb::AuthRoleGrantPermissionResponse>("RoleGrantPermission", request).await;
    }

    pub(crate) async fn disable_auth(&self) {
        self.call::<_, pb::AuthDisableResponse>("AuthDisable", pb::AuthDisableRequest {}).await;
    }

    async fn call<Q, A>(&self, method: &str, request: Q) -> A
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let mut request = Request::new(request);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        let path = PathAndQuery::try_from(format!("/etcdserverpb.Auth/{method}")).unwrap();
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let answer = grpc.unary(request, path, codec).await;
        answer.unwrap_or_else(|status| panic!("{method}: {status}")).into_inner()
    }
}

/// Ours, as tonic wants it.
#[derive(Clone)]
struct Dial(Arc<dyn Connector>);

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.connect(uri.authority().map_or("", |authority| authority.as_str()));
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}
