//! Leaders, as they are seen: each term has one, and whoever looks sees terms rise. What leaders
//! believe is judged as claims, and what they do as increments.

use std::collections::BTreeMap;

use tenure::Revision;

use super::claims::Claim;
use crate::journal::Name;

/// A leader that somebody saw.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) observer: Name,
    pub(crate) at: u64,
    /// The creation of the leader's key.
    pub(crate) term: Revision,
    /// Who the leader said to be.
    pub(crate) leader: Name,
}

pub(crate) fn terms(claims: &[Claim], sights: &[Sight]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut leaders: BTreeMap<Revision, Name> = BTreeMap::new();
    let said = claims.iter().map(|claim| (claim.hold, claim.worker));
    for (term, leader) in said.chain(sights.iter().map(|sight| (sight.term, sight.leader))) {
        let first = *leaders.entry(term).or_insert(leader);
        if first != leader {
            complaints.push(format!("term {term} is of {first} and of {leader}"));
        }
    }
    let mut sorted: Vec<&Sight> = sights.iter().collect();
    sorted.sort_by_key(|sight| sight.at);
    let mut newest: BTreeMap<Name, Revision> = BTreeMap::new();
    for Sight { observer, at, term, .. } in sorted {
        let newest = newest.entry(*observer).or_insert(*term);
        if term < newest {
            complaints.push(format!("{observer} saw term {term} after {newest}, at {at}"));
        }
        *newest = *term.max(newest);
    }
    complaints
}

fn worker(slot: usize) -> Name {
    Name { slot, generation: 0 }
}

fn sight(observer: usize, at: u64, term: i64, leader: usize) -> Sight {
    Sight { observer: worker(observer), at, term: Revision(term), leader: worker(leader) }
}

/// A claim of the first worker.
fn led(term: i64) -> Claim {
    Claim { worker: worker(0), hold: Revision(term), weight: 1, from: 10, until: 20 }
}

fn a_term_of_two_leaders_is_found() {
    let sights = [sight(5, 12, 3, 0), sight(5, 30, 4, 1), sight(6, 40, 4, 1)];
    assert!(terms(&[led(3)], &sights).is_empty());
    assert_eq!(terms(&[led(4)], &sights).len(), 2);
    assert_eq!(terms(&[], &[sight(5, 12, 3, 0), sight(6, 12, 3, 1)]).len(), 1);
    let other = Claim { worker: worker(1), ..led(3) };
    assert_eq!(terms(&[led(3), other], &[]).len(), 1);
}

/// Two observers need not be equally far, but neither goes back.
fn an_observer_that_goes_back_is_found() {
    let sights = [sight(5, 12, 3, 0), sight(5, 13, 4, 1), sight(6, 14, 3, 0), sight(5, 15, 4, 1)];
    assert!(terms(&[], &sights).is_empty());
    let back = [&sights[..], &[sight(5, 16, 3, 0)]].concat();
    assert_eq!(terms(&[], &back).len(), 1);
}

super::cases![a_term_of_two_leaders_is_found, an_observer_that_goes_back_is_found];
