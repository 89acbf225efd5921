//! Twenty processes under one read-write lock: writers count, readers see a count that stands
//! still, and some writers become readers.

use serde::{Deserialize, Serialize};
use tenure::{ReadGuard, Release, Result, RwLock, WriteGuard};
use tenure_testkit::Cluster;
use tokio::time::sleep;

use crate::{
    asking::ask,
    counting::{self, Counter, End},
    hold,
    journal::{Moment, Tell, failed, say_own},
    judges::{
        chronicle::Chronicle,
        claims::{self, Aftermath, Claim},
        counting::Count,
        rwlock::{READER, Reading, WRITER, written_beside},
    },
    random::Random,
    recipe::{Evidence, Recipe, Verdict},
    worker::Worker,
};

const LOCK: &str = "campaign";

pub(crate) struct CountsUnderAnRwLock {
    counter: Counter,
    lock: RwLock,
    random: Random,
}

/// A reader read the counter twice under one hold, which it still had then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Read {
    first: u64,
    second: u64,
}

impl Tell for Read {
    fn moment(&self) -> Option<Moment> {
        None
    }
}

/// What readers say, or writers.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Read(Read),
    Counting(counting::Event),
}

impl CountsUnderAnRwLock {
    async fn write(&mut self, guard: WriteGuard) {
        let fence = guard.fence();
        let hold = fence.create_revision;
        hold::granted(&fence, WRITER);
        let work = self.counter.count(&guard, fence, &mut self.random);
        match hold::while_held(hold, &guard, work).await {
            End::Unknown(id) => {
                if hold::release(hold, guard.release()).await == Some(Release::Released) {
                    self.counter.settle(id).await;
                }
            }
            End::Well if self.random.one_in(2) => match guard.downgrade().await {
                Ok(guard) => self.read(guard).await,
                Err(error) => {
                    failed("downgrade", &error);
                    hold::lost(hold, error.to_string());
                }
            },
            _ if self.random.one_in(5) => hold::drop_it(hold, guard),
            _ => drop(hold::release(hold, guard.release()).await),
        }
    }

    async fn read(&mut self, guard: ReadGuard) {
        let fence = guard.fence();
        let hold = fence.create_revision;
        hold::granted(&fence, READER);
        let (counter, span) = (&self.counter, self.random.millis(0..20));
        let work = async {
            let first = counter.read().await?;
            sleep(span).await;
            let second = counter.read().await?;
            guard.is_held().then_some(Read { first, second })
        };
        if let Some(read) = hold::while_held(hold, &guard, work).await {
            say_own(read);
        }
        if self.random.one_in(5) {
            hold::drop_it(hold, guard);
        } else {
            hold::release(hold, guard.release()).await;
        }
    }
}

impl Recipe for CountsUnderAnRwLock {
    const TEST: &'static str =
        "processes_count_and_look_under_one_read_write_lock_while_members_and_processes_are_hurt";
    const WORKERS: usize = 20;

    fn new(Worker { name, client, session, random }: Worker) -> Self {
        let lock = RwLock::new(&session, LOCK);
        Self { counter: Counter::new(name, client), lock, random }
    }

    async fn turn(&mut self) {
        if self.random.one_in(3) {
            if let Some(guard) = ask(self.lock.write(), &mut self.random).await {
                self.write(guard).await;
            }
        } else if let Some(guard) = ask(self.lock.read(), &mut self.random).await {
            self.read(guard).await;
        }
    }

    type Observer = ();

    async fn observe(_: &Cluster) {}

    async fn judge(evidence: Evidence<'_>, _: &()) -> Result<Verdict> {
        let chronicle = Chronicle::<Said>::read(evidence.journals);
        let (mut readings, mut counted) = (Vec::new(), Vec::new());
        for (name, at, said) in &chronicle.own {
            match said {
                Said::Read(Read { first, second }) => {
                    let (first, second) = (*first, *second);
                    readings.push(Reading { reader: *name, at: *at, first, second });
                }
                Said::Counting(event) => counted.push((*name, *at, event.clone())),
            }
        }
        let count = Count::of(&counted, &counting::found(evidence).await?);
        let mut complaints = chronicle.complaints.clone();
        complaints.extend(count.complaints.iter().cloned());
        complaints.extend(count.after_successors(&chronicle.claims));
        let writers = chronicle.claims.iter().filter(|claim| claim.weight == WRITER);
        complaints.extend(claims::rising(&writers.cloned().collect::<Vec<Claim>>()));
        let aftermath = Aftermath::of(evidence.faults);
        complaints.extend(written_beside(&readings, &aftermath));
        let (wrong, excused) = aftermath.sort(claims::crowds(&chronicle.claims, WRITER));
        complaints.extend(wrong);
        let readers: Vec<_> =
            chronicle.claims.iter().filter(|claim| claim.weight == READER).cloned().collect();
        let shared = format!(
            "{} readings, by {} readers at once at the most\n",
            readings.len(),
            claims::most(&readers)
        );
        let report = [count.report(), shared, claims::report(&excused), chronicle.report()];
        let done = count.applied() + readings.len();
        Ok(Verdict { complaints, report: report.concat(), done, seen: Vec::new() })
    }
}
