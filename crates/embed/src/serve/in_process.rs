use std::{
    io,
    sync::{Arc, Weak},
};

use futures::future::{BoxFuture, FutureExt, ready};
use tenure::{Connector, Io};
use tokio::io::duplex;

use super::connections::serve;
use crate::embedded::Shared;

/// What a pipe holds before its writer waits.
const PIPE: usize = 256 * 1024;

/// Connections to an embedded server without a socket.
#[derive(Clone)]
pub struct InProcess(Weak<Shared>);

impl InProcess {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    fn open(&self) -> io::Result<Box<dyn Io>> {
        let gone =
            || io::Error::new(io::ErrorKind::ConnectionRefused, "the embedded server is gone");
        let shared = self.0.upgrade().ok_or_else(gone)?;
        if shared.connections.are_refused() {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the embedded server refuses connections",
            ));
        }
        let (ours, theirs) = duplex(PIPE);
        shared.runtime.spawn(serve(Weak::clone(&self.0), ours));
        Ok(Box::new(theirs))
    }
}

impl Connector for InProcess {
    /// Whatever the authority: there is one server at the other end.
    fn connect(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        ready(self.open()).boxed()
    }
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}
