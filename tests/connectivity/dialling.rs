//! How a client gets its connections, and what it says when it gets none.

use std::{
    future::IntoFuture,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tenure::{Client, Connector, ErrorKind, Io};
use tenure_testkit::{Cluster, Proxy, on_each_etcd};
use tokio::{
    io::{copy_bidirectional, duplex},
    net::TcpStream,
    time::timeout,
};

use crate::{PATIENCE, connect, start, three, unanswered::Unanswered};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn connecting_sends_nothing_and_calls_to_nowhere_end_at_their_timeout() {
    let nowhere = Unanswered::start().await;
    let connected = timeout(PATIENCE, Client::connect([nowhere.endpoint()])).await;
    let client = connected.expect("at once").unwrap();
    for _ in 0..3 {
        let get = timeout(PATIENCE, client.get("a").timeout(SHORT).into_future());
        let error = get.await.expect("it ends").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert_eq!(error.endpoint(), Some(&nowhere.endpoint()[..]));
        assert!(error.to_string().contains("no connection"), "{error}");
    }
}

#[tokio::test]
async fn closing_ends_a_call_that_waits_for_a_connection() {
    let nowhere = Unanswered::start().await;
    let client = connect([nowhere.endpoint()]).await;
    let get = tokio::spawn(client.get("a").into_future());
    let put = tokio::spawn(client.put("a", "1").into_future());
    tokio::task::yield_now().await;
    client.close().await;
    let get = timeout(PATIENCE, get).await.expect("it ends").unwrap().unwrap_err();
    let put = timeout(PATIENCE, put).await.expect("it ends").unwrap().unwrap_err();
    assert_eq!([get.kind(), put.kind()], [ErrorKind::Closed, ErrorKind::Closed]);
}

#[tokio::test]
async fn a_refused_connection_is_told_with_the_endpoint_and_the_cause() {
    let nowhere = Proxy::start("127.0.0.1:1").await.unwrap();
    nowhere.refuse();
    let client = connect([nowhere.endpoint()]).await;
    for _ in 0..2 {
        let error = client.get("a").timeout(SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert_eq!(error.endpoint(), Some(&nowhere.endpoint()[..]));
        let text = error.to_string();
        assert!(text.contains(&nowhere.endpoint()) && text.contains("refused"), "{text}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told() {
    let client = connect(["http://nobody.invalid:2379"]).await;
    let error = client.put("a", "1").timeout(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("nobody.invalid"), "{error}");
}

#[tokio::test]
async fn a_frozen_member_is_told_with_its_endpoint() {
    on_each_etcd(async |etcd| {
        let cluster = start(Cluster::builder(&etcd)).await;
        let client = connect(cluster.endpoints()).await;
        client.get("a").await.unwrap();
        cluster.pause(0).unwrap();
        let error = client.get("a").timeout(SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert_eq!(error.endpoint(), Some(&cluster.endpoints()[0][..]));
        assert!(error.to_string().contains("no answer"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn any_one_endpoint_serves_as_the_only_one() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        for endpoint in cluster.endpoints() {
            connect([endpoint]).await.put("a", "1").await.unwrap();
        }
    })
    .await;
}

/// Carries each connection through a pipe inside the process.
struct Pipes {
    made: Arc<AtomicUsize>,
}

impl Connector for Pipes {
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let authority = authority.to_owned();
        self.made.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let mut stream = TcpStream::connect(authority).await?;
            let (ours, mut theirs) = duplex(4096);
            tokio::spawn(async move { copy_bidirectional(&mut theirs, &mut stream).await });
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

#[tokio::test]
async fn connections_come_from_the_connector_that_was_given() {
    on_each_etcd(async |etcd| {
        let cluster = three(&etcd).await;
        let made = Arc::new(AtomicUsize::new(0));
        let pipes = Pipes { made: Arc::clone(&made) };
        let client = Client::builder(cluster.endpoints()).connector(pipes).connect().await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 0, "nothing before the first call");
        let value = "x".repeat(1_000_000);
        client.put("a", value.clone()).await.unwrap();
        for _ in 0..6 {
            assert_eq!(client.get("a").await.unwrap().kv().unwrap().value, value);
        }
        assert_eq!(made.load(Ordering::Relaxed), 3, "one for each member");
        cluster.kill(0).unwrap();
        cluster.leader().await.unwrap();
        for _ in 0..6 {
            client.get("a").await.unwrap();
        }
    })
    .await;
}
