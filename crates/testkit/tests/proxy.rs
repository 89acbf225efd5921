//! The proxy before a plain TCP server that sends back what it gets.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tenure_testkit::{Direction, Proxy, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);
/// For what must not happen: longer than a loopback takes, however busy the machine.
const QUIET: Duration = Duration::from_millis(100);

/// Answers each byte with itself plus `add`.
async fn echo(add: u8) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    bytes[..length].iter_mut().for_each(|byte| *byte = byte.wrapping_add(add));
                    if stream.write_all(&bytes[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn dial(proxy: &Proxy) -> std::io::Result<TcpStream> {
    TcpStream::connect(proxy.endpoint().strip_prefix("http://").unwrap()).await
}

async fn link() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(&echo(0).await).await.unwrap();
    let client = dial(&proxy).await.unwrap();
    (proxy, client)
}

async fn ask(client: &mut TcpStream, text: &str) -> std::io::Result<String> {
    client.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    timeout(SOON, client.read_exact(&mut answer)).await??;
    Ok(String::from_utf8(answer).unwrap())
}

async fn is_silent(client: &mut TcpStream) -> bool {
    timeout(QUIET, client.read_u8()).await.is_err()
}

async fn is_reset(client: &mut TcpStream) -> bool {
    let read = timeout(SOON, client.read_u8()).await.expect("the connection to end");
    read.unwrap_err().kind() == ErrorKind::ConnectionReset
}

#[tokio::test]
async fn a_clean_link_carries_bytes_and_the_end_of_each_side() {
    let (proxy, mut client) = link().await;
    assert_eq!(ask(&mut client, "hello").await.unwrap(), "hello");
    assert_eq!((proxy.accepted(), proxy.connections()), (1, 1));
    assert_eq!((proxy.bytes_to_server(), proxy.bytes_to_client()), (5, 5));

    client.shutdown().await.unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    eventually(SOON, "no connection is left", async || proxy.connections() == 0).await;
}

#[tokio::test]
async fn much_data_comes_through_whole() {
    let (proxy, client) = link().await;
    let sent: Vec<u8> = (0..8_u32 << 20).map(|index| (index % 251) as u8).collect();
    let (mut from, mut to) = client.into_split();
    let wanted = sent.clone();
    let writer = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to
    });
    let mut got = vec![0; wanted.len()];
    from.read_exact(&mut got).await.unwrap();
    assert!(got == wanted);
    assert_eq!(proxy.bytes_to_client(), wanted.len() as u64);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn the_endpoint_has_the_scheme_of_the_target() {
    let target = echo(0).await;
    let proxy = Proxy::start(&format!("https://{target}")).await.unwrap();
    assert!(proxy.endpoint().starts_with("https://127.0.0.1:"));
}

#[tokio::test]
async fn refused_means_refused_and_only_for_new_connections() {
    let (proxy, mut client) = link().await;
    assert_eq!(ask(&mut client, "one").await.unwrap(), "one");
    for _ in 0..3 {
        proxy.refuse();
        assert_eq!(dial(&proxy).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ask(&mut client, "two").await.unwrap(), "two");
        proxy.pass();
        assert_eq!(ask(&mut dial(&proxy).await.unwrap(), "three").await.unwrap(), "three");
    }
}

#[tokio::test]
async fn a_black_hole_is_silent_and_what_it_swallowed_is_gone() {
    let (proxy, mut client) = link().await;
    assert_eq!(ask(&mut client, "one").await.unwrap(), "one");

    proxy.blackhole(Direction::Both);
    client.write_all(b"two").await.unwrap();
    let mut other = dial(&proxy).await.unwrap();
    other.write_all(b"three").await.unwrap();
    assert!(is_silent(&mut client).await);
    assert!(is_silent(&mut other).await);
    assert_eq!(proxy.bytes_to_server(), 3);

    proxy.pass();
    assert!(is_reset(&mut client).await);
    assert!(is_reset(&mut other).await);
    assert_eq!(ask(&mut dial(&proxy).await.unwrap(), "four").await.unwrap(), "four");
    assert_eq!(proxy.bytes_to_server(), 7);
}

#[tokio::test]
async fn a_connection_that_was_idle_in_the_black_hole_goes_on() {
    let (proxy, mut client) = link().await;
    assert_eq!(ask(&mut client, "one").await.unwrap(), "one");
    proxy.blackhole(Direction::Both);
    proxy.pass();
    assert_eq!(ask(&mut client, "two").await.unwrap(), "two");
}

#[tokio::test]
async fn a_black_hole_toward_the_client_lets_requests_through() {
    let (proxy, mut client) = link().await;
    proxy.blackhole(Direction::ToClient);
    client.write_all(b"one").await.unwrap();
    eventually(SOON, "the server gets the request", async || proxy.bytes_to_server() == 3).await;
    assert!(is_silent(&mut client).await);
    assert_eq!(proxy.bytes_to_client(), 0);
}

