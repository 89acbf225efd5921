//! What the workers said, put together.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use tenure::Revision;

use super::claims::Claim;
use crate::{
    hold::{self, What},
    journal::{Entry, Event, Journal, Name},
};

pub(crate) struct Chronicle<E> {
    /// What only workers of the recipe say: each worker's in the order in which it was said.
    pub(crate) own: Vec<(Name, u64, E)>,
    /// What each surely believed to hold.
    pub(crate) claims: Vec<Claim>,
    /// When each hold was granted.
    pub(crate) granted: BTreeMap<Revision, u64>,
    pub(crate) complaints: Vec<String>,
    counts: BTreeMap<String, usize>,
    workers: usize,
    torn: usize,
}

impl<E: DeserializeOwned> Chronicle<E> {
    pub(crate) fn read(journals: &[Journal]) -> Self {
        let mut chronicle = Self {
            own: Vec::new(),
            claims: Vec::new(),
            granted: BTreeMap::new(),
            complaints: Vec::new(),
            counts: BTreeMap::new(),
            workers: journals.len(),
            torn: journals.iter().filter(|journal| journal.torn).count(),
        };
        journals.iter().for_each(|journal| chronicle.add(journal));
        chronicle
    }

    fn add(&mut self, journal: &Journal) {
        let name = journal.name;
        if let Some(line) = &journal.nonsense {
            self.complaints.push(format!("{name} said {line:?}"));
        }
        if !journal.complaints.trim().is_empty() {
            self.complaints.push(format!("{name} complained:\n{}", journal.complaints));
        }
        let mut beliefs = Beliefs::new(name);
        for (_, line) in &journal.lines {
            let Entry { at, event, .. } = match serde_json::from_str::<Entry<E>>(line) {
                Ok(entry) => entry,
                Err(error) => {
                    self.complaints.push(format!("{name} said {line:?}: {error}"));
                    continue;
                }
            };
            if let Some(what) = counted(&event) {
                *self.counts.entry(what).or_default() += 1;
            }
            match event {
                Event::Broken { text } => self.complaints.push(format!("{name}: {text}")),
                Event::Hold(event) => beliefs.hear(at, &event),
                Event::Own(event) => self.own.push((name, at, event)),
                _ => {}
            }
        }
        self.granted.extend(&beliefs.granted);
        self.complaints.append(&mut beliefs.complaints);
        self.claims.extend(beliefs.into_claims());
    }

    pub(crate) fn report(&self) -> String {
        let Self { workers, torn, counts, .. } = self;
        format!("{workers} workers in all, {torn} killed within a line\nsaid: {counts:?}\n")
    }
}

/// What of it is counted.
fn counted<E>(event: &Event<E>) -> Option<String> {
    Some(match event {
        Event::Opened => "opened".to_owned(),
        Event::Failed { what, kind, .. } => format!("{what}: {kind}"),
        Event::Hold(hold::Event { what, .. }) => match what {
            What::Granted { .. } => "granted".to_owned(),
            What::Lost { reason } => format!("lost: {reason}"),
            What::AlreadyLost { reason } => format!("already lost: {reason}"),
            _ => return None,
        },
        _ => return None,
    })
}

/// What one worker believed.
struct Beliefs {
    name: Name,
    /// What it was granted and has not given back, and whether it ever said that it still had it:
    /// it believed so before the grant was written down, and perhaps no longer then.
    holds: BTreeMap<Revision, (Claim, bool)>,
    claims: Vec<Claim>,
    granted: BTreeMap<Revision, u64>,
    complaints: Vec<String>,
}

impl Beliefs {
    fn new(name: Name) -> Self {
        Self {
            name,
            holds: BTreeMap::new(),
            claims: Vec::new(),
            granted: BTreeMap::new(),
            complaints: Vec::new(),
        }
    }

    fn hear(&mut self, at: u64, event: &hold::Event) {
        let hold = event.hold;
        match event.what {
            What::Granted { weight } => {
                // One that takes less from now on is another claim.
                self.ends(hold);
                self.granted.insert(hold, at);
                let claim = Claim { worker: self.name, hold, weight, from: at, until: at };
                self.holds.insert(hold, (claim, false));
            }
            What::Held { deadline } => self.believes(at, hold, deadline),
            What::GivesBack { .. } => self.ends(hold),
            _ => {}
        }
    }

    fn believes(&mut self, at: u64, hold: Revision, deadline: u64) {
        let name = self.name;
        if deadline <= at {
            let late = (at - deadline) / 1_000_000;
            self.complaints.push(format!("{name} believed {late} ms beyond its deadline"));
        }
        match self.holds.get_mut(&hold) {
            Some((claim, believed)) => {
                claim.until = at;
                *believed = true;
            }
            None => self.complaints.push(format!("{name} believed in {hold} and had it not")),
        }
    }

    fn ends(&mut self, hold: Revision) {
        let claim = self.holds.remove(&hold).filter(|(_, believed)| *believed);
        self.claims.extend(claim.map(|(claim, _)| claim));
    }

    fn into_claims(mut self) -> Vec<Claim> {
        let open: Vec<Revision> = self.holds.keys().copied().collect();
        open.into_iter().for_each(|hold| self.ends(hold));
        self.claims
    }
}

/// What a worker says of one hold makes a claim for as long as it said that it had it.
fn a_claim_lasts_from_the_grant_to_the_last_belief() {
    let claims = |events: &[(u64, hold::Event)]| {
        let mut beliefs = Beliefs::new(Name { slot: 0, generation: 0 });
        events.iter().for_each(|(at, event)| beliefs.hear(*at, event));
        let complaints = beliefs.complaints.len();
        let claims = beliefs.into_claims();
        (claims.iter().map(|it| (it.from, it.until)).collect::<Vec<_>>(), complaints)
    };
    let hold = Revision(7);
    let event = |at, what| (at, hold::Event { hold, what });
    let granted_at = |at| event(at, What::Granted { weight: 1 });
    let granted = granted_at(10);
    let held = |at, deadline| event(at, What::Held { deadline });
    let back = event(30, What::GivesBack { waits: true });
    let whole = [granted.clone(), held(11, 50), held(20, 50), back.clone()];
    assert_eq!(claims(&whole), (vec![(10, 20)], 0));
    assert_eq!(claims(&whole[..3]), (vec![(10, 20)], 0), "killed");
    assert_eq!(claims(&[granted.clone(), back.clone()]), (vec![], 0), "never believed");
    let less = [granted.clone(), held(15, 50), granted_at(16), held(20, 50)];
    assert_eq!(claims(&less), (vec![(10, 15), (16, 20)], 0), "granted anew");
    assert_eq!(
        claims(&[granted.clone(), held(20, 20)]),
        (vec![(10, 20)], 1),
        "beyond its deadline"
    );
    assert_eq!(claims(&[granted, back, held(40, 50)]), (vec![], 1), "given back");
}

super::cases![a_claim_lasts_from_the_grant_to_the_last_belief];
