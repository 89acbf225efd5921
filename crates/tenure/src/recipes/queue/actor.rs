use std::{collections::HashMap, fmt, future::IntoFuture, pin::pin, time::Duration};

use actix::{
    Actor, AsyncContext, Context, Handler, Message, ResponseFuture,
    dev::{MessageResponse, OneshotSender},
};
use bytes::Bytes;
use futures::future::{self, BoxFuture, Either};
use tenure_core::Fence;
use tokio::task::spawn_local;

use super::{Delivery, PriorityQueue, Queue, Take};
use crate::{
    error::{Error, Result},
    ops::IntoValue,
    session::Session,
};

/// A queue of either kind.
enum Source {
    Fifo(Queue),
    Priority(PriorityQueue),
}

/// A queue for programs that speak in actix messages: it keeps the deliveries that are worked on,
/// by their fences.
///
/// It stops with its last address, and what is worked on goes back then, as does that of a worker
/// that is gone before it got its [`Job`].
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{Session, actor::{AckJob, EnqueueJob, TakeJob, WorkQueueActor}};
///
/// # async fn example(session: Session) -> anyhow::Result<()> {
/// let mails = WorkQueueActor::new(&session, "mails").start();
/// mails.send(EnqueueJob::new("to all")).await??;
/// let job = mails.send(TakeJob::new()).await??;
/// println!("{:?}", job.value);
/// mails.send(AckJob(job.fence)).await??;
/// # Ok(())
/// # }
/// ```
pub struct WorkQueueActor {
    source: Source,
    jobs: HashMap<Fence, Delivery>,
}

impl WorkQueueActor {
    /// The queue of this name; see [`Queue::new`].
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::of(Queue::new(session, name))
    }

    /// Any queue.
    pub fn of(queue: Queue) -> Self {
        Self { source: Source::Fifo(queue), jobs: HashMap::new() }
    }

    /// Any priority queue.
    pub fn of_priorities(queue: PriorityQueue) -> Self {
        Self { source: Source::Priority(queue), jobs: HashMap::new() }
    }

    fn take(&self) -> Take<Delivery> {
        match &self.source {
            Source::Fifo(queue) => queue.take_leased(),
            Source::Priority(queue) => queue.take_leased(),
        }
    }

    fn end(
        &mut self,
        fence: &Fence,
        end: impl FnOnce(Delivery) -> BoxFuture<'static, Result<()>>,
    ) -> ResponseFuture<Result<()>> {
        match self.jobs.remove(fence) {
            Some(delivery) => end(delivery),
            None => {
                let error = Error::invalid("job", "this actor does not have it, or has lost it");
                Box::pin(async { Err(error) })
            }
        }
    }
}

impl Actor for WorkQueueActor {
    type Context = Context<Self>;
}

/// Puts an item into the queue; see [`Queue::enqueue`]. Answers with its key.
pub struct EnqueueJob {
    value: Result<Bytes>,
    priority: u16,
    timeout: Option<Duration>,
}

impl EnqueueJob {
    /// An item, of priority 0 where there are priorities.
    pub fn new(value: impl IntoValue) -> Self {
        Self { value: value.into_value(), priority: 0, timeout: None }
    }

    /// Lower ones are taken first, from a queue with priorities.
    #[must_use]
    pub fn priority(mut self, priority: u16) -> Self {
        self.priority = priority;
        self
    }

    /// Waits so long for room; see [`Enqueue::timeout`](crate::Enqueue::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl fmt::Debug for EnqueueJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnqueueJob").field("priority", &self.priority).finish_non_exhaustive()
    }
}

impl Message for EnqueueJob {
    type Result = Result<Bytes>;
}

impl Handler<EnqueueJob> for WorkQueueActor {
    type Result = ResponseFuture<Result<Bytes>>;

