//! What happens to members and workers, until the time is over.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use rustix::process::Signal;
use tenure_testkit::Cluster;
use tokio::time::{Instant, sleep};

use crate::{
    crew::{At, Crew},
    journal::now,
    random::{Deck, Random},
};

/// A fault, from when until when, in the machine's time.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Fault {
    /// Whether there was a leader that did not know of the next one.
    pub(crate) fn leaves_two_leaders(&self) -> bool {
        [Harm::Paused, Harm::CutOff].iter().any(|harm| self.what == to_member(true, *harm))
    }
}

/// All that was done.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    fn done(&self, what: String, from: u64) {
        self.0.lock().unwrap().push(Fault { what, from, until: now() });
    }

    pub(crate) fn into_inner(self) -> Vec<Fault> {
        self.0.into_inner().unwrap()
    }
}

/// How often each was done.
pub(crate) fn tally(faults: &[Fault]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for fault in faults {
        *tally.entry(&fault.what[..]).or_default() += 1;
    }
    tally
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Killed,
    Paused,
    CutOff,
}

/// All that can be done to a member.
const TO_MEMBERS: [(bool, Harm); 6] = [
    (true, Harm::Killed),
    (true, Harm::Paused),
    (true, Harm::CutOff),
    (false, Harm::Killed),
    (false, Harm::Paused),
    (false, Harm::CutOff),
];

/// All that can be done to a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    Stopped,
    StoppedBeyondItsTtl,
    Killed,
}

/// What takes a holder away for long: nobody has what it held until its lease is over.
pub(crate) const HEAVY: [(Blow, At); 5] = [
    (Blow::StoppedBeyondItsTtl, At::Granted),
    (Blow::StoppedBeyondItsTtl, At::Writing),
    (Blow::Killed, At::Granted),
    (Blow::Killed, At::Writing),
    (Blow::Killed, At::Any),
];

/// What a session mostly survives.
pub(crate) const LIGHT: [(Blow, At); 3] =
    [(Blow::Stopped, At::Granted), (Blow::Stopped, At::Writing), (Blow::Stopped, At::Any)];

/// The names of all faults.
pub(crate) fn all() -> impl Iterator<Item = String> {
    let members = TO_MEMBERS.into_iter().map(|(leader, harm)| to_member(leader, harm));
    members.chain(HEAVY.into_iter().chain(LIGHT).map(|(blow, at)| to_worker(blow, at)))
}

fn to_member(leader: bool, harm: Harm) -> String {
    format!("{} {harm:?}", if leader { "leader" } else { "follower" })
}

fn to_worker(blow: Blow, at: At) -> String {
    format!("worker {blow:?} {at:?}")
}

/// Hurts one member after the other, each of them healed before the next.
pub(crate) async fn hurt_members(
    cluster: &Cluster,
    crew: &Crew,
    mut random: Random,
    until: Instant,
    faults: &Faults,
) {
    let mut deck = Deck::new(TO_MEMBERS);
    loop {
        sleep(random.millis(200..1000)).await;
        // Mostly shorter than what a session survives, sometimes longer.
        let span = if random.one_in(3) { 1500..6000 } else { 200..1500 };
        let span = random.millis(span);
        if Instant::now() + span > until {
            return;
        }
        let (leader, harm) = deck.draw(&mut random);
        let leads = cluster.leader().await.unwrap();
        let index = if leader { leads } else { (leads + random.within(1..3) as usize) % 3 };
        if random.one_in(2) {
            crew.writing().await;
        }
        let from = now();
        match harm {
            Harm::Killed if loses_data_when_killed(cluster) => cluster.stop(index).await.unwrap(),
            Harm::Killed => cluster.kill(index).unwrap(),
            Harm::Paused => cluster.pause(index).unwrap(),
            Harm::CutOff => cluster.isolate(index).unwrap(),
        }
        sleep(span).await;
        match harm {
            Harm::Killed => cluster.restart(index).await.unwrap(),
            Harm::Paused => cluster.resume(index).unwrap(),
            Harm::CutOff => cluster.heal(index),
        }
        cluster.wait_ready().await.unwrap();
        faults.done(to_member(leader, harm), from);
    }
}

/// Before 3.5.3 an etcd 3.5 that is killed while it writes may come back without some of it, and
/// with other revisions than its siblings (its issue 13766). No recipe can stand on that, so that
/// one is asked to end.
fn loses_data_when_killed(cluster: &Cluster) -> bool {
    ((3, 5, 0)..(3, 5, 3)).contains(&cluster.etcd().version())
}

/// Hurts one worker after the other, holders above all.
pub(crate) async fn hurt_workers(
    crew: &Crew,
    blows: impl IntoIterator<Item = (Blow, At)>,
    mut random: Random,
    until: Instant,
    faults: &Faults,
) {
    let mut deck = Deck::new(blows);
    loop {
        sleep(random.millis(100..1500)).await;
        if Instant::now() > until {
            return;
        }
        let (blow, at) = deck.draw(&mut random);
        if !matches!(blow, Blow::Stopped) {
            crew.flowing().await;
        }
        let signal = match blow {
            Blow::Killed => Signal::KILL,
            Blow::Stopped | Blow::StoppedBeyondItsTtl => Signal::STOP,
        };
        let hit = crew.hit(at, signal, &mut random).await;
        let at = if hit.by_chance { At::Any } else { at };
        let from = now();
        let beyond = match blow {
            Blow::StoppedBeyondItsTtl => hit.ttl(),
            Blow::Stopped | Blow::Killed => Duration::ZERO,
        };
        sleep(beyond + random.millis(50..1000)).await;
        match blow {
            Blow::Killed => hit.replace(),
            Blow::Stopped | Blow::StoppedBeyondItsTtl => hit.resume(),
        }
        faults.done(to_worker(blow, at), from);
    }
}
