//! Processes lead in turn, and count while they do: each term has one leader, whoever looks sees
//! terms rise, no increment is lost, and none is done by anybody but the leader, whatever it
//! proclaims meanwhile and however it leaves.

mod observer;

use std::time::Duration;

use futures::join;
use tenure::{Contender, Election, Fence, Leadership, Release, Result, TransferError};
use tenure_testkit::Cluster;
use tokio::time::{sleep, timeout};

use self::observer::Observer;
use crate::{
    counting::{self, Counter, End},
    hold,
    journal::{Event, Name, failed, say},
    judges::{
        chronicle::Chronicle,
        claims::{self, Aftermath},
        counting::Count,
        election::terms,
    },
    random::Random,
    recipe::{Evidence, Recipe, Verdict},
    worker::Worker,
};

/// What they lead.
const ELECTION: &str = "campaign";
/// Long for a turn among twelve, also when some of them are dead until their leases are over.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct LeadersCount {
    name: Name,
    counter: Counter,
    election: Election,
    random: Random,
}

impl LeadersCount {
    async fn lead(&mut self, leadership: Leadership) {
        let fence = leadership.fence();
        let hold = fence.create_revision;
        hold::granted(&fence, 1);
        let work = self.work(&leadership, fence);
        match hold::while_held(hold, &leadership, work).await {
            End::Unknown(id) => {
                if hold::release(hold, leadership.resign()).await == Some(Release::Released) {
                    self.counter.settle(id).await;
                }
            }
            _ if self.random.one_in(6) => hold::drop_it(hold, leadership),
            _ => {
                let next = if self.random.one_in(2) { self.next().await } else { None };
                hold::release(hold, leave(leadership, next)).await;
            }
        }
    }

    /// Counts, and now and then proclaims at the same time.
    async fn work(&mut self, leadership: &Leadership, fence: Fence) -> End {
        let mut random = self.random.fork();
        let proclaims = async {
            for number in 0..random.within(0..4) {
                sleep(random.millis(0..10)).await;
                if let Err(error) = leadership.proclaim(format!("{} {number}", self.name)).await {
                    return failed("proclaim", &error);
                }
            }
        };
        join!(self.counter.count(leadership, fence, &mut self.random), proclaims).0
    }

    /// Who is next in line.
    async fn next(&self) -> Option<Contender> {
        match self.election.candidates().await {
            Ok(candidates) => candidates.into_iter().nth(1),
            Err(error) => {
                failed("candidates", &error);
                None
            }
        }
    }
}

/// Transfers the leadership, or resigns if nobody is next, or is gone.
async fn leave(leadership: Leadership, next: Option<Contender>) -> Result<Release> {
    let Some(next) = next else { return leadership.resign().await };
    match leadership.transfer(&next).await {
        Ok(()) => Ok(Release::Released),
        Err(TransferError { leadership: Some(leadership), .. }) => leadership.resign().await,
        Err(TransferError { error, .. }) => match error.loss_reason() {
            Some(reason) => Ok(Release::AlreadyLost(reason)),
            None => Err(error),
        },
    }
}

impl Recipe for LeadersCount {
    const TEST: &'static str = "leaders_count_in_turn_while_members_and_processes_are_hurt";
    const WORKERS: usize = 12;

    fn new(Worker { name, client, session, random }: Worker) -> Self {
        let election = Election::new(&session, ELECTION);
        Self { name, counter: Counter::new(name, client), election, random }
    }

    async fn turn(&mut self) {
        say(Event::Waiting);
        let campaign = self.election.campaign(self.name.to_string());
        let span = self.random.millis(1..300);
        let elected = match self.random.within(0..20) {
            // Gives up by dropping it.
            0 => match timeout(span, campaign.into_future()).await {
                Ok(elected) => elected,
                Err(_) => return,
            },
            1 => campaign.timeout(span).await,
            _ => campaign.timeout(PATIENCE).await,
        };
        match elected {
            Ok(leadership) => self.lead(leadership).await,
            Err(error) => {
                failed("campaign", &error);
                sleep(self.random.millis(1..20)).await;
            }
        }
    }

    type Observer = Observer;

    async fn observe(cluster: &Cluster) -> Observer {
        Observer::start(cluster, Self::WORKERS).await
    }

    async fn judge(evidence: Evidence<'_>, observer: &Observer) -> Result<Verdict> {
        let chronicle = Chronicle::<counting::Event>::read(evidence.journals);
        let found = counting::found(evidence).await?;
        let count = Count::of(&chronicle.own, &found);
        let sights = observer.sights();
        let mut complaints = chronicle.complaints.clone();
        complaints.extend(observer.complaints());
        complaints.extend(count.complaints.iter().cloned());
        complaints.extend(count.after_successors(&chronicle.claims));
        complaints.extend(claims::rising(&chronicle.claims));
        complaints.extend(terms(&chronicle.claims, &sights));
        let crowds = claims::crowds(&chronicle.claims, 1);
        let (wrong, excused) = Aftermath::of(evidence.faults).sort(crowds);
        complaints.extend(wrong);
        let report =
            [count.report(), observer.report(), claims::report(&excused), chronicle.report()];
        let seen = observer::timeline(&sights);
        Ok(Verdict { complaints, report: report.concat(), done: count.applied(), seen })
    }
}
