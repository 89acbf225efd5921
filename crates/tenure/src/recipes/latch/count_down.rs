use std::{fmt, future::IntoFuture};

use futures::future::BoxFuture;
use tenure_core::{KeyValue, Revision, name::check_name};
use uuid::Uuid;

use super::{Keys, number, persist_a_while, two};
use crate::{
    client::Client,
    error::{Error, Result},
    ops::{Compare, Delete, Get, Op, Put, Txn},
};

/// Takes one off a latch; see [`CountDownLatch::count_down`](super::CountDownLatch::count_down).
/// Begins when it is awaited.
///
/// Dropped before it ends, it is counted, or will be in a moment, or not.
#[must_use = "nothing is counted until it is awaited"]
pub struct CountDown {
    client: Client,
    keys: Result<Keys>,
    id: Result<String>,
}

impl CountDown {
    pub(super) fn new(client: &Client, keys: Result<Keys>) -> Self {
        Self { client: client.clone(), keys, id: Ok(Uuid::new_v4().to_string()) }
    }

    /// Who has arrived, in place of a name made up for this call: of one name, one counts, until
    /// the latch is set again.
    pub fn arrival(mut self, id: impl Into<String>) -> Self {
        let id = id.into();
        let checked = check_name(&id).map_err(|rule| Error::invalid("latch arrival", rule));
        self.id = checked.map(|()| id);
        self
    }

    async fn run(self) -> Result<u64> {
        let keys = self.keys?;
        let arrival = keys.arrival(&self.id?);
        let look = [Get::new(keys.count()), Get::new(arrival.clone())];
        let read = self.client.txn().and_then(look.clone()).await?;
        let mut found = two(read.responses)?;
        loop {
            let [Some(count), None] = &found else {
                return found[0].as_ref().map_or(Ok(0), number);
            };
            let left = number(count)?.saturating_sub(1);
            // Once any copy of it is applied, the count is of another revision.
            let same = Compare::mod_revision(keys.count()).equal(count.mod_revision);
            let txn = Txn::new()
                .when([same, Compare::missing(arrival.clone())])
                .and_then(counted(&keys, &arrival, left))
                .or_else(look.clone());
            let (answer, repeated) = persist_a_while(&self.client, &txn).await?;
            if answer.succeeded {
                return Ok(left);
            }
            let round = count.create_revision;
            found = two(answer.responses)?;
            // The latch may have been set again since, with all arrivals forgotten.
            if repeated && is_of_another_round(&found, round) {
                return Err(super::unknown());
            }
        }
    }
}

fn counted(keys: &Keys, arrival: &bytes::Bytes, left: u64) -> Vec<Op> {
    let arrived = Put::new(arrival, "").into();
    match left {
        0 => vec![arrived, Delete::new(keys.count()).into(), Put::new(keys.open(), "").into()],
        left => vec![arrived, Put::new(keys.count(), left.to_string()).into()],
    }
}

fn is_of_another_round(found: &[Option<KeyValue>; 2], round: Revision) -> bool {
    matches!(found, [Some(count), None] if count.create_revision != round)
}

impl IntoFuture for CountDown {
    type Output = Result<u64>;
    type IntoFuture = BoxFuture<'static, Result<u64>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for CountDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountDown").finish_non_exhaustive()
    }
}
