//! What the workers said, put together: increments that were asked for, and holds.

use std::{collections::BTreeMap, fmt};

use tenure::Revision;

use crate::journal::{Entry, Event, Journal, Name};

/// What became of an increment, as its worker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged(Revision),
    Refused,
    /// Nobody could say, or the worker was killed before it could.
    Unknown,
    /// Unknown at first; then the lock was given back, and it was there, or was not.
    Settled(bool),
}

/// An increment that was asked for.
pub(crate) struct Attempt {
    pub(crate) worker: Name,
    /// Of the fence.
    pub(crate) create: Revision,
    pub(crate) number: u64,
    pub(crate) held: bool,
    pub(crate) began: u64,
    /// When the answer was there.
    pub(crate) ended: Option<u64>,
    pub(crate) outcome: Outcome,
}

/// A hold, for as long as the worker surely believed in it.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) worker: Name,
    pub(crate) create: Revision,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, create, from, until } = self;
        write!(f, "{worker} with fence {create} from {from} until {until}")
    }
}

#[derive(Default)]
pub(crate) struct Said {
    pub(crate) attempts: BTreeMap<String, Attempt>,
    pub(crate) claims: Vec<Claim>,
    /// When each fence was granted.
    pub(crate) granted: BTreeMap<Revision, u64>,
    pub(crate) counts: BTreeMap<String, usize>,
    pub(crate) complaints: Vec<String>,
}

impl Said {
    pub(crate) fn read(&mut self, journal: &Journal) {
        let name = journal.name;
        if let Some(line) = &journal.nonsense {
            self.complaints.push(format!("{name} said {line:?}"));
        }
        if !journal.complaints.trim().is_empty() {
            self.complaints.push(format!("{name} complained:\n{}", journal.complaints));
        }
        let mut now: Option<Claim> = None;
        // Where a claim may begin.
        let mut hold: Option<Claim> = None;
        for Entry { at, event } in &journal.entries {
            let mut believes = |hold: &Option<Claim>, deadline: u64| {
                if deadline <= *at {
                    let late = (*at - deadline) / 1_000_000;
                    self.complaints.push(format!("{name} believed {late} ms beyond its deadline"));
                }
                let Some(claim) = now.as_ref().or(hold.as_ref()) else { return };
                now = Some(Claim { until: *at, ..claim.clone() });
            };
            let mut ends = |id: &String, outcome, complaints: &mut Vec<String>| match self
                .attempts
                .get_mut(id)
            {
                Some(attempt) => {
                    attempt.outcome = outcome;
                    attempt.ended.get_or_insert(*at);
                }
                None => complaints.push(format!("{id} ended before it began")),
            };
            match event {
                Event::Acquired { fence, .. } => {
                    self.granted.insert(fence.create_revision, *at);
                    // It believed so before this time. Whether it still does, it says next.
                    hold = Some(Claim {
                        worker: name,
                        create: fence.create_revision,
                        from: *at,
                        until: *at,
                    });
                }
                Event::Held { deadline } => believes(&hold, *deadline),
                Event::Writing { id, number, held } => {
                    if let Some(deadline) = held {
                        believes(&hold, *deadline);
                    }
                    let create = hold.as_ref().map_or(Revision::NONE, |hold| hold.create);
                    let attempt = Attempt {
                        worker: name,
                        create,
                        number: *number,
                        held: held.is_some(),
                        began: *at,
                        ended: None,
                        outcome: Outcome::Unknown,
                    };
                    self.attempts.insert(id.clone(), attempt);
                }
                Event::Wrote { id, revision } => {
                    let outcome = Outcome::Acknowledged(Revision(*revision));
                    ends(id, outcome, &mut self.complaints);
                }
                Event::Refused { id, .. } => ends(id, Outcome::Refused, &mut self.complaints),
                Event::Settled { id, there } => {
                    ends(id, Outcome::Settled(*there), &mut self.complaints);
                }
                Event::Unknown { .. } => {}
                Event::GivesBack { .. } | Event::Waiting => {
                    self.claims.extend(now.take());
                    hold = None;
                }
                Event::Broken { text } => self.complaints.push(format!("{name}: {text}")),
                _ => {}
            }
            if let Some(what) = counted(event) {
                *self.counts.entry(what).or_default() += 1;
            }
        }
        self.claims.extend(now);
    }
}

/// What of it is counted.
fn counted(event: &Event) -> Option<String> {
    Some(match event {
        Event::Opened => "opened".to_owned(),
        Event::Acquired { .. } => "acquired".to_owned(),
        Event::Failed { what, kind, .. } => format!("{what}: {kind}"),
        Event::Lost { reason } => format!("lost: {reason}"),
        Event::AlreadyLost { reason } => format!("already lost: {reason}"),
        Event::Settled { there: true, .. } => "settled as done".to_owned(),
        Event::Settled { there: false, .. } => "settled as not done".to_owned(),
        _ => return None,
    })
}
