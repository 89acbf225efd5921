use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::rules::{Rules, Way, open_again, released};
use super::shared::Shared;

const CHUNK: usize = 16 * 1024;
/// What may be under way on a link with a delay: 64 chunks, 1 MiB.
const CHUNKS: usize = 64;

enum Seen {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// Carries one connection until both sides ended, or one of them broke off.
pub(crate) async fn carry(shared: Arc<Shared>, mut client: Socket) -> io::Result<()> {
    let mut rules = shared.rules.subscribe();
    if !released(&mut rules, Way::ToServer, Instant::now()).await {
        // Dialled into a black hole: the dialler hears nothing until the link is open again.
        open_again(&mut rules, Way::ToServer).await;
        return Err(ErrorKind::ConnectionReset.into());
    }
    let mut server = Socket::new(TcpStream::connect(shared.target()).await?);
    let (from_client, to_client) = client.stream.split();
    let (from_server, to_server) = server.stream.split();
    tokio::try_join!(
        pump(&shared, Way::ToServer, from_client, to_server),
        pump(&shared, Way::ToClient, from_server, to_client),
    )?;
    client.ended_well = true;
    server.ended_well = true;
    Ok(())
}

/// Keeps a client without a word until it goes: reset, it would dial again at once, for ever.
pub(crate) async fn tar_pit(mut client: Socket) -> io::Result<()> {
    let mut bytes = [0; 1024];
    while client.stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

async fn pump(shared: &Shared, way: Way, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
    let (read, under_way) = mpsc::channel(CHUNKS);
    tokio::try_join!(take(from, read), deliver(shared, way, under_way, to)).map(|_| ())
}

async fn take(mut from: ReadHalf<'_>, read: mpsc::Sender<(Instant, Seen)>) -> io::Result<()> {
    loop {
        let mut bytes = vec![0; CHUNK];
        let seen = match from.read(&mut bytes).await {
            Ok(0) => Seen::End,
            Ok(length) => {
                bytes.truncate(length);
                Seen::Bytes(bytes)
            }
            Err(_) => Seen::Reset,
        };
        let last = !matches!(seen, Seen::Bytes(_));
        if read.send((Instant::now(), seen)).await.is_err() || last {
            return Ok(());
        }
    }
}

async fn deliver(
    shared: &Shared,
    way: Way,
    mut under_way: mpsc::Receiver<(Instant, Seen)>,
    mut to: WriteHalf<'_>,
) -> io::Result<()> {
    let mut rules = shared.rules.subscribe();
    while let Some((read_at, seen)) = under_way.recv().await {
        if !released(&mut rules, way, read_at).await {
            return swallow(&mut rules, way, under_way).await;
        }
        match seen {
            Seen::Bytes(bytes) => shared.meter(way).write(shared, &bytes, &mut to).await?,
            Seen::End => return to.shutdown().await,
            Seen::Reset => break,
        }
    }
    Err(ErrorKind::ConnectionReset.into())
}

/// A stream that lost bytes cannot go on, so it ends when the link is open again.
async fn swallow(
    rules: &mut watch::Receiver<Rules>,
    way: Way,
    mut under_way: mpsc::Receiver<(Instant, Seen)>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            () = open_again(rules, way) => return Err(ErrorKind::ConnectionReset.into()),
            Some(_) = under_way.recv() => {}
        }
    }
}

/// Closes with a reset unless the connection ended in order, also when its task is aborted.
pub(crate) struct Socket {
    stream: TcpStream,
    ended_well: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Only costs time if refused.
        let _ = stream.set_nodelay(true);
        Self { stream, ended_well: false }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.ended_well {
            let _ = self.stream.set_zero_linger();
        }
    }
}
