//! `tenure inspect`: who holds something, who waits for it, what is in it.

mod contenders;
mod dates;
mod items;
mod table;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use tenure::{Barrier, Client, CountDownLatch};

pub(crate) use self::contenders::describe;
use self::{
    contenders::{Contenders, Prize},
    items::Items,
};
use crate::{bytes_text::insert, connect::Connection, exit::Failure, kv::Output, target::Target};

/// Show who holds something, who waits for it, or what is in it
#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    target: Target,

    /// What it is
    #[arg(long, value_enum, default_value_t = Kind::Lock)]
    kind: Kind,

    /// One JSON object. Of a lock: `holder` (null if nobody holds it) and `waiters`, in their
    /// order; of an election `leader` and `candidates`; of what several can hold or be in `holders`
    /// and `waiters`; of a queue `items`; of a barrier `held`, of a latch `count`
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Lock,
    Election,
    Rwlock,
    Semaphore,
    Barrier,
    DoubleBarrier,
    Latch,
    Queue,
    PriorityQueue,
}

/// What was found.
enum Found {
    Contenders(Contenders),
    Items(Items),
    Barrier { held: bool },
    Latch { count: u64 },
}

impl Inspect {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let client = connection.connect().await?;
        let found = self.find(&client).await?;
        let text = if self.json { self.as_json(&found) } else { self.as_text(&found) };
        let mut output = Output::new();
        let written = output.line(text.as_bytes());
        output.end_with(written)
    }

    async fn find(&self, client: &Client) -> Result<Found, Failure> {
        let target = &self.target;
        let contenders =
            async |prize| Contenders::read(prize, client, target).await.map(Found::Contenders);
        match self.kind {
            Kind::Lock => contenders(Prize::Lock).await,
            Kind::Election => contenders(Prize::Election).await,
            Kind::Rwlock => contenders(Prize::Rwlock).await,
            Kind::Semaphore => contenders(Prize::Semaphore).await,
            Kind::DoubleBarrier => contenders(Prize::DoubleBarrier).await,
            Kind::Queue => Ok(Found::Items(Items::fifo(client, target).await?)),
            Kind::PriorityQueue => Ok(Found::Items(Items::by_priority(client, target).await?)),
            Kind::Barrier => {
                let barrier = match target.raw_prefix() {
                    Some(key) => Barrier::at(client, key),
                    None => Barrier::new(client, target.name()),
                };
                Ok(Found::Barrier { held: barrier.is_held().await? })
            }
            Kind::Latch => {
                let latch = match target.raw_prefix() {
                    Some(prefix) => CountDownLatch::at(client, prefix),
                    None => CountDownLatch::new(client, target.name()),
                };
                Ok(Found::Latch { count: latch.count().await? })
            }
        }
    }

    fn as_json(&self, found: &Found) -> String {
        let mut object = Map::new();
        match self.target.raw_prefix() {
            Some(prefix) => insert(&mut object, "prefix", prefix),
            None => insert(&mut object, "name", self.target.name().as_bytes()),
        }
        match found {
            Found::Contenders(contenders) => contenders.add_to(&mut object),
            Found::Items(items) => items.add_to(&mut object),
            Found::Barrier { held } => drop(object.insert("held".into(), json!(held))),
            Found::Latch { count } => drop(object.insert("count".into(), json!(count))),
        }
        Value::from(object).to_string()
    }

    fn as_text(&self, found: &Found) -> String {
        let target = &self.target;
        match found {
            Found::Contenders(contenders) => contenders.as_text(target),
            Found::Items(items) => items.as_text(target),
            Found::Barrier { held: true } => format!("the barrier {target} is held"),
            Found::Barrier { held: false } => format!("the barrier {target} is open"),
            Found::Latch { count: 0 } => format!("the latch {target} is open, or was never set"),
            Found::Latch { count } => format!("the latch {target} waits for {count} more"),
        }
    }
}
