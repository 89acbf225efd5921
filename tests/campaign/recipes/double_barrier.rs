//! Processes meet at a double barrier that has room for half of them: nobody gets in before as many
//! as it takes have come, and nobody out before all who are in want to go. Whoever is dead or
//! stopped is replaced, or passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use tenure::{DoubleBarrier, ErrorKind, EventKind, Holder, Membership, Release, Result, Revision};
use tenure_testkit::Cluster;
use tokio::time::{sleep, timeout};

use crate::{
    hold,
    journal::{Moment, Name, Tell, Written, failed, say_own},
    judges::{
        barrier::{self, Visit},
        chronicle::Chronicle,
        claims::{Aftermath, Claim},
    },
    random::Random,
    recipe::{Evidence, Recipe, Verdict},
    worker::Worker,
};

const BARRIER: &str = "campaign";
const PREFIX: &str = "tenure/double-barrier/campaign/";
const PARTIES: usize = 4;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It asks to enter.
    Comes,
    /// It has entered.
    Entered {
        #[serde(with = "Written")]
        hold: Revision,
        #[serde(with = "Written")]
        round: Revision,
    },
    /// As many as it takes were there before.
    Full,
    /// It left, with all the others.
    Left {
        #[serde(with = "Written")]
        hold: Revision,
    },
}

impl Tell for Event {
    fn moment(&self) -> Option<Moment> {
        matches!(self, Self::Comes).then_some(Moment::Writing)
    }
}

pub(crate) struct MeetsAtABarrier {
    barrier: DoubleBarrier,
    random: Random,
}

impl MeetsAtABarrier {
    async fn enter(&mut self) -> Option<Membership> {
        say_own(Event::Comes);
        let enter = self.barrier.enter();
        let span = self.random.millis(1..300);
        let entered = match self.random.within(0..20) {
            // Gives up by dropping it.
            0 => timeout(span, enter.into_future()).await.ok()?,
            1 => enter.timeout(span).await,
            // The last who are there when the campaign ends wait in vain.
            _ => enter.timeout(self.random.millis(2000..6000)).await,
        };
        match entered {
            Ok(member) => Some(member),
            Err(error) => {
                match error.kind() {
                    ErrorKind::Full => say_own(Event::Full),
                    _ => failed("enter", &error),
                }
                sleep(self.random.millis(5..50)).await;
                None
            }
        }
    }

    async fn stay(&mut self, member: Membership) {
        let hold = member.fence().create_revision;
        say_own(Event::Entered { hold, round: member.round() });
        hold::granted(&member.fence(), 1);
        hold::while_held(hold, &member, sleep(self.random.millis(0..40))).await;
        if self.random.one_in(10) {
            return hold::drop_it(hold, member);
        }
        let leave = member.leave();
        let leave = match self.random.one_in(5) {
            true => leave.timeout(self.random.millis(1..100)),
            false => leave,
        };
        if hold::release(hold, leave.into_future()).await == Some(Release::Released) {
            say_own(Event::Left { hold });
        }
    }
}

impl Recipe for MeetsAtABarrier {
    const TEST: &'static str =
        "processes_meet_at_a_double_barrier_while_members_and_processes_are_hurt";
    const WORKERS: usize = 8;

    fn new(Worker { session, random, .. }: Worker) -> Self {
        Self { barrier: DoubleBarrier::new(&session, BARRIER, PARTIES), random }
    }

    async fn turn(&mut self) {
        if let Some(member) = self.enter().await {
            self.stay(member).await;
        }
    }

    type Observer = ();

    async fn observe(_: &Cluster) {}

    async fn judge(evidence: Evidence<'_>, (): &()) -> Result<Verdict> {
        let chronicle = Chronicle::<Event>::read(evidence.journals);
        let (rounds, mut complaints) = rounds(evidence).await?;
        complaints.extend(chronicle.complaints.iter().cloned());
        let mut visits = told(&chronicle.own, &chronicle.claims);
        let done = visits.len();
        visits.extend(never_entered(&chronicle.own, &rounds));
        let aftermath = Aftermath::of(evidence.faults);
        complaints.extend(barrier::early(&visits, PARTIES, &aftermath));
        let left = visits.iter().filter(|visit| visit.left.is_some()).count();
        let report = format!(
            "{} rounds, {done} entered and {left} left with the others; {} were told it is full\n",
            rounds.len(),
            chronicle.own.iter().filter(|(_, _, event)| matches!(event, Event::Full)).count(),
        );
        Ok(Verdict { complaints, report: report + &chronicle.report(), done, seen: Vec::new() })
    }
}

