//! Users and passwords: tokens that expire, an auth store that changes under a running client, and
//! wrong passwords; in each case one sign-in for everybody, and no more.

use std::time::Duration;

use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use tenure::{
    Client, Compare, Error, ErrorKind, EtcdError, Get, KeyRange, LeaseState, Op, Put, Result,
    WatchStream,
};
use tenure_testkit::{
    Call, EtcdBinary, Proxy, Server, TestCerts, TestServer, eventually, on_each_etcd,
    on_each_listener, on_each_server,
};
use tokio::time::timeout;

#[path = "support/start.rs"]
mod start;
#[path = "support/users.rs"]
mod users;
use start::{MINUTE, SOON, start_with};
use users::{Admin, PASSWORD, connect, enable_auth};

const CALLERS: usize = 32;

/// A server whose tokens live for 2 s after their last use, and which logs their end.
async fn short_tokens(server: &Server) -> TestServer {
    let flags = ["--bcrypt-cost=4", "--auth-token-ttl=2", "--log-level=info"];
    start_with(server, &flags).await.0
}

/// A server whose tokens say for which revision of the auth store they were made, and are refused
/// after each change of it.
async fn strict_tokens(etcd: EtcdBinary) -> (TestServer, TestCerts) {
    let files = TestCerts::new("nobody").unwrap();
    let secret = files.client_key_path();
    let jwt = format!("--auth-token=jwt,priv-key={},sign-method=HS256,ttl=1h", secret.display());
    let (server, _) = start_with(&Server::Etcd(etcd), &["--bcrypt-cost=4", &jwt]).await;
    (server, files)
}

/// How often anybody signed in, or tried to.
async fn sign_ins(server: &TestServer) -> u64 {
    server.calls(Call::Authenticate).await
}

/// Waits until every token that was ever given is dead.
async fn tokens_expire(server: &TestServer) {
    let expired = "all tokens expire";
    if let Some(embedded) = server.embedded() {
        return eventually(SOON, expired, async || embedded.tokens() == 0).await;
    }
    let member = server.cluster().expect("it is an etcd").member(0);
    let labels = r#"grpc_code="OK",grpc_method="Authenticate",grpc_service="etcdserverpb.Auth""#;
    let metric = format!("grpc_server_handled_total{{{labels},grpc_type=\"unary\"}}");
    let given = member.metric(&metric).await.expect("it counts them") as usize;
    eventually(SOON, expired, async || {
        member.log().matches("deleted a simple token").count() >= given
    })
    .await;
}

/// Calls of all kinds, from many tasks at once.
async fn many_calls(client: &Client) -> Vec<Result<()>> {
    let calls = (0..CALLERS).map(|n| {
        let (client, key) = (client.clone(), format!("a/{n}"));
        let call: BoxFuture<'static, Result<()>> = match n % 5 {
            0 => client.get(key).into_future().map(|it| it.map(drop)).boxed(),
            1 => client.put(key, "v").into_future().map(|it| it.map(drop)).boxed(),
            2 => client.delete(key).into_future().map(|it| it.map(drop)).boxed(),
            3 => {
                let txn = client.txn().when([Compare::missing(key.clone())]);
                txn.and_then([Put::new(key, "v")]).into_future().map(|it| it.map(drop)).boxed()
            }
            _ => client.count(key).into_future().map(|it| it.map(drop)).boxed(),
        };
        tokio::spawn(call)
    });
    let mut results = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        results.push(timeout(SOON, call).await.expect("no call hangs").unwrap());
    }
    results
}

/// None of many calls fails, and all of them together sign in once.
async fn one_refresh_serves_all(server: &TestServer, client: &Client) {
    let before = sign_ins(server).await;
    for result in many_calls(client).await {
        result.unwrap();
    }
    assert_eq!(sign_ins(server).await - before, 1);
    // And it serves what comes later.
    for result in many_calls(client).await {
        result.unwrap();
    }
    assert_eq!(sign_ins(server).await - before, 1);
}

async fn next(watch: &mut WatchStream) -> Result<Vec<String>> {
    let change = timeout(SOON, watch.try_next()).await.expect("a watch tells in time")?;
    let events = change.expect("a watch ends with its reason").into_events();
    Ok(events.iter().map(|event| String::from_utf8_lossy(&event.kv.key).into_owned()).collect())
}

