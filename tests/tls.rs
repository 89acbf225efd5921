//! TLS to the servers, with their certificates and the client's.
#![cfg(feature = "tls")]

use std::{fs, future::IntoFuture, time::Duration};

use tenure::{Client, Error, ErrorKind, Tls};
use tenure_testkit::{Cluster, EtcdBinary, Proxy, TestCerts, on_each_etcd};
use tokio::{net::TcpListener, time::timeout};

/// Long for what takes milliseconds: only shows that it ends.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(1);

fn certs() -> TestCerts {
    TestCerts::new("client").unwrap()
}

async fn start(etcd: &EtcdBinary, certs: &TestCerts, client_certs: bool) -> Cluster {
    Cluster::builder(etcd).fast(true).tls(certs.tls(client_certs)).start().await.unwrap()
}

async fn connect(endpoint: impl Into<String>, tls: Tls) -> Client {
    Client::builder([endpoint]).tls(tls).connect().await.unwrap()
}

async fn serves(client: &Client) {
    client.put("key", "value").await.unwrap();
    assert_eq!(client.get("key").await.unwrap().kv().unwrap().value, "value");
}

/// The error of a call that cannot connect: it surely did nothing.
async fn refused(client: &Client) -> Error {
    let error = client.get("key").timeout(SHORT).await.unwrap_err();
    let write = client.put("key", "value").timeout(SHORT).await.unwrap_err();
    assert_eq!(write.kind(), ErrorKind::Unavailable, "{write:?}");
    assert!(!write.may_have_been_applied(), "{write:?}");
    error
}