/// A member of a round, as etcd had it.
#[derive(Clone, Debug)]
struct Member {
    created: Revision,
    /// The worker, by its name.
    whose: String,
}

/// Who was in the barrier, by rounds, when the ready key said for the first time that it began; and
/// whether as many as it takes were there that were in no round before.
async fn rounds(evidence: Evidence<'_>) -> Result<(BTreeMap<Revision, Vec<Member>>, Vec<String>)> {
    let mut there: HashMap<_, Member> = HashMap::new();
    let mut rounds: BTreeMap<Revision, Vec<Member>> = BTreeMap::new();
    let mut met = BTreeSet::new();
    let mut complaints = Vec::new();
    for event in evidence.history(PREFIX).await? {
        let kv = event.kv;
        if event.kind == EventKind::Delete {
            there.remove(&kv.key);
        } else if kv.key == format!("{PREFIX}ready") {
            let written = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
            let round = Revision(written.expect("the ready key says which round it is"));
            if rounds.contains_key(&round) {
                continue;
            }
            let of_it = |member: &&Member| member.created <= round;
            let members: Vec<_> = there.values().filter(of_it).cloned().collect();
            let fresh = members.iter().filter(|member| met.insert(member.created)).count();
            if fresh != PARTIES {
                complaints.push(format!("round {round} began with {fresh} who came for it"));
            }
            rounds.insert(round, members);
        } else if kv.key.starts_with(format!("{PREFIX}waiters/").as_bytes()) {
            let holder = serde_json::from_slice::<Holder>(&kv.value);
            let whose = holder.map_or_else(|_| "?".to_owned(), |holder| holder.name);
            there.insert(kv.key, Member { created: kv.create_revision, whose });
        }
    }
    Ok((rounds, complaints))
}

/// What those say who entered and believed in it.
fn told(said: &[(Name, u64, Event)], claims: &[Claim]) -> Vec<Visit> {
    let claims: HashMap<Revision, &Claim> = claims.iter().map(|it| (it.hold, it)).collect();
    let mut visits: BTreeMap<Revision, Visit> = BTreeMap::new();
    let mut asked = HashMap::new();
    for (worker, at, event) in said {
        match event {
            Event::Comes => drop(asked.insert(*worker, *at)),
            Event::Entered { hold, round } => {
                let (worker, round, came) = (*worker, round.0 as u64, asked[worker]);
                let inside = claims.get(hold).map(|claim| (claim.from, claim.until));
                visits.insert(*hold, Visit { worker, round, came, inside, left: None });
            }
            Event::Left { hold } => {
                visits.get_mut(hold).expect("it entered before").left = Some(*at);
            }
            Event::Full => {}
        }
    }
    visits.into_values().collect()
}

/// Those of each round who never heard of it: as they gave up, were stopped, or are dead.
fn never_entered(
    said: &[(Name, u64, Event)],
    rounds: &BTreeMap<Revision, Vec<Member>>,
) -> Vec<Visit> {
    let mut entered = BTreeSet::new();
    let mut in_vain: HashMap<Name, u64> = HashMap::new();
    let mut asked: HashMap<Name, u64> = HashMap::new();
    for (worker, at, event) in said {
        match event {
            Event::Comes => {
                if let Some(before) = asked.insert(*worker, *at) {
                    in_vain.entry(*worker).or_insert(before);
                }
            }
            Event::Entered { hold, .. } => {
                entered.insert(*hold);
                asked.remove(worker);
            }
            _ => {}
        }
    }
    for (worker, at) in asked {
        in_vain.entry(worker).or_insert(at);
    }
    let by_name: HashMap<String, (Name, u64)> =
        in_vain.iter().map(|(worker, came)| (worker.to_string(), (*worker, *came))).collect();
    let mut visits = Vec::new();
    for (round, members) in rounds {
        let others = members.iter().filter(|member| !entered.contains(&member.created));
        for (count, member) in others.enumerate() {
            if let Some((worker, came)) = by_name.get(&member.whose) {
                // One that has lost its session is there twice, until its lease is over.
                let slot = MeetsAtABarrier::WORKERS + count;
                let worker = Name { slot, ..*worker };
                let (round, came) = (round.0 as u64, *came);
                visits.push(Visit { worker, round, came, inside: None, left: None });
            }
        }
    }
    visits
}
