use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::sleep,
};

use super::connections::serve;
use crate::embedded::Shared;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long to rest when the system is out of file descriptors, or the like.
const REST: Duration = Duration::from_millis(50);

/// The ports of a server.
#[derive(Debug)]
pub(crate) struct Listeners {
    addresses: Vec<SocketAddr>,
    bound: Mutex<Vec<TcpListener>>,
    accepting: Mutex<Vec<JoinHandle<()>>>,
}

impl Listeners {
    pub(crate) fn bind(addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut bound = Vec::new();
        for address in addresses {
            bound.push(listen(*address)?);
        }
        let addresses = bound.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        Ok(Self { addresses, bound: Mutex::new(bound), accepting: Mutex::default() })
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.addresses.iter().map(|address| format!("http://{address}")).collect()
    }

    /// Takes connections, on ports that are bound again if they were let go.
    pub(crate) fn accept(&self, shared: &Arc<Shared>) -> io::Result<()> {
        if !lock(&self.accepting).is_empty() {
            return Ok(());
        }
        // Whoever calls: the ports live with the server.
        let _runtime = shared.runtime.enter();
        let mut listeners = std::mem::take(&mut *lock(&self.bound));
        if listeners.is_empty() {
            for address in &self.addresses {
                listeners.push(listen(*address)?);
            }
        }
        let tasks = listeners
            .into_iter()
            .map(|listener| shared.runtime.spawn(accept(listener, Arc::downgrade(shared))));
        lock(&self.accepting).extend(tasks);
        Ok(())
    }

    /// Lets the ports go, and returns once they are free.
    pub(crate) async fn close(&self) {
        let tasks = std::mem::take(&mut *lock(&self.accepting));
        // All at once: whoever gives up waiting leaves none that still accepts.
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            // It was cancelled, which is what was wanted.
            let _ = task.await;
        }
    }

    pub(crate) fn abort(&self) {
        lock(&self.accepting).drain(..).for_each(|task| task.abort());
    }
}

/// On the runtime that this is called on.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A port whose old connections linger is free all the same.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

async fn accept(listener: TcpListener, shared: Weak<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it, answers only come later.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(Weak::clone(&shared), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "the embedded server cannot accept a connection");
                sleep(REST).await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
