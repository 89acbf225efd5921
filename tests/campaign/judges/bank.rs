//! Accounts between which money is moved: none is made, none is lost, and no account is overdrawn,
//! in the end and whenever somebody looks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tenure::Revision;

use super::outcome::Outcome;

/// So much moved from one account to another. It is also written under its id, by the transaction
/// that did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) amount: i64,
}

/// What was asked for, was looked at, and is in etcd when all have ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bank {
    /// Before the first transfer.
    pub(crate) opening: Vec<i64>,
    /// By their ids.
    pub(crate) asked: BTreeMap<String, (Transfer, Outcome)>,
    /// All balances, whenever somebody looked.
    pub(crate) snapshots: Vec<Vec<i64>>,
    pub(crate) done: BTreeMap<String, (Transfer, Revision)>,
    pub(crate) balances: Vec<i64>,
}

impl Bank {
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = self.sums();
        complaints.extend(self.outcomes());
        complaints.extend(self.course());
        complaints
    }

    /// Each sum is that of the opening, and each account has something or nothing.
    fn sums(&self) -> Vec<String> {
        let sum: i64 = self.opening.iter().sum();
        let wrong = |it: &&Vec<i64>| {
            it.len() != self.opening.len()
                || it.iter().sum::<i64>() != sum
                || it.iter().any(|balance| *balance < 0)
        };
        let wrong = self.snapshots.iter().filter(wrong);
        wrong.map(|it| format!("somebody saw {it:?}, in all {}", it.iter().sum::<i64>())).collect()
    }

    /// Each transfer is there, or is not, as was told.
    fn outcomes(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (id, (_, outcome)) in &self.asked {
            let done = self.done.get(id).map(|(_, revision)| *revision);
            if !outcome.fits(done) {
                complaints.push(format!("transfer {id} is {outcome:?}, but {done:?}"));
            }
        }
        for (id, (transfer, _)) in &self.done {
            if self.asked.get(id).map(|(asked, _)| asked) != Some(transfer) {
                complaints.push(format!("transfer {id} is not what was asked for: {transfer:?}"));
            }
        }
        complaints
    }

    /// Done one after the other, the transfers make the balances that there are, and every
    /// snapshot is what there was between two of them.
    fn course(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut done: Vec<_> = self.done.iter().collect();
        done.sort_by_key(|(_, (_, revision))| *revision);
        let mut balances = self.opening.clone();
        let mut states = BTreeSet::from([balances.clone()]);
        let mut last = Revision::NONE;
        for (id, (Transfer { from, to, amount }, revision)) in done {
            if *revision == last {
                complaints.push(format!("transfer {id} was not the only one at {revision}"));
            }
            last = *revision;
            balances[*from] -= amount;
            balances[*to] += amount;
            if balances[*from] < 0 {
                complaints.push(format!("transfer {id} overdrew account {from}"));
            }
            states.insert(balances.clone());
        }
        if balances != self.balances {
            let found = &self.balances;
            complaints.push(format!("the balances are {found:?}, and were to be {balances:?}"));
        }
        let never = self.snapshots.iter().filter(|snapshot| !states.contains(*snapshot));
        complaints.extend(never.map(|it| format!("somebody saw {it:?}, which never was")));
        complaints
    }
}

/// Two transfers that were done, one that was refused, and one who looked between.
fn well() -> Bank {
    let transfer = |from, to, amount| Transfer { from, to, amount };
    let (a, b) = (transfer(0, 1, 30), transfer(1, 2, 110));
    Bank {
        opening: vec![100; 3],
        asked: BTreeMap::from([
            ("a".to_owned(), (a, Outcome::Acknowledged(Revision(5)))),
            ("b".to_owned(), (b, Outcome::Unknown)),
            ("c".to_owned(), (transfer(2, 0, 1), Outcome::Refused)),
        ]),
        snapshots: vec![vec![70, 130, 100]],
        done: BTreeMap::from([
            ("a".to_owned(), (a, Revision(5))),
            ("b".to_owned(), (b, Revision(6))),
        ]),
        balances: vec![70, 20, 210],
    }
}

fn changed(change: impl Fn(&mut Bank)) -> usize {
    let mut bank = well();
    change(&mut bank);
    bank.complaints().len()
}

fn a_bank_whose_transfers_are_all_told_rightly_is_well() {
    assert_eq!(well().complaints(), [""; 0]);
}

fn money_that_is_made_or_lost_is_found() {
    assert_eq!(changed(|bank| bank.balances[0] += 1), 1);
    assert_eq!(changed(|bank| bank.snapshots[0][0] += 1), 2, "nor was it ever so");
    assert_eq!(changed(|bank| bank.snapshots[0] = vec![70, 120, 110]), 1, "half a transfer");
    let lost_update = |bank: &mut Bank| bank.balances = vec![100, 20, 210];
    assert_eq!(changed(lost_update), 1);
}

fn a_transfer_that_is_not_as_told_is_found() {
    let tell = |id: &'static str, outcome| {
        move |bank: &mut Bank| bank.asked.get_mut(id).unwrap().1 = outcome
    };
    assert_eq!(changed(tell("a", Outcome::Acknowledged(Revision(4)))), 1);
    assert_eq!(changed(tell("b", Outcome::Refused)), 1);
    assert_eq!(changed(tell("c", Outcome::Settled(true))), 1);
    assert_eq!(changed(|bank| bank.asked.retain(|id, _| id != "b")), 1, "nobody asked for it");
}

fn an_account_that_is_overdrawn_is_found() {
    let order = |bank: &mut Bank| bank.done.get_mut("a").unwrap().1 = Revision(7);
    // It is not where it was told to be, the second one takes what is not there yet, and what was
    // seen never was.
    assert_eq!(changed(order), 3);
}

super::cases![
    a_bank_whose_transfers_are_all_told_rightly_is_well,
    money_that_is_made_or_lost_is_found,
    a_transfer_that_is_not_as_told_is_found,
    an_account_that_is_overdrawn_is_found,
];