    fn handle(&mut self, asked: EnqueueJob, _: &mut Context<Self>) -> Self::Result {
        let EnqueueJob { value, priority, timeout } = asked;
        let enqueue = match (value, &self.source) {
            (Err(error), _) => return Box::pin(async { Err(error) }),
            (Ok(value), Source::Fifo(queue)) => queue.enqueue(value),
            (Ok(value), Source::Priority(queue)) => queue.enqueue(priority, value),
        };
        match timeout {
            Some(timeout) => enqueue.timeout(timeout),
            None => enqueue,
        }
        .into_future()
    }
}

/// Takes an item to work on; see [`Queue::take_leased`]. Whoever asks and is gone before the answer
/// is asks no more.
#[derive(Clone, Copy, Debug, Default)]
pub struct TakeJob {
    timeout: Option<Duration>,
}

impl TakeJob {
    /// Waits for as long as the session lives.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for so long at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// Something to work on, which the actor keeps until [`AckJob`] or [`NackJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// What it is called, and the proof that it is ours.
    pub fence: Fence,
    /// What was put into the queue.
    pub value: Bytes,
    /// How often it was delivered, this time included.
    pub attempts: u32,
}

impl Message for TakeJob {
    type Result = Result<Job>;
}

/// An item on its way to whoever sent the message.
pub struct Taking(BoxFuture<'static, Result<Delivery>>);

impl Handler<TakeJob> for WorkQueueActor {
    type Result = Taking;

    fn handle(&mut self, asked: TakeJob, _: &mut Context<Self>) -> Taking {
        let take = self.take();
        Taking(match asked.timeout {
            Some(timeout) => take.timeout(timeout).into_future(),
            None => take.into_future(),
        })
    }
}

impl MessageResponse<WorkQueueActor, TakeJob> for Taking {
    fn handle(self, ctx: &mut Context<WorkQueueActor>, tx: Option<OneshotSender<Result<Job>>>) {
        // Nobody wants the answer, and so not the item either.
        let Some(mut reply) = tx else { return };
        // Weakly: the actor stops with its last address, whatever is under way.
        let actor = ctx.address().downgrade();
        spawn_local(async move {
            let taken = {
                let gone = pin!(reply.closed());
                match future::select(self.0, gone).await {
                    Either::Left((taken, _)) => taken,
                    Either::Right(_) => return,
                }
            };
            match (taken, actor.upgrade()) {
                (Ok(delivery), Some(actor)) => actor.do_send(Keep { delivery, reply }),
                // Whoever is gone need not know.
                (taken, _) => {
                    let _ =
                        reply.send(Err(taken.err().unwrap_or_else(|| Error::actor_gone("job"))));
                }
            }
        });
    }
}

/// An item to keep for whoever asked for it.
struct Keep {
    delivery: Delivery,
    reply: OneshotSender<Result<Job>>,
}

impl Message for Keep {
    type Result = ();
}

impl Handler<Keep> for WorkQueueActor {
    type Result = ();

    fn handle(&mut self, Keep { delivery, reply }: Keep, _: &mut Context<Self>) {
        let fence = delivery.fence();
        let value = delivery.value().clone();
        let job = Job { fence: fence.clone(), value, attempts: delivery.attempts() };
        // From whoever is gone it goes back.
        if reply.send(Ok(job)).is_ok() {
            self.jobs.retain(|_, lost| lost.is_held());
            self.jobs.insert(fence, delivery);
        }
    }
}

/// It is done; see [`Delivery::ack`].
#[derive(Clone, Debug)]
pub struct AckJob(pub Fence);

impl Message for AckJob {
    type Result = Result<()>;
}

impl Handler<AckJob> for WorkQueueActor {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, AckJob(fence): AckJob, _: &mut Context<Self>) -> Self::Result {
        self.end(&fence, |delivery| Box::pin(delivery.ack()))
    }
}

/// It is not done, and goes back; see [`Delivery::nack`].
#[derive(Clone, Debug)]
pub struct NackJob(pub Fence);

impl Message for NackJob {
    type Result = Result<()>;
}

impl Handler<NackJob> for WorkQueueActor {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, NackJob(fence): NackJob, _: &mut Context<Self>) -> Self::Result {
        self.end(&fence, |delivery| Box::pin(delivery.nack()))
    }
}
