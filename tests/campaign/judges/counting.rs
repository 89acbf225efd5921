//! Whether the increments that etcd has are those that were asked for: none lost, none done twice,
//! and each by the holder.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Bound,
};

use tenure::{Fence, KeyValue, LeaseId, Revision};

use super::{claims::Claim, outcome::Outcome};
use crate::{
    counting::{Event, INCREMENTS, Increment},
    journal::Name,
};

/// What is in etcd when all is over.
pub(crate) struct Found {
    pub(crate) counter: Option<KeyValue>,
    pub(crate) increments: Vec<KeyValue>,
}

/// An increment that was asked for.
struct Attempt {
    worker: Name,
    /// Of the fence.
    hold: Revision,
    number: u64,
    held: bool,
    began: u64,
    /// When the answer was there.
    ended: Option<u64>,
    outcome: Outcome,
}

/// An increment that was done: its id, its value, and when.
type Done = (String, Increment, Revision);

/// What came of the counting.
pub(crate) struct Count {
    pub(crate) complaints: Vec<String>,
    attempts: BTreeMap<String, Attempt>,
    history: Vec<Done>,
    highest: Revision,
    longest_gap: u64,
}

impl Count {
    pub(crate) fn of(said: &[(Name, u64, Event)], found: &Found) -> Self {
        let mut count = Self {
            complaints: Vec::new(),
            attempts: BTreeMap::new(),
            history: Vec::new(),
            highest: Revision::NONE,
            longest_gap: 0,
        };
        said.iter().for_each(|(name, at, event)| count.hear(*name, *at, event));
        let history = count.read(found);
        count.outcomes(&history);
        count.order(&history);
        count.true_time(&history);
        count.history = history;
        count
    }

    fn complain(&mut self, text: impl fmt::Display) {
        self.complaints.push(text.to_string());
    }

    fn hear(&mut self, worker: Name, at: u64, event: &Event) {
        match event {
            Event::Writing { id, number, hold, held } => {
                let attempt = Attempt {
                    worker,
                    hold: *hold,
                    number: *number,
                    held: *held,
                    began: at,
                    ended: None,
                    outcome: Outcome::Unknown,
                };
                self.attempts.insert(id.clone(), attempt);
            }
            Event::Wrote { id, revision } => self.end(id, at, Outcome::Acknowledged(*revision)),
            Event::Refused { id, .. } => self.end(id, at, Outcome::Refused),
            Event::Settled { id, there } => self.end(id, at, Outcome::Settled(*there)),
            Event::Unknown { .. } => {}
        }
    }

    fn end(&mut self, id: &str, at: u64, outcome: Outcome) {
        match self.attempts.get_mut(id) {
            Some(attempt) => {
                attempt.outcome = outcome;
                attempt.ended.get_or_insert(at);
            }
            None => self.complain(format!("{id} ended before it began")),
        }
    }

    /// The increments in the order in which etcd did them, each of them once.
    fn read(&mut self, found: &Found) -> Vec<Done> {
        let mut history = Vec::new();
        for kv in &found.increments {
            let id = String::from_utf8_lossy(&kv.key[INCREMENTS.len()..]).into_owned();
            if kv.version != 1 || kv.create_revision != kv.mod_revision {
                self.complain(format!("{id} was done {} times", kv.version));
            }
            match serde_json::from_slice(&kv.value) {
                Ok(increment) => history.push((id, increment, kv.mod_revision)),
                Err(error) => self.complain(format!("{id} has a value of no sense: {error}")),
            }
        }
        history.sort_by_key(|(_, _, revision)| *revision);
        let (value, puts) = match &found.counter {
            Some(kv) => (String::from_utf8_lossy(&kv.value).into_owned(), kv.version),
            None => ("0".to_owned(), 0),
        };
        if value != history.len().to_string() || puts != history.len() as i64 {
            let increments = history.len();
            self.complain(format!(
                "the counter is {value} after {puts} puts, and there are {increments} increments"
            ));
        }
        history
    }

    /// Each increment is there, or is not, as its worker was told.
    fn outcomes(&mut self, history: &[Done]) {
        let there: HashMap<&str, Revision> =
            history.iter().map(|(id, _, revision)| (&id[..], *revision)).collect();
        let mut complaints = Vec::new();
        for (id, attempt) in &self.attempts {
            let found = there.get(&id[..]).copied();
            if !attempt.outcome.fits(found) {
                let Attempt { outcome, hold, .. } = attempt;
                complaints.push(format!("{id} of fence {hold} is {outcome:?}, but {found:?}"));
            }
            if !attempt.held && found.is_some() {
                complaints.push(format!("{id} was done for a worker that knew of its loss"));
            }
        }
        for (id, increment, _) in history {
            let Some(attempt) = self.attempts.get(id) else {
                complaints.push(format!("{id} was done, and nobody asked for it"));
                continue;
            };
            let asked = (attempt.worker, attempt.number, attempt.hold);
            if asked != (increment.worker, increment.number, increment.fence.create_revision) {
                complaints.push(format!("{id} is not what was asked for: {increment:?}"));
            }
        }
        self.complaints.extend(complaints);
    }

