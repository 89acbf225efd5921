use tenure_embed::{Builder, Embedded};
use tokio::runtime::{self, Runtime};

use crate::Error;

/// An embedded server on a thread of its own, as if it were another process: it serves while the
/// tests block theirs, and whatever becomes of their runtimes.
#[derive(Debug)]
pub(crate) struct Hosted {
    pub(crate) embedded: Embedded,
    /// None, for a server of the runtime that the test runs on.
    _thread: Option<Thread>,
}

#[derive(Debug)]
struct Thread(Option<Runtime>);

impl Hosted {
    pub(crate) async fn start(builder: Builder) -> Result<Self, Error> {
        let mut thread = runtime::Builder::new_multi_thread();
        let thread = thread.worker_threads(1).thread_name("tenure-embedded").enable_all().build();
        let thread = thread.map_err(Error::io("no thread for an embedded server"))?;
        let task = thread.spawn(async { builder.start().await });
        // Before the wait: a runtime must not be dropped where tasks run, as this future may be.
        let thread = Thread(Some(thread));
        let started = task.await.map_err(std::io::Error::other).flatten();
        let embedded = started.map_err(Error::io("cannot start an embedded server"))?;
        Ok(Self { embedded, _thread: Some(thread) })
    }

    /// On the runtime that this is called on, and in its time.
    pub(crate) async fn start_here(builder: Builder) -> Result<Self, Error> {
        let started = builder.start().await;
        let embedded = started.map_err(Error::io("cannot start an embedded server"))?;
        Ok(Self { embedded, _thread: None })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
