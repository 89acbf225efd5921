//! Items of a queue: each that was put in comes out, is claimed by one at a time, and is
//! acknowledged once.

use std::collections::{BTreeMap, BTreeSet};

use tenure::Revision;

use super::{
    claims::{Aftermath, Claim, Crowd, crowds, rising},
    outcome::Outcome,
};

/// An acknowledgement that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledgement {
    /// The claim under which.
    pub(crate) hold: Revision,
    pub(crate) outcome: Outcome,
}

/// What became of one item.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    /// How putting it in ended, if anybody did.
    pub(crate) put: Option<Outcome>,
    /// Every claim that was granted, also one that its worker never believed in.
    pub(crate) granted: BTreeSet<Revision>,
    /// What workers believed.
    pub(crate) claims: Vec<Claim>,
    pub(crate) acknowledgements: Vec<Acknowledgement>,
    /// Whether it is in etcd when all have ended.
    pub(crate) left: bool,
}

/// Complains of items, and tells the claims that etcd's taking of leases excuses.
pub(crate) fn items(
    items: &BTreeMap<String, Item>,
    aftermath: &Aftermath,
) -> (Vec<String>, Vec<Crowd>) {
    let mut complaints = Vec::new();
    let mut excused = Vec::new();
    for (id, item) in items {
        let (wrong, harmless) = aftermath.sort(crowds(&item.claims, 1));
        let wrong = wrong.into_iter().chain(rising(&item.claims)).chain(item.course());
        complaints.extend(wrong.map(|text| format!("item {id}: {text}")));
        excused.extend(harmless);
    }
    (complaints, excused)
}

impl Item {
    fn course(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let seen = !self.granted.is_empty();
        match self.put {
            None if seen || self.left => complaints.push("nobody put it in".to_owned()),
            Some(Outcome::Refused | Outcome::Settled(false)) if seen || self.left => {
                complaints.push("it was claimed, or is there, and putting it in failed".to_owned());
            }
            _ => {}
        }
        if self.left {
            complaints.push("it is left".to_owned());
        }
        let surely_in = matches!(self.put, Some(Outcome::Acknowledged(_) | Outcome::Settled(true)));
        let over = |it: &Acknowledgement| {
            !matches!(it.outcome, Outcome::Refused | Outcome::Settled(false))
        };
        let maybe_over = self.acknowledgements.iter().any(over);
        if (surely_in || seen) && !maybe_over && !self.left {
            complaints.push("it is lost".to_owned());
        }
        complaints.extend(self.endings());
        complaints
    }

    /// Acknowledged once, by the last who claimed it.
    fn endings(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let done = |it: &&Acknowledgement| {
            matches!(it.outcome, Outcome::Acknowledged(_) | Outcome::Settled(true))
        };
        let done: Vec<_> = self.acknowledgements.iter().filter(done).collect();
        if done.len() > 1 {
            complaints.push(format!("it was acknowledged {} times", done.len()));
        }
        let last = self.granted.last().copied().unwrap_or(Revision::NONE);
        for Acknowledgement { hold, .. } in done {
            if !self.granted.contains(hold) {
                complaints.push(format!("it was acknowledged under {hold}, which was not granted"));
            }
            if *hold < last {
                complaints.push(format!("it was acknowledged under {hold}, and claimed at {last}"));
            }
        }
        complaints
    }
}

fn complaints(item: Item) -> Vec<String> {
    items(&BTreeMap::from([("i".to_owned(), item)]), &Aftermath::of(&[])).0
}

/// One that was put in, was claimed twice, and acknowledged the second time.
fn well() -> Item {
    let claim = |slot, hold, from| Claim {
        worker: crate::journal::Name { slot, generation: 0 },
        hold: Revision(hold),
        weight: 1,
        from,
        until: from + 5,
    };
    Item {
        put: Some(Outcome::Acknowledged(Revision(1))),
        granted: [Revision(3), Revision(5)].into(),
        claims: vec![claim(0, 3, 10), claim(1, 5, 20)],
        acknowledgements: vec![
            Acknowledgement { hold: Revision(3), outcome: Outcome::Refused },
            Acknowledgement { hold: Revision(5), outcome: Outcome::Acknowledged(Revision(6)) },
        ],
        left: false,
    }
}

fn an_item_that_was_claimed_twice_and_acknowledged_once_is_well() {
    assert_eq!(complaints(well()), [""; 0]);
    let unknown = Some(Outcome::Unknown);
    assert_eq!(complaints(Item { put: unknown, ..well() }), [""; 0]);
    assert_eq!(complaints(Item { put: unknown, ..Item::default() }), [""; 0], "never put in");
    assert_eq!(complaints(Item { put: Some(Outcome::Refused), ..Item::default() }), [""; 0]);
    let mut maybe = well();
    maybe.acknowledgements[1].outcome = Outcome::Unknown;
    assert_eq!(complaints(maybe.clone()), [""; 0], "and then it was not there any more");
    maybe.acknowledgements[1].outcome = Outcome::Settled(true);
    assert_eq!(complaints(maybe), [""; 0]);
}

fn an_item_that_is_lost_left_or_invented_is_found() {
    let put = well().put;
    assert_eq!(complaints(Item { put, ..Item::default() }), ["item i: it is lost"]);
    let mut lost = well();
    lost.acknowledgements.pop();
    assert_eq!(complaints(lost), ["item i: it is lost"], "after it was claimed");
    let mut undone = well();
    undone.acknowledgements[1].outcome = Outcome::Settled(false);
    assert_eq!(complaints(undone), ["item i: it is lost"], "the acknowledgement was not done");
    assert_eq!(complaints(Item { left: true, ..well() }), ["item i: it is left"]);
    assert_eq!(complaints(Item { put: None, ..well() }), ["item i: nobody put it in"]);
    assert_eq!(complaints(Item { put: Some(Outcome::Refused), ..well() }).len(), 1);
}

fn two_claims_of_an_item_at_once_are_found() {
    let mut item = well();
    item.claims[0].until = item.claims[1].from;
    assert_eq!(complaints(item).len(), 1);
    let mut item = well();
    item.claims[1].hold = Revision(3);
    assert_eq!(complaints(item).len(), 1, "its fence does not rise");
}

fn an_item_that_is_acknowledged_twice_or_by_an_older_claim_is_found() {
    let mut twice = well();
    twice.acknowledgements.push(twice.acknowledgements[1]);
    assert_eq!(complaints(twice).len(), 1);
    let mut older = well();
    older.acknowledgements[1].hold = Revision(3);
    assert_eq!(complaints(older).len(), 1);
    let mut again = well();
    again.granted.insert(Revision(9));
    assert_eq!(complaints(again).len(), 1, "claimed after it was acknowledged");
    let mut nobodys = well();
    nobodys.acknowledgements[1].hold = Revision(8);
    assert_eq!(complaints(nobodys).len(), 1);
}

super::cases![
    an_item_that_was_claimed_twice_and_acknowledged_once_is_well,
    an_item_that_is_lost_left_or_invented_is_found,
    two_claims_of_an_item_at_once_are_found,
    an_item_that_is_acknowledged_twice_or_by_an_older_claim_is_found,
];
