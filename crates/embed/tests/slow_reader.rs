//! A client that asks for much and reads nothing costs no memory.

use std::{fs, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tenure::{
    Connector,
    wire::etcdserverpb::{WatchCreateRequest, WatchRequest, watch_request::RequestUnion},
};
use tenure_embed::Embedded;
use tokio::{task::yield_now, time::timeout};

const MIB: usize = 1 << 20;
const WATCHES: usize = 100;
const SOON: Duration = Duration::from_secs(60);

/// Memory of this process that is in use.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A message as gRPC puts it on a stream.
fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

#[tokio::test]
async fn watches_that_nobody_reads_do_not_hold_what_happened() {
    let server = Embedded::builder().in_process().start().await.unwrap();
    let pipe = server.connector().connect("").await.unwrap();
    let (mut http, connection) = h2::client::handshake(pipe).await.unwrap();
    tokio::spawn(connection);
    let call = http::Request::post("http://embedded/etcdserverpb.Watch/Watch")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (answer, mut requests) = http.send_request(call, false).unwrap();
    let create = WatchCreateRequest { key: "k".into(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    for _ in 0..WATCHES {
        requests.send_data(framed(&create), false).unwrap();
    }
    // Never read: its window stays as full as it gets.
    let body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    until(SOON, || server.watches() == WATCHES).await;

    let client = server.client().await.unwrap();
    let value = vec![b'x'; 10 * 1024];
    let before = resident();
    for round in 0..2_000 {
        let put = client.put("k", value.clone()).await.unwrap();
        if round % 100 == 0 {
            client.compact(put.header.revision).await.unwrap();
        }
    }
    // 2 GB, were all of it kept for each.
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * MIB, "grew by {} MiB", grown / MIB);
    drop((requests, body));
    until(SOON, || server.watches() == 0).await;
}

/// Waits for a state. (The testkit, which has this, builds on this crate.)
async fn until(within: Duration, is_so: impl Fn() -> bool) {
    let waited = timeout(within, async {
        while !is_so() {
            yield_now().await;
        }
    });
    waited.await.expect("it comes about in time");
}
