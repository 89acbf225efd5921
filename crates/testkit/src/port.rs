use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port of 127.0.0.1 that nobody else is given while this lives.
///
/// The bound socket never listens. Linux lets another socket with SO_REUSEADDR (etcd's, or
/// [`listen`](Self::listen)'s) listen on the same port, but hands the port to nobody who asks for
/// a free one. So a port survives the death of its server, and meanwhile connections are refused.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    pub(crate) fn reserve() -> io::Result<Self> {
        let held = bind(0)?;
        Ok(Self { address: held.local_addr()?, _held: held })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens the port. Must run inside a tokio runtime.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        bind(self.address.port())?.listen(1024)
    }
}

fn bind(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket)
}
