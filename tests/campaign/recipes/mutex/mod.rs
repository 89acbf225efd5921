//! Twenty processes count under one lock: no increment is lost, none is done twice, and none is
//! done by anybody but the holder.

mod observer;

use tenure::{Mutex, MutexGuard, Release, Result};
use tenure_testkit::Cluster;

use self::observer::Observer;
use crate::{
    asking::ask,
    counting::{self, Counter, End},
    hold,
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
        if let Some(guard) = ask(self.mutex.acquire(), &mut self.random).await {
            self.hold(guard).await;
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