    /// One holder after the other, each with a higher fence, none after its successor, and none
    /// of an older number than there was.
    fn order(&mut self, history: &[Done]) {
        let mut owners: HashMap<Revision, (Name, &[u8])> = HashMap::new();
        let mut complaints = Vec::new();
        let mut last: Option<(&String, &Increment, Revision)> = None;
        for (number, (id, increment, revision)) in (1..).zip(history) {
            let fence = &increment.fence;
            if increment.number != number {
                complaints.push(format!("{id} wrote {}, not {number}", increment.number));
            }
            if fence.create_revision >= *revision {
                complaints.push(format!("{id} was done at {revision}, before fence {fence}"));
            }
            if let Some((before, previous, at)) = last {
                if *revision <= at {
                    complaints.push(format!("{id} and {before} were done at {revision}"));
                }
                if fence.create_revision < previous.fence.create_revision {
                    complaints.push(format!(
                        "{id} with fence {fence} was done at {revision}, after {before} with \
                         fence {} at {at}",
                        previous.fence
                    ));
                }
            }
            let owner = owners.entry(fence.create_revision);
            let owner = *owner.or_insert((increment.worker, &fence.key));
            if owner != (increment.worker, &fence.key[..]) {
                complaints.push(format!("{id}: fence {fence} is of two workers"));
            }
            self.highest = self.highest.max(fence.create_revision);
            last = Some((id, increment, *revision));
        }
        self.complaints.extend(complaints);
    }

    /// In true time, too, who was answered before another asked came before it.
    fn true_time(&mut self, history: &[Done]) {
        let done: Vec<(&Attempt, &String, Revision)> = history
            .iter()
            .filter_map(|(id, _, revision)| Some((self.attempts.get(id)?, id, *revision)))
            .collect();
        let mut by_begin: Vec<(u64, &String, Revision)> =
            done.iter().map(|(attempt, id, revision)| (attempt.began, *id, *revision)).collect();
        by_begin.sort_unstable();
        let mut by_end: Vec<(u64, Revision)> = done
            .iter()
            .filter_map(|(attempt, _, revision)| Some((attempt.ended?, *revision)))
            .collect();
        by_end.sort_unstable();
        for pair in by_end.windows(2) {
            self.longest_gap = self.longest_gap.max(pair[1].0 - pair[0].0);
        }
        let mut complaints = Vec::new();
        let mut ended = by_end.iter().peekable();
        let mut newest = Revision::NONE;
        for (began, id, revision) in by_begin {
            while let Some((_, earlier)) = ended.next_if(|(end, _)| *end < began) {
                newest = newest.max(*earlier);
            }
            if revision <= newest {
                complaints.push(format!("{id} was done at {revision}, asked for after {newest}"));
            }
        }
        self.complaints.extend(complaints);
    }

    /// Complains of increments that were begun under a fence when a later one was held already.
    pub(crate) fn after_successors(&self, claims: &[Claim]) -> Vec<String> {
        let held: BTreeMap<Revision, u64> =
            claims.iter().map(|claim| (claim.hold, claim.from)).collect();
        let late = self.history.iter().filter_map(|(id, ..)| {
            let attempt = self.attempts.get(id)?;
            let after = (Bound::Excluded(attempt.hold), Bound::Unbounded);
            let (fence, from) = held.range(after).next()?;
            (attempt.began > *from)
                .then(|| format!("{id} was done, and begun after {fence} was held"))
        });
        late.collect()
    }

    /// How many increments there are.
    pub(crate) fn applied(&self) -> usize {
        self.history.len()
    }

    /// How many of the increments ended so.
    fn count(&self, which: impl Fn(Outcome) -> bool) -> usize {
        self.attempts.values().filter(|attempt| which(attempt.outcome)).count()
    }

    pub(crate) fn report(&self) -> String {
        let acknowledged = self.count(|outcome| matches!(outcome, Outcome::Acknowledged(_)));
        let refused = self.count(|outcome| outcome == Outcome::Refused);
        let settled = |there| self.count(|outcome| outcome == Outcome::Settled(there));
        let unknown = self.attempts.len() - acknowledged - refused;
        format!(
            "{} increments: {acknowledged} acknowledged, {} of {unknown} unknown ones ({} settled \
             as done, {} as not done); {refused} refused\n\
             highest fence {}, longest time without an increment {} ms\n",
            self.applied(),
            self.applied() - acknowledged.min(self.applied()),
            settled(true),
            settled(false),
            self.highest,
            self.longest_gap / 1_000_000,
        )
    }
}

