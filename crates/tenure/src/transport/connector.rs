use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter},
    net::TcpStream,
};

/// A connection, as far as HTTP/2 is concerned: bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Where the bytes of a connection come from: TCP by default; a pipe inside the process, a proxy
/// or a simulated network plug in here.
///
/// TLS is put on top of it when the endpoint's scheme asks for it.
pub trait Connector: Send + Sync + 'static {
    /// Opens a connection to `authority` (`host:port`).
    ///
    /// Dropping the future abandons the attempt. The client bounds it by its connect timeout.
    ///
    /// # Errors
    ///
    /// Whatever kept it from connecting. It proves that nothing was sent, so the call that wanted
    /// the connection goes to another endpoint.
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// TCP without Nagle's delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Connector for Tcp {
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let authority = authority.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// How often a connection to an endpoint was opened, told to whoever must know whether a call can
/// have left.
#[derive(Debug, Default)]
pub(super) struct Openings {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Openings {
    /// How many connections were ever opened.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether a connection is open now.
    pub(super) fn any(&self) -> bool {
        self.begun() > self.ended.load(Ordering::Acquire)
    }
}

/// Room for a frame of HTTP/2 as etcd takes it, and for what h2 gathers before one.
const WRITE_BUFFER: usize = 40 * 1024;

/// A connection that counts itself, and takes one buffer at a time.
///
/// With a payload that it does not copy h2 writes out all it has: a system call for each put. It
/// copies those below 256 bytes, and those below 1 KiB if the connection takes no more than a
/// buffer at a time. The head and the payload of a greater one meet again in the `BufWriter`.
pub(super) struct Counted {
    io: BufWriter<Box<dyn Io>>,
    openings: Arc<Openings>,
}

impl Counted {
    pub(super) fn new(io: Box<dyn Io>, openings: Arc<Openings>) -> Self {
        openings.begun.fetch_add(1, Ordering::AcqRel);
        Self { io: BufWriter::with_capacity(WRITE_BUFFER, io), openings }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.openings.ended.fetch_add(1, Ordering::AcqRel);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