fn port(cluster: &Cluster) -> String {
    let endpoint = cluster.endpoints().remove(0);
    endpoint.rsplit(':').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_by_address_and_by_name() {
    on_each_etcd(async |etcd| {
        let certs = certs();
        let cluster = start(&etcd, &certs, false).await;
        let port = port(&cluster);
        for endpoint in [
            format!("https://127.0.0.1:{port}"),
            format!("https://localhost:{port}"),
            // Without a scheme it is the one that fits the TLS setting.
            format!("localhost:{port}"),
        ] {
            serves(&connect(endpoint, Tls::new().ca_pem(certs.ca())).await).await;
        }
    })
    .await;
}

#[tokio::test]
async fn certificates_come_from_memory_or_from_files() {
    on_each_etcd(async |etcd| {
        let certs = certs();
        let cluster = start(&etcd, &certs, true).await;
        let endpoint = &cluster.endpoints()[0];
        let bytes =
            Tls::new().ca_pem(certs.ca()).identity_pem(certs.client_cert(), certs.client_key());
        serves(&connect(endpoint, bytes).await).await;
        let files = Tls::new().ca_file(certs.ca_path()).unwrap();
        let files =
            files.identity_files(certs.client_cert_path(), certs.client_key_path()).unwrap();
        serves(&connect(endpoint, files).await).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_without_the_certificate_that_is_asked_for_is_told() {
    on_each_etcd(async |etcd| {
        let certs = certs();
        let cluster = start(&etcd, &certs, true).await;
        let client = connect(&cluster.endpoints()[0], Tls::new().ca_pem(certs.ca())).await;
        let error = client.get("key").timeout(SHORT).await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
        assert_eq!(error.endpoint(), Some(&cluster.endpoints()[0][..]));
    })
    .await;
}

#[tokio::test]
async fn a_client_certificate_of_a_stranger_is_told() {
    on_each_etcd(async |etcd| {
        let (certs, strange) = (certs(), certs());
        let cluster = start(&etcd, &certs, true).await;
        let tls =
            Tls::new().ca_pem(certs.ca()).identity_pem(strange.client_cert(), strange.client_key());
        let client = connect(&cluster.endpoints()[0], tls).await;
        let error = client.get("key").timeout(SHORT).await.unwrap_err();
        let text = error.to_string().to_lowercase();
        assert!(text.contains("certificate") || text.contains("unknown"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_told() {
    on_each_etcd(async |etcd| {
        let (certs, strange) = (certs(), certs());
        let cluster = start(&etcd, &certs, false).await;
        for tls in [Tls::new().ca_pem(strange.ca()), Tls::new()] {
            let error = refused(&connect(&cluster.endpoints()[0], tls).await).await;
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            assert!(error.to_string().contains("certificate"), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_with_another_name_is_told_and_the_name_can_be_given() {
    on_each_etcd(async |etcd| {
        let certs = certs();
        let cluster = start(&etcd, &certs, false).await;
        let tls = || Tls::new().ca_pem(certs.ca());
        let other = connect(&cluster.endpoints()[0], tls().server_name("etcd.example")).await;
        let error = refused(&other).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains("not valid for name"), "{error}");
        serves(&connect(&cluster.endpoints()[0], tls().server_name("localhost")).await).await;
    })
    .await;
}

#[tokio::test]
async fn calls_move_on_from_a_member_whose_certificate_is_not_trusted() {
    on_each_etcd(async |etcd| {
        let (certs, strange) = (certs(), certs());
        let trusted = start(&etcd, &certs, false).await;
        let stranger = start(&etcd, &strange, false).await;
        let endpoints = [stranger.endpoints(), trusted.endpoints()].concat();
        let tls = Tls::new().ca_pem(certs.ca());
        let client = Client::builder(endpoints).tls(tls).connect().await.unwrap();
        for _ in 0..20 {
            serves(&client).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_is_not_answered_sends_no_write() {
    on_each_etcd(async |etcd| {
        let certs = certs();
        let cluster = start(&etcd, &certs, false).await;
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("https://{}", silent.local_addr().unwrap());
        let client = Client::builder([silent, cluster.endpoints()[0].clone()])
            .tls(Tls::new().ca_pem(certs.ca()))
            .connect_timeout(Duration::from_millis(300))
            .connect()
            .await
            .unwrap();
        client.put("key", "value").await.unwrap();
        assert_eq!(client.get("key").await.unwrap().kv().unwrap().version, 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_with_tls_is_made_again_after_a_reset() {
    on_each_etcd(async |etcd| {
        let certs = certs();
        let cluster = start(&etcd, &certs, true).await;
        let proxy = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        let tls =
            Tls::new().ca_pem(certs.ca()).identity_pem(certs.client_cert(), certs.client_key());
        let client = connect(proxy.endpoint(), tls).await;
        for _ in 0..5 {
            client.get("key").await.unwrap();
            proxy.reset();
        }
        assert!(proxy.accepted() >= 5);
    })
    .await;
}

#[tokio::test]
async fn speaking_plainly_to_a_server_with_tls_ends_in_an_error() {
    on_each_etcd(async |etcd| {
        let certs = certs();
        let cluster = start(&etcd, &certs, false).await;
        let plain = cluster.endpoints()[0].replace("https", "http");
        let client = Client::connect([plain]).await.unwrap();
        let get = timeout(PATIENCE, client.get("key").timeout(SHORT).into_future()).await;
        let error = get.expect("it ends").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn https_without_tls_is_refused_before_anything_is_sent() {
    let error = Client::connect(["https://127.0.0.1:2379"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn files_and_pem_that_are_none_are_refused_by_name() {
    let certs = certs();
    let missing = certs.dir().join("missing.pem");
    let error = Tls::new().ca_file(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("missing.pem"), "{error}");
    let error = Tls::new().identity_files(certs.client_cert_path(), &missing).unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");

    let rubbish = certs.dir().join("rubbish.pem");
    fs::write(&rubbish, "rubbish").unwrap();
    for tls in [
        Tls::new().ca_file(&rubbish).unwrap(),
        Tls::new().ca_pem(certs.ca()).identity_pem("rubbish", certs.client_key()),
        Tls::new().ca_pem(certs.ca()).identity_pem(certs.client_cert(), "rubbish"),
        Tls::new().ca_pem(certs.ca()).identity_pem(certs.client_cert(), certs.server_key()),
    ] {
        let connected = Client::builder(["127.0.0.1:1"]).tls(tls.clone()).connect().await;
        let error = connected.expect_err(&format!("{tls:?}"));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
    assert!(!format!("{:?}", Tls::new().identity_pem("x", certs.client_key())).contains("KEY"));
}
