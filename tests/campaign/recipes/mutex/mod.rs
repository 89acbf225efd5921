//! Twenty processes count under one lock: no increment is lost, none is done twice, and none is
//! done by anybody but the holder.

mod observer;

use std::time::Duration;

use tenure::{Mutex, MutexGuard, Release, Result};
use tenure_testkit::Cluster;
use tokio::time::{sleep, timeout};

use self::observer::Observer;
use crate::{
    counting::{self, Counter, End},
    hold,
    journal::{Event, failed, say},
    judges::{
        chronicle::Chronicle,
        claims::{self, Aftermath},
        counting::Count,
    },
    random::Random,
    recipe::{Evidence, Recipe, Verdict},
    worker::Worker,
};

/// What they lock.
const LOCK: &str = "campaign";
/// Long for a turn among twenty, also when some of them are dead until their leases are over.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct CountsUnderAMutex {
    counter: Counter,
    mutex: Mutex,
    random: Random,
}

impl CountsUnderAMutex {
    async fn hold(&mut self, guard: MutexGuard) {
        let fence = guard.fence();
        let hold = fence.create_revision;
        hold::granted(&fence, 1);
        let work = self.counter.count(&guard, fence, &mut self.random);
        match hold::while_held(hold, &guard, work).await {
            End::Unknown(id) => {
                if hold::release(hold, guard.release()).await == Some(Release::Released) {
                    self.counter.settle(id).await;
                }
            }
            _ if self.random.one_in(5) => hold::drop_it(hold, guard),
            _ => drop(hold::release(hold, guard.release()).await),
        }
    }
}

impl Recipe for CountsUnderAMutex {
    const TEST: &'static str =
        "processes_count_under_one_mutex_while_members_and_processes_are_hurt";
    const WORKERS: usize = 20;

    fn new(Worker { name, client, session, random }: Worker) -> Self {
        let mutex = Mutex::new(&session, LOCK);
        Self { counter: Counter::new(name, client), mutex, random }
    }

    async fn turn(&mut self) {
        say(Event::Waiting);
        let acquire = self.mutex.acquire();
        let span = self.random.millis(1..300);
        let acquired = match self.random.within(0..20) {
            // Gives up by dropping it.
            0 => match timeout(span, acquire.into_future()).await {
                Ok(acquired) => acquired,
                Err(_) => return,
            },
            1 => acquire.timeout(span).await,
            _ => acquire.timeout(PATIENCE).await,
        };
        match acquired {
            Ok(guard) => self.hold(guard).await,
            Err(error) => {
                failed("acquire", &error);
                sleep(self.random.millis(1..20)).await;
            }
        }
    }

    type Observer = Observer;

    async fn observe(cluster: &Cluster) -> Observer {
        Observer::start(cluster).await
    }

    async fn judge(evidence: Evidence<'_>, observer: &Observer) -> Result<Verdict> {
        let chronicle = Chronicle::<counting::Event>::read(evidence.journals);
        let found = counting::found(evidence).await?;
        let count = Count::of(&chronicle.own, &found);
        let mut complaints = chronicle.complaints.clone();
        complaints.extend(count.complaints.iter().cloned());
        complaints.extend(count.after_successors(&chronicle.claims));
        complaints.extend(claims::rising(&chronicle.claims));
        let crowds = claims::crowds(&chronicle.claims, 1);
        let (wrong, excused) = Aftermath::of(evidence.faults).sort(crowds);
        complaints.extend(wrong);
        let turns = observer.turns();
        let report = [
            count.report(),
            observer::report(&turns, &chronicle.granted),
            claims::report(&excused),
            chronicle.report(),
        ];
        let seen = observer::timeline(&turns);
        Ok(Verdict { complaints, report: report.concat(), done: count.applied(), seen })
    }
}
