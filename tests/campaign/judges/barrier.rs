//! Rounds of a double barrier: nobody is through before all have come, nor out before all go.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::Aftermath;
use crate::journal::Name;

/// A member in one round.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) worker: Name,
    pub(crate) round: u64,
    /// When it asked to enter.
    pub(crate) came: u64,
    /// From when it had entered until it asked to leave, or believed for the last time that it was
    /// inside.
    pub(crate) inside: Option<(u64, u64)>,
    /// When it had left.
    pub(crate) left: Option<u64>,
}

/// Complains of whoever entered before so many had come, or left while others were inside.
pub(crate) fn early(visits: &[Visit], parties: usize, aftermath: &Aftermath) -> Vec<String> {
    let mut rounds: BTreeMap<u64, Vec<&Visit>> = BTreeMap::new();
    for visit in visits {
        rounds.entry(visit.round).or_default().push(visit);
    }
    let rounds = rounds.values();
    rounds
        .flat_map(|round| {
            let mut complaints = entered_early(round, parties);
            complaints.extend(left_early(round, aftermath));
            complaints
        })
        .collect()
}

fn entered_early(round: &[&Visit], parties: usize) -> Vec<String> {
    let mut came: Vec<(u64, Name)> = round.iter().map(|visit| (visit.came, visit.worker)).collect();
    came.sort_unstable();
    let mut there = BTreeSet::new();
    let full = came.iter().find(|(_, worker)| there.insert(*worker) && there.len() == parties);
    let full = full.map_or(u64::MAX, |(at, _)| *at);
    let early = round.iter().filter(|visit| visit.inside.is_some_and(|(from, _)| from < full));
    let complaint = |Visit { worker, round, .. }: &&Visit| {
        format!("{worker} entered round {round} before {parties} had come")
    };
    early.map(complaint).collect()
}

fn left_early(round: &[&Visit], aftermath: &Aftermath) -> Vec<String> {
    let inside = |visit: &&Visit| Some((visit.inside?.1, visit.worker));
    let Some((last, who)) = round.iter().filter_map(inside).max() else { return Vec::new() };
    let early = round
        .iter()
        .filter(|visit| visit.left.is_some_and(|left| left < last && !aftermath.covers(left)));
    let complaint = |Visit { worker, round, .. }: &&Visit| {
        format!("{worker} left round {round} while {who} was inside")
    };
    early.map(complaint).collect()
}

/// In the first round, of three.
fn visit(slot: usize, came: u64, inside: (u64, u64), left: u64) -> Visit {
    let worker = Name { slot, generation: 0 };
    Visit { worker, round: 1, came, inside: Some(inside), left: Some(left) }
}

fn complaints(visits: &[Visit]) -> usize {
    early(visits, 3, &Aftermath::of(&[])).len()
}

fn whoever_enters_early_is_found() {
    let two = [visit(0, 10, (31, 40), 60), visit(1, 20, (32, 41), 61)];
    let all = |came| [&two[..], &[visit(2, came, (40, 50), 62)]].concat();
    assert_eq!(complaints(&all(30)), 0);
    assert_eq!(complaints(&all(32)), 1, "the first was through");
    assert_eq!(complaints(&all(33)), 2, "both were");
    let next = Visit { round: 2, ..visit(2, 5, (40, 50), 62) };
    assert_eq!(complaints(&[&two[..], &[next]].concat()), 3, "they are of another round");
}

/// One that asks again, since it was not told, is one; one that is dead was there.
fn each_member_counts_once() {
    let asked = |slot, came| Visit { inside: None, left: None, ..visit(slot, came, (0, 0), 0) };
    let passed = [visit(0, 10, (31, 40), 60), visit(1, 20, (32, 41), 61)];
    assert_eq!(complaints(&[&passed[..], &[asked(1, 21)]].concat()), 2);
    assert_eq!(complaints(&[&passed[..], &[asked(2, 21)]].concat()), 0);
}

fn whoever_leaves_early_is_found() {
    let visits = |left| {
        [visit(0, 10, (31, 40), left), visit(1, 20, (32, 41), 61), visit(2, 30, (33, 50), 62)]
    };
    assert_eq!(complaints(&visits(50)), 0);
    assert_eq!(complaints(&visits(49)), 1);
}

super::cases![
    whoever_enters_early_is_found,
    each_member_counts_once,
    whoever_leaves_early_is_found,
];