#[track_caller]
fn denied(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(error.etcd_error(), Some(EtcdError::PermissionDenied), "{error}");
}

#[tokio::test]
async fn a_wrong_user_or_password_is_told_at_once_and_asked_once() {
    on_each_server(async |server| {
        let server = short_tokens(&server).await;
        enable_auth(&server).await;
        for (user, password) in [("root", "wrong"), ("nobody", "pw"), ("alice", "PW")] {
            let before = sign_ins(&server).await;
            let connecting = server.connect().user(user, password).connect();
            let error = timeout(Duration::from_secs(5), connecting).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert_eq!(error.etcd_error(), Some(EtcdError::AuthFailed));
            assert!(!error.is_retryable() && !error.to_string().contains(password), "{error}");
            assert_eq!(sign_ins(&server).await - before, 1);
        }
        // Without a user nothing works, and nobody signs in for it.
        let before = sign_ins(&server).await;
        let anonymous = server.client().await.unwrap();
        for result in many_calls(&anonymous).await {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert_eq!(error.etcd_error(), Some(EtcdError::UserEmpty));
            assert!(!error.may_have_been_applied());
        }
        let watch = timeout(SOON, anonymous.watch("k").into_future()).await.unwrap().unwrap_err();
        // 3.5.1 does not tell the two apart for a watch.
        let kinds = [ErrorKind::Unauthenticated, ErrorKind::PermissionDenied];
        assert!(kinds.contains(&watch.kind()), "{watch}");
        assert_eq!(sign_ins(&server).await, before);

        let root = connect(&server, "root").await;
        root.put("k", "v").await.unwrap();
        assert_eq!(root.count(KeyRange::all()).await.unwrap().count, 1);
    })
    .await;
}

#[tokio::test]
async fn a_password_works_while_auth_is_off_and_when_it_is_enabled_later_and_disabled_again() {
    on_each_server(async |server| {
        let server = short_tokens(&server).await;
        let client = connect(&server, "root").await;
        client.put("k", "v").await.unwrap();
        let mut watch = client.watch(KeyRange::prefix("k")).await.unwrap();
        let lease = client.lease_grant(MINUTE).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();

        enable_auth(&server).await;
        one_refresh_serves_all(&server, &client).await;
        client.put("k1", "v").await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap(), ["k1"]);
        let mut late = client.watch("k2").await.unwrap();

        Admin::root(&server).await.disable_auth().await;
        for result in many_calls(&client).await {
            result.unwrap();
        }
        client.put("k2", "v").await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap(), ["k2"]);
        assert_eq!(next(&mut late).await.unwrap(), ["k2"]);
        assert_eq!(kept.state(), LeaseState::Healthy);
    })
    .await;
}

