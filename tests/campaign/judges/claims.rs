//! Holds, in true time: whether more was held at once than there is, and whether later holds have
//! higher fences.

use std::fmt;

use tenure::Revision;

use super::rwlock::{READER, WRITER};
use crate::{faults::Fault, journal::Name};

/// How long after its leader was frozen or cut off etcd may still take a lease too early: a leader
/// of old that wakes up revokes by its old clock what the new one has renewed (etcd's issues 12528
/// and 15247), or renews for a moment what is not its own any more. The longest TTL, and a little.
const AFTERMATH: u64 = 5_000_000_000;

/// A hold, for as long as the worker surely believed in it.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) worker: Name,
    /// When its key was created.
    pub(crate) hold: Revision,
    /// How much it takes of what there is.
    pub(crate) weight: u64,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, hold, from, until, .. } = self;
        write!(f, "{worker} with fence {hold} from {from} until {until}")
    }
}

/// More than there is, once somebody was granted something, too.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    /// The last to come.
    pub(crate) last: Claim,
    /// Those who believed at that time.
    pub(crate) others: Vec<Claim>,
}

impl Crowd {
    fn millis(&self) -> u64 {
        let until = self.others.iter().map(|other| other.until).max().unwrap_or_default();
        until.saturating_sub(self.last.from) / 1_000_000
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<String> = self.others.iter().map(Claim::to_string).collect();
        let count = others.len() + 1;
        write!(
            f,
            "{count} believe for {} ms: {}, and {}",
            self.millis(),
            others.join(", "),
            self.last
        )
    }
}

/// Who came while others believed: each claim, and those.
fn meetings(claims: &[Claim]) -> impl Iterator<Item = Crowd> {
    let mut sorted = claims.to_vec();
    sorted.sort_by_key(|claim| claim.from);
    let mut present: Vec<Claim> = Vec::new();
    sorted.into_iter().map(move |last| {
        present.retain(|other| other.until >= last.from);
        let others = present.clone();
        present.push(last.clone());
        Crowd { last, others }
    })
}

fn weight(Crowd { last, others }: &Crowd) -> u64 {
    others.iter().fold(last.weight, |sum, other| sum + other.weight)
}

/// Whenever more was held than there is.
pub(crate) fn crowds(claims: &[Claim], there_is: u64) -> Vec<Crowd> {
    meetings(claims).filter(|crowd| weight(crowd) > there_is).collect()
}

/// The most that was held at once, by true time.
pub(crate) fn most(claims: &[Claim]) -> u64 {
    meetings(claims).map(|crowd| weight(&crowd)).max().unwrap_or_default()
}

/// What of it is etcd's doing: times at which it may take a lease too early.
pub(crate) struct Aftermath(Vec<(u64, u64)>);

impl Aftermath {
    pub(crate) fn of(faults: &[Fault]) -> Self {
        let two_leaders = faults.iter().filter(|fault| fault.leaves_two_leaders());
        Self(two_leaders.map(|fault| (fault.from, fault.until + AFTERMATH)).collect())
    }

    pub(crate) fn covers(&self, at: u64) -> bool {
        self.0.iter().any(|(from, until)| *from < at && at < *until)
    }

    /// Those to complain of, and those that are excused.
    pub(crate) fn sort(&self, crowds: Vec<Crowd>) -> (Vec<String>, Vec<Crowd>) {
        let (excused, wrong): (Vec<_>, Vec<_>) =
            crowds.into_iter().partition(|crowd| self.covers(crowd.last.from));
        (wrong.iter().map(Crowd::to_string).collect(), excused)
    }
}

/// Complains of whoever was granted something after another with a higher fence.
pub(crate) fn rising(claims: &[Claim]) -> Vec<String> {
    let mut sorted: Vec<&Claim> = claims.iter().collect();
    sorted.sort_by_key(|claim| claim.from);
    let mut highest = Revision::NONE;
    let mut complaints = Vec::new();
    for claim in sorted {
        if claim.hold <= highest {
            complaints.push(format!("fence {} was held after {highest}", claim.hold));
        }
        highest = highest.max(claim.hold);
    }
    complaints
}

