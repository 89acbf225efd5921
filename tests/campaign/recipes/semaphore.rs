//! Twenty processes share five permits: never are more out than there are, by true time.

use serde::{Deserialize, Serialize};
use tenure::{Client, Permits, Result, Semaphore};
use tenure_testkit::Cluster;
use tokio::time::sleep;

use crate::{
    asking::ask,
    hold,
    journal::{Moment, Name, Tell, failed, say_own},
    judges::{
        chronicle::Chronicle,
        claims::{self, Aftermath},
    },
    random::Random,
    recipe::{Evidence, Recipe, Verdict},
    worker::Worker,
};

const SEMAPHORE: &str = "campaign";
/// How many there are.
const PERMITS: u32 = 5;
/// The most that one asks for.
const MOST: u64 = 3;

pub(crate) struct SharesPermits {
    name: Name,
    semaphore: Semaphore,
    random: Random,
}

/// It sends a write that only a holder may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Writing;

impl Tell for Writing {
    fn moment(&self) -> Option<Moment> {
        Some(Moment::Writing)
    }
}

impl SharesPermits {
    async fn hold(&mut self, permits: Permits) {
        let fence = permits.fence();
        let hold = fence.create_revision;
        hold::granted(&fence, permits.count().into());
        let (name, span) = (self.name, self.random.millis(0..30));
        let work = async {
            say_own(Writing);
            let key = format!("campaign/permits/{name}");
            if let Err(error) = permits.kv().put(key, fence.to_string()).await {
                failed("write", &error);
            }
            sleep(span).await;
        };
        hold::while_held(hold, &permits, work).await;
        if self.random.one_in(5) {
            hold::drop_it(hold, permits);
        } else {
            hold::release(hold, permits.release()).await;
        }
    }

    /// The number stays when all are gone.
    async fn forget_number(client: &Client) -> Result<Option<String>> {
        let found = client.get(format!("tenure/semaphore/{SEMAPHORE}/limit")).await?.into_kv();
        let Some(kv) = found else { return Ok(Some("the number of permits is gone".to_owned())) };
        client.delete(kv.key).await?;
        let right = kv.version == 1 && kv.value == PERMITS.to_string();
        Ok((!right).then(|| format!("the number of permits was put {} times", kv.version)))
    }
}

impl Recipe for SharesPermits {
    const TEST: &'static str = "processes_share_permits_while_members_and_processes_are_hurt";
    const WORKERS: usize = 20;

    fn new(Worker { name, session, random, .. }: Worker) -> Self {
        Self { name, semaphore: Semaphore::new(&session, SEMAPHORE, PERMITS), random }
    }

    async fn turn(&mut self) {
        let wanted = self.random.within(1..MOST + 1) as u32;
        if let Some(permits) = ask(self.semaphore.acquire(wanted), &mut self.random).await {
            self.hold(permits).await;
        }
    }

    type Observer = ();

    async fn observe(_: &Cluster) {}

    async fn judge(evidence: Evidence<'_>, _: &()) -> Result<Verdict> {
        let chronicle = Chronicle::<Writing>::read(evidence.journals);
        let mut complaints = chronicle.complaints.clone();
        let crowds = claims::crowds(&chronicle.claims, PERMITS.into());
        let (wrong, excused) = Aftermath::of(evidence.faults).sort(crowds);
        complaints.extend(wrong);
        complaints.extend(Self::forget_number(evidence.client).await?);
        let most = format!("{} permits out at the most\n", claims::most(&chronicle.claims));
        let report = [most, claims::report(&excused), chronicle.report()].concat();
        let done = chronicle.granted.len();
        Ok(Verdict { complaints, report, done, seen: Vec::new() })
    }
}
