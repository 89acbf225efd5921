//! Where the actors and connections of a client live, and for how long.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, fut::wrap_future,
};
use futures::future;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

use crate::{
    config::Place,
    error::{Error, ErrorKind, Result},
};

/// How long the thread waits for its actors to end.
const GRACE: Duration = Duration::from_secs(1);

/// Held by every handle, stream and call of a client; the last one ends what they all share.
pub(crate) struct Alive {
    close: Close,
    /// Kept by the thread's runtime: it must outlive the timers of calls in flight.
    _thread: Option<oneshot::Sender<()>>,
}

impl Alive {
    /// Asks the actors to end; what is in flight ends with them.
    pub(crate) fn close(&self) {
        self.close.now();
    }
}

/// Closes the client when it is dropped.
///
/// The owner of the connections holds one too: when the place that a client runs in ends before
/// the client does, its handles say that it is closed.
#[derive(Clone)]
pub(crate) struct Close {
    flag: watch::Sender<bool>,
    tasks: Tasks,
}

impl Close {
    fn now(&self) {
        self.flag.send_replace(true);
        self.tasks.abort();
    }
}

impl Drop for Close {
    fn drop(&mut self) {
        self.now();
    }
}

/// The tasks of the client's connections, ended with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

impl Tasks {
    fn add(&self, task: AbortHandle) {
        let mut tasks = self.lock();
        // Not each time: hyper spawns two tasks a call.
        if tasks.len() == tasks.capacity() {
            tasks.retain(|task| !task.is_finished());
            let live = tasks.len();
            tasks.reserve(live.max(64));
        }
        tasks.push(task);
    }

    fn abort(&self) {
        self.lock().drain(..).for_each(|task| task.abort());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        // Nothing in here can panic while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Told to everything that runs in the background: go on, or end.
#[derive(Clone)]
pub(crate) struct Closing(watch::Receiver<bool>);

/// Held by an actor while it runs, so that `close` can wait for its end.
pub(crate) type Running = mpsc::Sender<()>;

impl Closing {
    pub(crate) fn is_closing(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the client closes, or when everybody who could close it is gone.
    pub(crate) async fn wait(mut self) {
        // An error says that the sender is gone, which is closing too.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// Runs what a connection needs in the client's place, until the client closes.
#[derive(Clone)]
pub(crate) struct Executor {
    place: Spawn,
    tasks: Tasks,
    closing: Closing,
}

#[derive(Clone)]
enum Spawn {
    On(Handle),
    Local,
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let task = match &self.place {
            Spawn::On(handle) => handle.spawn(task),
            Spawn::Local => tokio::task::spawn_local(task),
        };
        self.tasks.add(task.abort_handle());
        // The client may have closed between the two.
        if self.closing.is_closing() {
            self.tasks.abort();
        }
    }
}

/// Ends an actor when its client closes.
pub(crate) fn stop_at_close<A>(closing: Closing, ctx: &mut Context<A>)
where
    A: Actor<Context = Context<A>>,
{
    ctx.spawn(wrap_future(closing.wait()).map(|(), _, ctx: &mut Context<A>| ctx.stop()));
}

/// Starts further actors where a client runs, on behalf of whoever is elsewhere.
pub(crate) struct Starter {
    closing: Closing,
    running: Running,
}

/// Run this where the client's actors run.
pub(crate) struct Start(pub(crate) Box<dyn FnOnce(Running) + Send>);

impl Message for Start {
    type Result = ();
}

impl Starter {
    pub(crate) fn new(closing: Closing, running: Running) -> Self {
        Self { closing, running }
    }
}

impl Actor for Starter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        stop_at_close(self.closing.clone(), ctx);
    }
}

impl Handler<Start> for Starter {
    type Result = ();

    fn handle(&mut self, Start(start): Start, _: &mut Context<Self>) {
        start(self.running.clone());
    }
}

/// What a client is started with, in the place where it runs.
pub(crate) struct Ground {
    pub(crate) handle: Handle,
    pub(crate) executor: Executor,
    pub(crate) closing: Closing,
    pub(crate) close: Close,
    pub(crate) running: Running,
}

/// What is left to the caller once the client's actors run.
pub(crate) struct Started<T> {
    pub(crate) parts: T,
    pub(crate) alive: Arc<Alive>,
    /// Ends once nothing of the client runs any more.
    pub(crate) ended: mpsc::Receiver<()>,
}

/// Runs `start`, which starts actors, in `place`.
pub(crate) async fn start<T, F>(place: Place, start: F) -> Result<Started<T>>
where
    T: Send + 'static,
    F: FnOnce(Ground) -> Result<T> + Send + 'static,
{
    let (flag, closing) = watch::channel(false);
    let close = Close { flag, tasks: Tasks::default() };
    let (running, ended) = mpsc::channel(1);
    let closing = Closing(closing);
    match place {
        Place::Thread => on_a_thread(close, closing, running, ended, start).await,
        Place::CurrentArbiter | Place::Local => {
            if place == Place::CurrentArbiter && !on_an_arbiter() {
                return Err(Error::invalid(
                    "current_arbiter",
                    "`connect` must be called on a running actix arbiter",
                ));
            }
            let handle = Handle::current();
            let spawn = match place {
                Place::Local => Spawn::Local,
                _ => Spawn::On(handle.clone()),
            };
            let executor =
                Executor { place: spawn, tasks: close.tasks.clone(), closing: closing.clone() };
            let parts = start(Ground { handle, executor, closing, close: close.clone(), running })?;
            let alive = Arc::new(Alive { close, _thread: None });
            Ok(Started { parts, alive, ended })
        }
    }
}

fn on_an_arbiter() -> bool {
    actix::System::is_registered()
        && actix::Arbiter::try_current().is_some_and(|arbiter| arbiter.alive())
}

async fn on_a_thread<T, F>(
    close: Close,
    closing: Closing,
    running: Running,
    ended: mpsc::Receiver<()>,
    start: F,
) -> Result<Started<T>>
where
    T: Send + 'static,
    F: FnOnce(Ground) -> Result<T> + Send + 'static,
{
    let (ready, started) = oneshot::channel();
    let (unused, all_dropped) = oneshot::channel::<()>();
    let owners = close.clone();
    std::thread::Builder::new()
        .name("tenure".into())
        .spawn(move || {
            actix::System::new().block_on(async move {
                let handle = Handle::current();
                let place = Spawn::On(handle.clone());
                let executor =
                    Executor { place, tasks: owners.tasks.clone(), closing: closing.clone() };
                // If nobody waits any more, `all_dropped` resolves at once.
                let _ =
                    ready.send(start(Ground { handle, executor, closing, close: owners, running }));
                // Calls in flight have timers here, and hold what this waits for.
                let _ = all_dropped.await;
                // One turn for the actors to hear that the client is closing.
                tokio::task::yield_now().await;
            });
        })
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "connect", "no thread for the client's actors")
                .because(error)
        })?;
    let alive = Arc::new(Alive { close, _thread: Some(unused) });
    let parts = started.await.map_err(|_| Error::actor_gone("connect"))??;
    Ok(Started { parts, alive, ended })
}

/// Waits until nothing of a client runs any more, but not for ever.
pub(crate) async fn ended(mut running: mpsc::Receiver<()>, handle: &Handle) {
    let grace = {
        let _in = handle.enter();
        tokio::time::sleep(GRACE)
    };
    future::select(pin!(running.recv()), pin!(grace)).await;
}