pub(crate) fn report(excused: &[Crowd]) -> String {
    if excused.is_empty() {
        return String::new();
    }
    format!(
        "{} times somebody believed for a while after etcd took the lease too early, ms: {:?}\n",
        excused.len(),
        excused.iter().map(Crowd::millis).collect::<Vec<_>>(),
    )
}

fn claim(slot: usize, hold: i64, weight: u64, from: u64, until: u64) -> Claim {
    let worker = Name { slot, generation: 0 };
    Claim { worker, hold: Revision(hold), weight, from, until }
}

/// One at a time is well; two at once are not, not even for an instant, nor is one that comes while
/// the first of two before it still believes.
fn two_holders_at_once_are_found() {
    let first = claim(0, 1, 1, 10, 20);
    assert!(crowds(&[first.clone(), claim(1, 2, 1, 21, 30)], 1).is_empty());
    assert_eq!(crowds(&[first.clone(), claim(1, 2, 1, 20, 30)], 1).len(), 1);
    let long = claim(2, 1, 1, 0, 100);
    assert_eq!(crowds(&[long, first, claim(1, 2, 1, 50, 60)], 1).len(), 2);
}

/// Weights count, and so does every one of those who are there.
fn more_permits_than_there_are_are_found() {
    let three = [claim(0, 1, 2, 0, 50), claim(1, 2, 1, 10, 60), claim(2, 3, 2, 51, 70)];
    assert!(crowds(&three, 3).is_empty());
    let four = [&three[..], &[claim(3, 4, 1, 60, 61)]].concat();
    let found = crowds(&four, 3);
    assert_eq!((found.len(), found[0].others.len()), (1, 2));
    assert_eq!((most(&three), most(&four), most(&[])), (3, 4, 0));
}

fn a_reader_beside_a_writer_is_found() {
    let readers = [claim(0, 1, READER, 0, 50), claim(1, 2, READER, 10, 60)];
    assert!(crowds(&readers, WRITER).is_empty());
    let writer = |from| [&readers[..], &[claim(2, 3, WRITER, from, 70)]].concat();
    assert!(crowds(&writer(61), WRITER).is_empty());
    assert_eq!(crowds(&writer(60), WRITER).len(), 1);
    let reader = [&writer(61)[..], &[claim(3, 4, READER, 65, 90)]].concat();
    assert_eq!(crowds(&reader, WRITER).len(), 1);
}

/// A leader that was frozen excuses two holders, for a while; one that was killed does not.
fn only_the_aftermath_of_two_leaders_excuses_two_holders() {
    let late = AFTERMATH + 300;
    let crowds = crowds(
        &[claim(0, 1, 1, 10, 20), claim(1, 2, 1, 15, 16), claim(2, 3, 1, late, late + 10)],
        1,
    );
    let excused = |what: &str| {
        let fault = |from, until| Fault { what: what.to_owned(), from, until };
        let aftermath = Aftermath::of(&[fault(12, 14), fault(100, 200)]);
        let (wrong, excused) = aftermath.sort(crowds.clone());
        assert_eq!(wrong.len() + excused.len(), 1);
        assert!(!aftermath.covers(late + 1));
        excused.len()
    };
    assert_eq!(excused("leader Paused"), 1);
    assert_eq!(excused("leader Killed"), 0);
    assert_eq!(excused("follower Paused"), 0);
}

fn a_fence_that_does_not_rise_is_found() {
    let claims = [claim(0, 5, 1, 10, 20), claim(1, 6, 1, 30, 40), claim(0, 8, 1, 50, 60)];
    assert!(rising(&claims).is_empty());
    let early = |hold| [&claims[..], &[claim(2, hold, 1, 45, 46)]].concat();
    assert!(rising(&early(7)).is_empty());
    assert_eq!(rising(&early(6)).len(), 1);
    assert_eq!(rising(&early(4)).len(), 1);
}

super::cases![
    two_holders_at_once_are_found,
    more_permits_than_there_are_are_found,
    a_reader_beside_a_writer_is_found,
    only_the_aftermath_of_two_leaders_excuses_two_holders,
    a_fence_that_does_not_rise_is_found,
];
