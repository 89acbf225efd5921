use std::{
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use futures::{
    StreamExt,
    future::{self, Either},
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_local},
};

use super::{Election, Leading, Reign};
use crate::{error::Result, ops::IntoValue};

/// Runs an actor of yours whenever its process leads, and at no other time: what
/// [`Election::lead`] is for a future.
///
/// The actor is made anew for each term, on the arbiter that this one runs on. It is sent
/// [`StepDown`] when it is to end, and is dropped if it has not stopped in time; who leads next
/// begins after that.
///
/// It stops with its last address, and the actor it runs with it. It stops by itself when it cannot
/// stand any more; why, is logged: the session is lost and does not re-enter, the name is a bad
/// one, or etcd refuses the user.
///
/// ```no_run
/// use actix::{Actor, ActorContext, Context, Handler};
/// use tenure::{Election, actor::{LeaderBound, StepDown}};
///
/// struct Scheduler;
///
/// impl Actor for Scheduler {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<StepDown> for Scheduler {
///     type Result = ();
///
///     fn handle(&mut self, _: StepDown, ctx: &mut Context<Self>) {
///         ctx.stop();
///     }
/// }
///
/// # async fn example(election: Election) {
/// let scheduler = LeaderBound::new(&election, |_reign| Scheduler).start();
/// # }
/// ```
pub struct LeaderBound<A: Actor<Context = Context<A>> + Handler<StepDown>> {
    election: Election,
    value: Result<bytes::Bytes>,
    budget: Option<Duration>,
    make: Box<dyn FnMut(Arc<Reign>) -> A>,
    running: Option<Addr<A>>,
    /// The actor of the term before: it may not have ended yet.
    last: Option<JoinHandle<()>>,
    leading: Option<Leading>,
}

/// Tells an actor that its process leads no longer, or is about to: it is to stop.
#[derive(Clone, Copy, Debug)]
pub struct StepDown;

impl Message for StepDown {
    type Result = ();
}

impl<A: Actor<Context = Context<A>> + Handler<StepDown>> LeaderBound<A> {
    /// An actor made by `make` for each term.
    pub fn new(election: &Election, make: impl FnMut(Arc<Reign>) -> A + 'static) -> Self {
        Self {
            election: election.clone(),
            value: Ok(bytes::Bytes::new()),
            budget: None,
            make: Box::new(make),
            running: None,
            last: None,
            leading: None,
        }
    }

    /// What the candidate says of itself; nothing by default.
    #[must_use]
    pub fn value(mut self, value: impl IntoValue) -> Self {
        self.value = value.into_value();
        self
    }

    /// How long the actor may take to stop; see [`Lead::stop_within`](crate::Lead::stop_within).
    #[must_use]
    pub fn stop_within(mut self, budget: Duration) -> Self {
        self.budget = Some(budget);
        self
    }
}

impl<A: Actor<Context = Context<A>> + Handler<StepDown>> Actor for LeaderBound<A> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let bound = ctx.address().downgrade();
        let lead = self.election.lead(move |reign| {
            let bound = bound.clone();
            async move {
                // Dropped with this future, should it be aborted.
                let (_wanted, given_up) = oneshot::channel();
                // The address is not kept while it waits.
                let ended = bound.upgrade().map(|bound| bound.send(Begin { reign, given_up }));
                if let Some(ended) = ended {
                    // An error says that the actor is gone, which is an end, too.
                    let _ = ended.await;
                }
            }
        });
        let value = std::mem::replace(&mut self.value, Ok(bytes::Bytes::new()));
        let lead = lead.value_or(value);
        let lead = match self.budget {
            Some(budget) => lead.stop_within(budget),
            None => lead,
        };
        match lead.start() {
            Ok(leading) => {
                let states = leading.states();
                // Weakly: it stops with its last address.
                let bound = ctx.address().downgrade();
                spawn_local(async move {
                    states.for_each(|_| future::ready(())).await;
                    bound.upgrade().into_iter().for_each(|bound| bound.do_send(Ended));
                });
                self.leading = Some(leading);
            }
            Err(error) => {
                tracing::error!(%error, "it cannot stand in the election");
                ctx.stop();
            }
        }
    }
}

/// It does not stand any more.
struct Ended;

impl Message for Ended {
    type Result = ();
}

impl<A: Actor<Context = Context<A>> + Handler<StepDown>> Handler<Ended> for LeaderBound<A> {
    type Result = ();

    fn handle(&mut self, _: Ended, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// The election is won.
struct Begin {
    reign: Arc<Reign>,
    /// Resolves when nobody waits for the end any more.
    given_up: oneshot::Receiver<()>,
}

impl Message for Begin {
    type Result = ();
}

impl<A: Actor<Context = Context<A>> + Handler<StepDown>> Handler<Begin> for LeaderBound<A> {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, begin: Begin, ctx: &mut Context<Self>) -> Self::Result {
        let Begin { reign, given_up } = begin;
        if let Some(last) = self.last.take_if(|last| !last.is_finished()) {
            // Never two at once: the old one is on its way out.
            let again = ctx.address().downgrade();
            return Box::pin(async move {
                let _ = last.await;
                // The address is not kept while the actor runs.
                let begun = again.upgrade().map(|again| again.send(Begin { reign, given_up }));
                if let Some(begun) = begun {
                    let _ = begun.await;
                }
            });
        }
        if reign.is_stopping() {
            // It took too long to get here.
            return Box::pin(future::ready(()));
        }
        // The closure is the user's, too.
        let made = catch_unwind(AssertUnwindSafe(|| (self.make)(Arc::clone(&reign))));
        let Ok(actor) = made else {
            tracing::error!(fence = %reign.fence(), "no actor was made: it panicked");
            return Box::pin(future::ready(()));
        };
        let actors_own = Context::new();
        let address = actors_own.address();
        let running = spawn_local(actors_own.into_future(actor));
        self.running = Some(address.clone());
        let (ended, end) = oneshot::channel();
        self.last = Some(spawn_local(async move {
            run(running, reign, address, given_up).await;
            // Whoever waited may be gone.
            let _ = ended.send(());
        }));
        Box::pin(async move {
            let _ = end.await;
        })
    }
}

/// Waits until the actor has ended, which it is told to when it must.
async fn run<A: Actor<Context = Context<A>> + Handler<StepDown>>(
    mut running: JoinHandle<()>,
    reign: Arc<Reign>,
    address: Addr<A>,
    given_up: oneshot::Receiver<()>,
) {
    let stopping = pin!(reign.stopping());
    let Either::Right(_) = future::select(&mut running, stopping).await else { return };
    address.do_send(StepDown);
    drop(address);
    if let Either::Right(_) = future::select(&mut running, given_up).await {
        running.abort();
        // It ends when it is dropped.
        let _ = running.await;
    }
}

/// Asks for the address of the actor that runs, if this process leads.
pub struct RunningActor<A>(PhantomData<fn() -> A>);

impl<A> RunningActor<A> {
    /// The one of now.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<A> Default for RunningActor<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> fmt::Debug for RunningActor<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunningActor")
    }
}

impl<A: Actor> Message for RunningActor<A> {
    type Result = Option<Addr<A>>;
}

impl<A: Actor<Context = Context<A>> + Handler<StepDown>> Handler<RunningActor<A>>
    for LeaderBound<A>
{
    type Result = Option<Addr<A>>;

    fn handle(&mut self, _: RunningActor<A>, _: &mut Context<Self>) -> Self::Result {
        let leads = self.leading.as_ref().is_some_and(Leading::is_leader);
        self.running.clone().filter(|running| leads && running.connected())
    }
}
