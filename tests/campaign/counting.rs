//! Work of which nothing may be lost or done twice: a holder reads a counter, and writes one more
//! under its fence. For recipes of which one at a time is the holder.

use serde::{Deserialize, Serialize};
use tenure::{Client, ErrorKind, Fence, Held, Put, Result, Revision};
use tokio::time::sleep;

use crate::{
    hold,
    journal::{Moment, Name, Tell, Written, broken, failed, say_own, say_own_at},
    judges::counting::Found,
    random::Random,
    recipe::Evidence,
};

/// The counter that all workers raise.
const COUNTER: &str = "campaign/counter";
/// Under it, each increment has a key of its own, put by the transaction that raised the counter.
pub(crate) const INCREMENTS: &str = "campaign/increments/";

/// The value of an increment's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Increment {
    pub(crate) number: u64,
    pub(crate) worker: Name,
    pub(crate) fence: Fence,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It sends an increment.
    Writing {
        id: String,
        number: u64,
        #[serde(with = "Written")]
        hold: Revision,
        /// Whether it believed to be the holder at this time.
        held: bool,
    },
    /// etcd has done it.
    Wrote {
        id: String,
        #[serde(with = "Written")]
        revision: Revision,
    },
    /// Nobody knows whether etcd did.
    Unknown { id: String, text: String },
    /// etcd surely did not.
    Refused { id: String, kind: String, text: String },
    /// What was held is given back, and an unknown increment is there, or never will be.
    Settled { id: String, there: bool },
}

impl Tell for Event {
    fn moment(&self) -> Option<Moment> {
        matches!(self, Self::Writing { .. }).then_some(Moment::Writing)
    }
}

/// How the increments of one hold ended.
pub(crate) enum End {
    Well,
    Badly,
    /// With one of which nobody knows.
    Unknown(String),
}

/// One that counts.
pub(crate) struct Counter {
    pub(crate) name: Name,
    pub(crate) client: Client,
    written: u64,
}

impl Counter {
    pub(crate) fn new(name: Name, client: Client) -> Self {
        Self { name, client, written: 0 }
    }

    /// Raises the counter a few times.
    pub(crate) async fn count(&mut self, held: &Held, fence: Fence, random: &mut Random) -> End {
        for _ in 0..random.within(1..4) {
            let Some(count) = self.read().await else { return End::Badly };
            if random.one_in(3) {
                sleep(random.millis(0..20)).await;
            }
            match self.write(held, &fence, count + 1).await {
                End::Well => {}
                end => return end,
            }
        }
        End::Well
    }

    pub(crate) async fn read(&self) -> Option<u64> {
        match self.client.get(COUNTER).await {
            Ok(got) => {
                Some(got.kv().map_or(0, |kv| {
                    std::str::from_utf8(&kv.value).unwrap().parse::<u64>().unwrap()
                }))
            }
            Err(error) => {
                failed("read", &error);
                None
            }
        }
    }

    async fn write(&mut self, held: &Held, fence: &Fence, number: u64) -> End {
        self.written += 1;
        let id = format!("{}.{}", self.name, self.written);
        let increment = Increment { number, worker: self.name, fence: fence.clone() };
        let increment = serde_json::to_string(&increment).unwrap();
        let puts = [
            Put::new(COUNTER, number.to_string()),
            Put::new(format!("{INCREMENTS}{id}"), increment),
        ];
        let hold = fence.create_revision;
        let (at, believes) = hold::belief(hold, held);
        say_own_at(at, Event::Writing { id: id.clone(), number, hold, held: believes });
        match held.txn().and_then(puts).await {
            Ok(done) => {
                if !done.succeeded {
                    broken(format!("{id} has no condition that failed"));
                }
                say_own(Event::Wrote { id, revision: done.header.revision });
                End::Well
            }
            Err(error) if error.may_have_been_applied() => {
                say_own(Event::Unknown { id: id.clone(), text: error.to_string() });
                End::Unknown(id)
            }
            Err(error) => {
                let kind = format!("{:?}", error.kind());
                say_own(Event::Refused { id, kind, text: error.to_string() });
                failed("write", &error);
                if error.kind() == ErrorKind::Lost {
                    let reason = format!("{:?}", error.loss_reason());
                    if held.is_held() {
                        broken(format!("held, though a write was refused: {reason}"));
                    }
                    hold::lost(hold, reason);
                }
                End::Badly
            }
        }
    }

    /// An increment is unknown. A late copy may be done for as long as the fence is in etcd; once
    /// that is given back, what is not there never will be.
    pub(crate) async fn settle(&self, id: String) {
        match self.client.count(format!("{INCREMENTS}{id}")).await {
            Ok(found) => say_own(Event::Settled { id, there: found.count == 1 }),
            Err(error) => failed("settle", &error),
        }
    }
}

/// What is in etcd when all is over.
pub(crate) async fn found(evidence: Evidence<'_>) -> Result<Found> {
    let counter = evidence.client.get(COUNTER).await?;
    let increments = evidence.keys(INCREMENTS, counter.header.revision).await?;
    Ok(Found { counter: counter.into_kv(), increments })
}
