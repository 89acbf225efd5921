use std::{future::IntoFuture, time::Duration};

use actix::{Actor, Context, Handler, Message};

use super::CountDownLatch;
use crate::{error::Result, recipes::answering::Answering};

/// A latch for programs that speak in actix messages.
///
/// ```no_run
/// use actix::Actor;
/// use tenure::{Client, CountDownLatch, actor::{AwaitLatch, CountDownBy, LatchActor}};
///
/// # async fn example(client: Client) -> anyhow::Result<()> {
/// let loaded = LatchActor::new(CountDownLatch::new(&client, "loaded")).start();
/// let missing = loaded.send(CountDownBy::arrival("worker-1")).await??;
/// println!("{missing} are missing");
/// loaded.send(AwaitLatch::new()).await??;
/// # Ok(())
/// # }
/// ```
pub struct LatchActor {
    latch: CountDownLatch,
}

impl LatchActor {
    /// An actor for this latch.
    pub fn new(latch: CountDownLatch) -> Self {
        Self { latch }
    }
}

impl Actor for LatchActor {
    type Context = Context<Self>;
}

/// Takes one off; answers with what is missing. See [`CountDownLatch::count_down`].
#[derive(Clone, Debug, Default)]
pub struct CountDownBy {
    arrival: Option<String>,
}

impl CountDownBy {
    /// Somebody without a name.
    pub fn one() -> Self {
        Self::default()
    }

    /// Somebody who counts once, however often this is said.
    pub fn arrival(id: impl Into<String>) -> Self {
        Self { arrival: Some(id.into()) }
    }
}

impl Message for CountDownBy {
    type Result = Result<u64>;
}

impl Handler<CountDownBy> for LatchActor {
    type Result = Answering<u64>;

    fn handle(&mut self, asked: CountDownBy, _: &mut Context<Self>) -> Self::Result {
        let count_down = self.latch.count_down();
        let count_down = asked.arrival.into_iter().fold(count_down, |one, id| one.arrival(id));
        Answering::new(count_down.into_future())
    }
}

/// Waits until the latch is open. Ends when whoever sent it is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwaitLatch {
    timeout: Option<Duration>,
}

impl AwaitLatch {
    /// Waits for as long as the client lives.
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

impl Message for AwaitLatch {
    type Result = Result<()>;
}

impl Handler<AwaitLatch> for LatchActor {
    type Result = Answering<()>;

    fn handle(&mut self, asked: AwaitLatch, _: &mut Context<Self>) -> Self::Result {
        let wait = self.latch.wait();
        let wait = asked.timeout.into_iter().fold(wait, |wait, timeout| wait.timeout(timeout));
        Answering::new(wait.into_future())
    }
}