#[tokio::test]
async fn a_black_hole_toward_the_server_lets_answers_through() {
    let (proxy, mut client) = link().await;
    proxy.delay(QUIET);
    client.write_all(b"one").await.unwrap();
    eventually(SOON, "the server gets the request", async || proxy.bytes_to_server() == 3).await;
    proxy.blackhole(Direction::ToServer);
    let mut answer = [0; 3];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"one");
}

#[tokio::test]
async fn a_pause_holds_bytes_back_and_delivers_them() {
    let (proxy, mut client) = link().await;
    assert_eq!(ask(&mut client, "one").await.unwrap(), "one");
    proxy.pause();
    client.write_all(b"two").await.unwrap();
    let mut other = dial(&proxy).await.unwrap();
    other.write_all(b"three").await.unwrap();
    assert!(is_silent(&mut client).await);
    assert!(is_silent(&mut other).await);
    proxy.pass();
    let mut answer = [0; 3];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"two");
    let mut answer = [0; 5];
    other.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"three");
}

#[tokio::test]
async fn a_delay_is_paid_once_each_way_also_by_bytes_sent_meanwhile() {
    let (proxy, mut client) = link().await;
    proxy.delay(Duration::from_millis(200));
    let start = Instant::now();
    client.write_all(b"a").await.unwrap();
    eventually(SOON, "half of the delay is over", async || {
        start.elapsed() >= Duration::from_millis(100)
    })
    .await;
    client.write_all(b"b").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'a');
    let first = start.elapsed();
    assert_eq!(client.read_u8().await.unwrap(), b'b');
    let second = start.elapsed();
    assert!(first >= Duration::from_millis(400), "{first:?}");
    assert!(second >= Duration::from_millis(500), "{second:?}");
    assert!(second < Duration::from_millis(800), "{second:?}");
}

#[tokio::test]
async fn pass_ends_a_long_delay_at_once() {
    let (proxy, mut client) = link().await;
    proxy.delay(Duration::from_secs(3600));
    client.write_all(b"a").await.unwrap();
    assert!(is_silent(&mut client).await);
    proxy.pass();
    assert_eq!(timeout(SOON, client.read_u8()).await.unwrap().unwrap(), b'a');
}

#[tokio::test]
async fn a_rate_is_kept_over_all_connections() {
    let (proxy, mut client) = link().await;
    let mut other = dial(&proxy).await.unwrap();
    proxy.rate(100_000);
    let start = Instant::now();
    let text = "x".repeat(20_000);
    let (one, two) = tokio::join!(ask(&mut client, &text), ask(&mut other, &text));
    assert_eq!((one.unwrap().len(), two.unwrap().len()), (20_000, 20_000));
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_reset_ends_what_is_open_and_nothing_else() {
    let (proxy, mut client) = link().await;
    assert_eq!(ask(&mut client, "one").await.unwrap(), "one");
    proxy.reset();
    assert_eq!(proxy.connections(), 0);
    assert!(is_reset(&mut client).await);
    assert_eq!(ask(&mut dial(&proxy).await.unwrap(), "two").await.unwrap(), "two");
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes() {
    let (proxy, mut client) = link().await;
    proxy.cut_after(7);
    assert_eq!(ask(&mut client, "four").await.unwrap(), "four");
    client.write_all(b"five").await.unwrap();
    let mut rest = [0; 3];
    client.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"fiv");
    assert!(is_reset(&mut client).await);
    assert_eq!(proxy.bytes_to_client(), 7);
    assert_eq!(ask(&mut dial(&proxy).await.unwrap(), "seven and more").await.unwrap().len(), 14);
}

#[tokio::test]
async fn a_server_that_is_not_there_resets_the_client() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start(&port.to_string()).await.unwrap();
    assert!(is_reset(&mut dial(&proxy).await.unwrap()).await);
}

#[tokio::test]
async fn a_new_target_is_for_new_connections() {
    let (proxy, mut client) = link().await;
    assert_eq!(ask(&mut client, "abc").await.unwrap(), "abc");
    proxy.retarget(&format!("http://{}", echo(1).await));
    assert_eq!(ask(&mut client, "abc").await.unwrap(), "abc");
    assert_eq!(ask(&mut dial(&proxy).await.unwrap(), "abc").await.unwrap(), "bcd");
}

#[tokio::test]
async fn a_dropped_proxy_resets_and_refuses() {
    let (proxy, mut client) = link().await;
    let address = proxy.endpoint().strip_prefix("http://").unwrap().to_owned();
    assert_eq!(ask(&mut client, "one").await.unwrap(), "one");
    drop(proxy);
    assert!(is_reset(&mut client).await);
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
#[should_panic(expected = "not within 20ms: a state that never comes")]
async fn eventually_names_what_did_not_come() {
    eventually(Duration::from_millis(20), "a state that never comes", async || false).await;
}

#[tokio::test]
#[should_panic(expected = "not within 20ms: an answer")]
async fn eventually_gives_up_a_probe_that_hangs() {
    eventually(Duration::from_millis(20), "an answer", async || {
        std::future::pending::<bool>().await
    })
    .await;
}
