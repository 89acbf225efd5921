//! Transactions that the embedded server has seen, and sees once more. It wants `support/start.rs`
//! as `start`.

use bytes::{BufMut, BytesMut};
use tenure::Connector;
use tenure_testkit::{
    Call, Embedded,
    embed::{Recorded, Tap},
};
use tokio::time::timeout;

use crate::start::SOON;

/// The transactions that were recorded.
pub(crate) fn txns(tap: &Tap) -> Vec<Recorded> {
    tap.take().into_iter().filter(|call| call.path == Call::Txn.path()).collect()
}

/// Makes a call once more, byte for byte: a copy that was under way all the time.
pub(crate) async fn comes_late(server: &Embedded, call: &Recorded) {
    let pipe = server.connector().connect("").await.unwrap();
    let (mut http, connection) = h2::client::handshake(pipe).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://embedded{}", call.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut body) = http.send_request(request, false).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(call.request.len().try_into().unwrap());
    frame.put_slice(&call.request);
    body.send_data(frame.freeze(), true).unwrap();
    // It says whether the transaction could be done at all, and that is looked at in the store.
    timeout(SOON, answer).await.expect("it is answered").unwrap();
    connection.abort();
}