#[tokio::test]
async fn an_expired_token_is_refreshed_once_for_all_callers() {
    on_each_server(async |server| {
        let server = short_tokens(&server).await;
        enable_auth(&server).await;
        let client = connect(&server, "alice").await;
        client.put("a/k", "v").await.unwrap();
        tokens_expire(&server).await;
        one_refresh_serves_all(&server, &client).await;
        // Leases too, which are open to all users.
        tokens_expire(&server).await;
        let lease = client.lease_grant(MINUTE).await.unwrap();
        client.put("a/leased", "v").lease(lease.id).await.unwrap();
        tokens_expire(&server).await;
        client.lease_time_to_live(lease.id).keys().await.unwrap();
        tokens_expire(&server).await;
        client.lease_revoke(lease.id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_change_of_the_auth_store_is_met_with_one_refresh_for_all_callers() {
    on_each_etcd(async |etcd| {
        let (server, _files) = strict_tokens(etcd).await;
        enable_auth(&server).await;
        let client = connect(&server, "alice").await;
        client.put("a/k", "v").await.unwrap();
        for role in ["one", "two", "three"] {
            Admin::root(&server).await.add_role(role).await;
            one_refresh_serves_all(&server, &client).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_call_fails_while_the_auth_store_changes_all_the_time() {
    on_each_etcd(async |etcd| {
        let (server, _files) = strict_tokens(etcd).await;
        enable_auth(&server).await;
        let client = connect(&server, "alice").await;
        let changing = async {
            for n in 0..8 {
                Admin::root(&server).await.add_role(&format!("role{n}")).await;
            }
        };
        let mut changing = std::pin::pin!(changing);
        let mut rounds = 0;
        while changing.as_mut().now_or_never().is_none() {
            for result in many_calls(&client).await {
                result.unwrap();
            }
            rounds += 1;
        }
        assert!(rounds > 1, "the store did not change under the calls");
    })
    .await;
}

#[tokio::test]
async fn callers_whose_password_is_no_longer_right_ask_once() {
    on_each_server(async |server| {
        let server = short_tokens(&server).await;
        enable_auth(&server).await;
        let client = connect(&server, "alice").await;
        client.put("a/k", "v").await.unwrap();
        Admin::root(&server).await.delete_user("alice").await;
        let before = sign_ins(&server).await;
        for result in many_calls(&client).await {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert!(!error.may_have_been_applied() && !error.is_retryable(), "{error}");
        }
        // The answer holds for a second; on a slow machine the calls may take longer than that.
        let asked = sign_ins(&server).await - before;
        assert!((1..=3).contains(&asked), "asked {asked} times");

        // Once she is back, the same client works again.
        let admin = Admin::root(&server).await;
        admin.add_user("alice").await;
        admin.grant_role("alice", "a").await;
        eventually(SOON, "alice is served", async || client.put("a/k", "w").await.is_ok()).await;
    })
    .await;
}

#[tokio::test]
async fn a_watch_and_a_keep_alive_live_on_while_their_token_dies() {
    on_each_server(async |server| {
        let server = short_tokens(&server).await;
        enable_auth(&server).await;
        let (root, client) = (connect(&server, "root").await, connect(&server, "alice").await);
        let mut old = client.watch(KeyRange::prefix("a/")).await.unwrap();
        // Renewed every 5 s: where renewals use a token, as in later versions of 3.5, it dies
        // between them.
        let lease = client.lease_grant(Duration::from_secs(15)).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        tokens_expire(&server).await;
        root.put("a/1", "").await.unwrap();
        assert_eq!(next(&mut old).await.unwrap(), ["a/1"]);

        // A new watch needs a new token; it joins the old one without harm.
        tokens_expire(&server).await;
        let before = sign_ins(&server).await;
        let mut new = client.watch("a/2").await.unwrap();
        assert_eq!(sign_ins(&server).await - before, 1);
        root.put("a/2", "").await.unwrap();
        assert_eq!(next(&mut old).await.unwrap(), ["a/2"]);
        assert_eq!(next(&mut new).await.unwrap(), ["a/2"]);
        // So does a lease.
        let deadline = kept.deadline();
        eventually(SOON, "it is renewed", async || kept.deadline() > deadline).await;
        assert_eq!(kept.state(), LeaseState::Healthy);
        let once = client.lease_keep_alive_once(lease.id).await.unwrap();
        assert_eq!(once, lease.ttl);
    })
    .await;
}

#[tokio::test]
async fn the_first_watch_of_a_client_whose_token_died_is_accepted() {
    on_each_server(async |server| {
        let server = short_tokens(&server).await;
        enable_auth(&server).await;
        let client = connect(&server, "alice").await;
        tokens_expire(&server).await;
        let before = sign_ins(&server).await;
        let mut watch = client.watch("a/k").await.unwrap();
        assert_eq!(sign_ins(&server).await - before, 1);
        client.put("a/k", "v").await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap(), ["a/k"]);
    })
    .await;
}

#[tokio::test]
async fn a_watch_whose_connection_broke_after_its_token_died_is_resumed() {
    on_each_listener(async |server| {
        let server = short_tokens(&server).await;
        enable_auth(&server).await;
        let proxy = Proxy::start(&server.endpoint()).await.unwrap();
        let builder = Client::builder([proxy.endpoint()]).user("alice", PASSWORD);
        let client = builder.connect().await.unwrap();
        let mut watch = client.watch(KeyRange::prefix("a/")).await.unwrap();
        let lease = client.lease_grant(MINUTE).await.unwrap();
        let kept = client.lease_keep_alive(&lease).await.unwrap();
        tokens_expire(&server).await;
        proxy.reset();
        let root = connect(&server, "root").await;
        root.put("a/1", "").await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap(), ["a/1"]);
        assert_eq!(client.lease_keep_alive_once(lease.id).await.unwrap(), MINUTE);
        assert_eq!(kept.state(), LeaseState::Healthy);
    })
    .await;
}

#[tokio::test]
async fn a_watch_after_a_change_of_the_auth_store_is_accepted() {
    on_each_etcd(async |etcd| {
        let (server, _files) = strict_tokens(etcd).await;
        enable_auth(&server).await;
        let client = connect(&server, "alice").await;
        let mut old = client.watch("a/old").await.unwrap();
        Admin::root(&server).await.add_role("other").await;
        let mut new = client.watch("a/new").await.unwrap();
        client.txn().and_then(["a/old", "a/new"].map(|key| Put::new(key, ""))).await.unwrap();
        assert_eq!(next(&mut old).await.unwrap(), ["a/old"]);
        assert_eq!(next(&mut new).await.unwrap(), ["a/new"]);
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_is_denied_ends_so_and_leaves_its_siblings_alone() {
    on_each_server(async |server| {
        let server = short_tokens(&server).await;
        enable_auth(&server).await;
        let client = connect(&server, "alice").await;
        let mut siblings = [
            client.watch("a/k").await.unwrap(),
            client.watch(KeyRange::prefix("a/")).await.unwrap(),
        ];
        let before = sign_ins(&server).await;
        let forbidden = [KeyRange::key("b"), KeyRange::all(), KeyRange::prefix("b/")];
        for range in forbidden.clone() {
            let refused = timeout(SOON, client.watch(range).into_future()).await.unwrap();
            denied(&refused.unwrap_err());
            client.put("a/k", "v").await.unwrap();
            for watch in &mut siblings {
                assert_eq!(next(watch).await.unwrap(), ["a/k"]);
            }
        }
        let asked = sign_ins(&server).await - before;
        // Each may have been a dead token; nobody can tell before trying a fresh one.
        assert!(asked <= 2 * forbidden.len() as u64, "asked {asked} times");

        // Also with a token that is dead indeed.
        tokens_expire(&server).await;
        let (refused, accepted) = tokio::join!(
            timeout(SOON, client.watch("b").into_future()),
            timeout(SOON, client.watch("a/late").into_future()),
        );
        denied(&refused.unwrap().unwrap_err());
        let mut accepted = accepted.unwrap().unwrap();
        client.put("a/late", "v").await.unwrap();
        assert_eq!(next(&mut accepted).await.unwrap(), ["a/late"]);
        assert_eq!(next(&mut siblings[1]).await.unwrap(), ["a/late"]);
    })
    .await;
}

#[tokio::test]
async fn what_a_user_may_not_do_is_denied_wherever_it_is_hidden() {
    on_each_server(async |server| {
        let server = short_tokens(&server).await;
        enable_auth(&server).await;
        let root = connect(&server, "root").await;
        let start = root.put("b", "v").await.unwrap().header.revision;
        let client = connect(&server, "alice").await;
        let before = sign_ins(&server).await;
        let (get, put): (Op, Op) = (Get::new("b").into(), Put::new("b", "w").into());
        let mine = || Op::from(Put::new("a/k", "v"));
        for error in [
            client.get("b").await.map(drop).unwrap_err(),
            client.get(KeyRange::all()).await.map(drop).unwrap_err(),
            client.put("b", "w").await.map(drop).unwrap_err(),
            client.delete(KeyRange::span("a/", "c")).await.map(drop).unwrap_err(),
            client.txn().and_then([mine(), put.clone()]).await.map(drop).unwrap_err(),
            client.txn().and_then([mine(), get]).await.map(drop).unwrap_err(),
            client.txn().or_else([put]).await.map(drop).unwrap_err(),
            client.txn().when([Compare::exists("b")]).await.map(drop).unwrap_err(),
        ] {
            denied(&error);
            assert!(!error.may_have_been_applied() && !error.is_retryable(), "{error}");
        }
        assert_eq!(sign_ins(&server).await, before, "a denial is no reason to sign in");
        // Changes of the auth store were none of the keys'.
        assert_eq!(root.get("b").await.unwrap().header.revision, start);
        Admin::root(&server).await.permit_to_read("a", "b").await;
        assert_eq!(client.get("b").await.unwrap().kv().unwrap().value, "v");
    })
    .await;
}