/// Two increments of one hold, and one of the next, all as they should be.
fn well() -> (Vec<(Name, u64, Event)>, Found) {
    let mut said = Vec::new();
    let mut increments = Vec::new();
    for (number, slot, hold) in [(1, 0, 10), (2, 0, 10), (3, 1, 20)] {
        let worker = Name { slot, generation: 0 };
        let (id, at) = (format!("{worker}.{number}"), 100 * number);
        let revision = Revision(hold + number as i64);
        let fence = Fence {
            cluster_id: 1,
            key: format!("key {slot}").into(),
            create_revision: Revision(hold),
            mod_revision: Revision(hold),
            lease: LeaseId::new(1).unwrap(),
        };
        let hold = fence.create_revision;
        said.push((worker, at, Event::Writing { id: id.clone(), number, hold, held: true }));
        said.push((worker, at + 50, Event::Wrote { id: id.clone(), revision }));
        increments.push(KeyValue {
            key: format!("{INCREMENTS}{id}").into(),
            value: serde_json::to_vec(&Increment { number, worker, fence }).unwrap().into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: None,
        });
    }
    let counter = KeyValue { value: "3".into(), version: 3, ..KeyValue::default() };
    (said, Found { counter: Some(counter), increments })
}

/// What is said of that after a change.
fn changed(change: impl FnOnce(&mut Vec<(Name, u64, Event)>, &mut Found)) -> String {
    let (mut said, mut found) = well();
    change(&mut said, &mut found);
    Count::of(&said, &found).complaints.join("\n")
}

fn increments_that_are_all_told_rightly_are_well() {
    assert_eq!(changed(|_, _| {}), "");
    assert_eq!(changed(|said, _| drop(said.pop())), "", "its worker was killed");
}

fn an_increment_that_is_lost_or_done_twice_is_found() {
    let lost = changed(|_, found| drop(found.increments.remove(1)));
    assert!(lost.contains("w0.0.2 of fence 10 is Acknowledged"), "{lost}");
    assert!(lost.contains("the counter is 3 after 3 puts"), "{lost}");
    let twice = changed(|_, found| found.increments[1].version = 2);
    assert!(twice.contains("w0.0.2 was done 2 times"), "{twice}");
    let over = changed(|_, found| found.counter.as_mut().unwrap().version = 4);
    assert!(over.contains("the counter is 3 after 4 puts"), "{over}");
    let refused = Event::Refused { id: "w1.0.3".into(), kind: String::new(), text: String::new() };
    let there = changed(|said, _| said[5].2 = refused);
    assert!(there.contains("w1.0.3 of fence 20 is Refused"), "{there}");
    let invented = changed(|said, _| said.truncate(4));
    assert!(invented.contains("w1.0.3 was done, and nobody asked for it"), "{invented}");
}

fn an_increment_of_one_that_is_not_the_holder_is_found() {
    let after = changed(|said, found| {
        found.increments[0].mod_revision = Revision(30);
        found.increments[0].create_revision = Revision(30);
        said[1].2 = Event::Wrote { id: "w0.0.1".into(), revision: Revision(30) };
    });
    assert!(after.contains("was done at 30, after w1.0.3 with"), "{after}");
    assert!(after.contains("w0.0.1 wrote 1, not 3"), "{after}");
    let knew = changed(|said, _| {
        let Event::Writing { held, .. } = &mut said[2].2 else { unreachable!() };
        *held = false;
    });
    assert!(knew.contains("w0.0.2 was done for a worker that knew of its loss"), "{knew}");
}

fn an_increment_that_comes_before_one_that_was_answered_earlier_is_found() {
    let late = changed(|said, _| said[0].1 = 290);
    assert!(late.contains("w0.0.1 was done at 11, asked for after 12"), "{late}");
}

fn an_increment_that_begins_after_the_next_was_granted_is_found() {
    let (said, found) = well();
    let worker = Name { slot: 1, generation: 0 };
    let next = |from| Claim { worker, hold: Revision(20), weight: 1, from, until: from + 50 };
    let count = Count::of(&said, &found);
    assert!(count.after_successors(&[next(210)]).is_empty());
    assert_eq!(count.after_successors(&[next(199)]).len(), 1);
}

super::cases![
    increments_that_are_all_told_rightly_are_well,
    an_increment_that_is_lost_or_done_twice_is_found,
    an_increment_of_one_that_is_not_the_holder_is_found,
    an_increment_that_comes_before_one_that_was_answered_earlier_is_found,
    an_increment_that_begins_after_the_next_was_granted_is_found,
];
