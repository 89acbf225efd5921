use actix::{Actor, Context, Handler, Message, ResponseFuture};

use super::{AtomicCounter, Counted};
use crate::error::Result;

/// A counter for programs that speak in actix messages.
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{AtomicCounter, Client, actor::{AddCount, CounterActor}};
///
/// # async fn example(client: Client) -> anyhow::Result<()> {
/// let visits = CounterActor::of(AtomicCounter::new(&client, "visits")).start();
/// let counted = visits.send(AddCount(1)).await??;
/// println!("{} visits", counted.after);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CounterActor(AtomicCounter);

impl CounterActor {
    /// Speaks for this counter.
    pub fn of(counter: AtomicCounter) -> Self {
        Self(counter)
    }
}

impl Actor for CounterActor {
    type Context = Context<Self>;
}

/// Adds to the number; see [`AtomicCounter::add`]. It goes on if whoever sent it is gone.
#[derive(Clone, Copy, Debug)]
pub struct AddCount(pub i64);

impl Message for AddCount {
    type Result = Result<Counted>;
}

impl Handler<AddCount> for CounterActor {
    type Result = ResponseFuture<Result<Counted>>;

    fn handle(&mut self, AddCount(delta): AddCount, _: &mut Context<Self>) -> Self::Result {
        let counter = self.0.clone();
        Box::pin(async move { counter.add(delta).await })
    }
}

/// Tells the number; see [`AtomicCounter::get`].
#[derive(Clone, Copy, Debug)]
pub struct GetCount;

impl Message for GetCount {
    type Result = Result<i64>;
}

impl Handler<GetCount> for CounterActor {
    type Result = ResponseFuture<Result<i64>>;

    fn handle(&mut self, _: GetCount, _: &mut Context<Self>) -> Self::Result {
        let counter = self.0.clone();
        Box::pin(async move { counter.get().await })
    }
}

/// Makes it this number; see [`AtomicCounter::set`].
#[derive(Clone, Copy, Debug)]
pub struct SetCount(pub i64);

impl Message for SetCount {
    type Result = Result<()>;
}

impl Handler<SetCount> for CounterActor {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, SetCount(number): SetCount, _: &mut Context<Self>) -> Self::Result {
        let counter = self.0.clone();
        Box::pin(async move { counter.set(number).await })
    }
}
