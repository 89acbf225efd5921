use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::pump::{Socket, carry, tar_pit};
use super::shared::Shared;
use crate::port::Port;

/// The listening socket of a proxy, which can be away. Away, connections are refused.
pub(crate) struct Door {
    listener: Mutex<Option<TcpListener>>,
    opened: Notify,
}

impl Door {
    pub(crate) fn open(listener: TcpListener) -> Self {
        Self { listener: Mutex::new(Some(listener)), opened: Notify::new() }
    }

    fn listener(&self) -> MutexGuard<'_, Option<TcpListener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shut(&self) {
        *self.listener() = None;
    }

    /// Must run inside a tokio runtime.
    pub(crate) fn reopen(&self, port: &Port) -> io::Result<()> {
        let mut listener = self.listener();
        if listener.is_none() {
            *listener = Some(port.listen()?);
            self.opened.notify_one();
        }
        Ok(())
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let accept = poll_fn(|context| match &*self.listener() {
                Some(listener) => listener.poll_accept(context),
                None => Poll::Pending,
            });
            tokio::select! {
                () = self.opened.notified() => {}
                accepted = accept => return accepted,
            }
        }
    }
}

/// Takes connections for ever.
pub(crate) async fn serve(shared: Arc<Shared>) {
    loop {
        let Ok((client, from)) = shared.door.accept().await else {
            // Out of files or the like: others must close something first.
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let client = Socket::new(client);
        // Entered before it is asked about, so that a filter set meanwhile finds it one way or
        // the other.
        let entry = shared.links.add(from);
        let (id, served, link) = (entry.id, shared.admits(from), Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let _entry = entry;
            // How it ended, both sides have seen.
            let _ = match served {
                true => carry(link, client).await,
                false => tar_pit(client).await,
            };
        });
        shared.links.carried_by(id, task.abort_handle(), served);
    }
}
