//! Whether what etcd has, what the workers said, and when they said it, fit together.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Bound,
};

use tenure::{Client, KeyRange, KeyValue, Result, Revision};

use crate::{
    faults::{Fault, tally},
    journal::{COUNTER, INCREMENTS, Increment, Journal, Name},
    observer::Turn,
    said::{Attempt, Claim, Outcome, Said},
};

/// Keys of one answer.
const PAGE: u32 = 1000;
/// How long after its leader was frozen or cut off etcd may still take a lease too early: a leader
/// of old that wakes up revokes by its old clock what the new one has renewed (etcd's issues 12528
/// and 15247), or renews for a moment what is not its own any more. The longest TTL, and a little.
const AFTERMATH: u64 = 5_000_000_000;

/// What is in etcd when all is over.
pub(crate) struct Found {
    counter: Option<KeyValue>,
    increments: Vec<KeyValue>,
}

impl Found {
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        let counter = client.get(COUNTER).await?;
        let at = counter.header.revision;
        let range = KeyRange::prefix(INCREMENTS);
        let end = tenure::prefix_end(INCREMENTS.as_bytes()).expect("there is one");
        let mut increments: Vec<KeyValue> = Vec::new();
        loop {
            let rest = match increments.last() {
                Some(last) => KeyRange::span([&last.key[..], &[0]].concat(), end.clone()),
                None => range.clone(),
            };
            let page = client.get(rest).limit(PAGE).revision(at).await?;
            if page.kvs.is_empty() {
                return Ok(Self { counter: counter.into_kv(), increments });
            }
            increments.extend(page.kvs);
        }
    }
}

/// What came of a campaign.
pub(crate) struct Verdict {
    pub(crate) complaints: Vec<String>,
    said: Said,
    applied: usize,
    highest: Revision,
    longest_gap: u64,
    /// From when it was a worker's turn until it had the lock, the shortest first.
    latencies: Vec<u64>,
    /// The longest turn that was never granted: of a dead or stopped worker, as a rule.
    idle: Option<(u64, String)>,
    overlaps: Vec<(Claim, Claim)>,
}

impl Verdict {
    pub(crate) fn of(
        journals: &[Journal],
        found: &Found,
        faults: &[Fault],
        turns: &BTreeMap<Revision, Turn>,
    ) -> Self {
        let mut said = Said::default();
        journals.iter().for_each(|journal| said.read(journal));
        let complaints = std::mem::take(&mut said.complaints);
        let mut verdict = Self {
            complaints,
            said,
            applied: found.increments.len(),
            highest: Revision::NONE,
            longest_gap: 0,
            latencies: Vec::new(),
            idle: None,
            overlaps: Vec::new(),
        };
        let granted =
            |(create, at): (&Revision, &u64)| Some(at.saturating_sub(turns.get(create)?.from));
        verdict.latencies = verdict.said.granted.iter().filter_map(granted).collect();
        verdict.latencies.sort_unstable();
        let idle = turns.iter().filter(|(create, _)| !verdict.said.granted.contains_key(create));
        let idle = idle.filter_map(|(create, Turn { whose, from, until })| {
            Some(((*until)?.saturating_sub(*from), format!("{whose} with {create}")))
        });
        verdict.idle = idle.max();
        let history = verdict.history(found);
        verdict.outcomes(&history);
        verdict.order(&history);
        verdict.beliefs(&history, faults);
        verdict
    }

    fn complain(&mut self, text: impl fmt::Display) {
        self.complaints.push(text.to_string());
    }

    /// The increments in the order in which etcd did them, each of them once.
    fn history(&mut self, found: &Found) -> Vec<(String, Increment, Revision)> {
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
    fn outcomes(&mut self, history: &[(String, Increment, Revision)]) {
        let there: HashMap<&str, Revision> =
            history.iter().map(|(id, _, revision)| (&id[..], *revision)).collect();
        let mut complaints = Vec::new();
        for (id, attempt) in &self.said.attempts {
            let found = there.get(&id[..]).copied();
            let fits = match attempt.outcome {
                Outcome::Acknowledged(revision) => found == Some(revision),
                Outcome::Refused => found.is_none(),
                Outcome::Unknown => true,
                Outcome::Settled(there) => found.is_some() == there,
            };
            if !fits {
                let Attempt { outcome, create, .. } = attempt;
                complaints.push(format!("{id} of fence {create} is {outcome:?}, but {found:?}"));
            }
            if !attempt.held && found.is_some() {
                complaints.push(format!("{id} was done for a worker that knew of its loss"));
            }
        }
        for (id, increment, _) in history {
            let Some(attempt) = self.said.attempts.get(id) else {
                complaints.push(format!("{id} was done, and nobody asked for it"));
                continue;
            };
            let asked = (attempt.worker, attempt.number, attempt.create);
            if asked != (increment.worker, increment.number, increment.fence.create_revision) {
                complaints.push(format!("{id} is not what was asked for: {increment:?}"));
            }
        }
        self.complaints.extend(complaints);
    }

    /// One holder after the other, each with a higher fence, none after its successor, and none
    /// of an older number than there was.
    fn order(&mut self, history: &[(String, Increment, Revision)]) {
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

    /// In true time, too: who was answered before another asked came before it, and no two
    /// workers ever believed to be the holder.
    fn beliefs(&mut self, history: &[(String, Increment, Revision)], faults: &[Fault]) {
        let mut complaints = Vec::new();
        let mut claims = std::mem::take(&mut self.said.claims);
        claims.sort_by_key(|claim| claim.from);
        let mut last: Option<&Claim> = None;
        for claim in &claims {
            let Some(before) = last.replace(claim) else { continue };
            if claim.create <= before.create {
                complaints.push(format!("fence {} was held after {}", claim.create, before.create));
            }
            if before.until >= claim.from {
                self.overlaps.push((before.clone(), claim.clone()));
                if before.until > claim.until {
                    last = Some(before);
                }
            }
        }
        for (before, claim) in &self.overlaps {
            let aftermath = |fault: &&Fault| {
                fault.leaves_two_leaders()
                    && fault.from < claim.from
                    && claim.from < fault.until + AFTERMATH
            };
            if !faults.iter().any(|fault| aftermath(&fault)) {
                complaints.push(format!(
                    "two believe for {} ms: {before}, and {claim}",
                    (before.until - claim.from) / 1_000_000
                ));
            }
        }

        // Since when each fence was held.
        let successors: BTreeMap<Revision, u64> =
            claims.iter().map(|claim| (claim.create, claim.from)).collect();
        let done: Vec<(&Attempt, &String, Revision)> = history
            .iter()
            .filter_map(|(id, _, revision)| Some((self.said.attempts.get(id)?, id, *revision)))
            .collect();
        for (attempt, id, _) in &done {
            let after = (Bound::Excluded(attempt.create), Bound::Unbounded);
            if let Some((fence, from)) = successors.range(after).next()
                && attempt.began > *from
            {
                complaints.push(format!("{id} was done, and begun after {fence} was held"));
            }
        }
        let mut by_begin: Vec<(u64, &String, Revision)> =
            done.iter().map(|(attempt, id, revision)| (attempt.began, *id, *revision)).collect();
        by_begin.sort_unstable();
        let mut by_end: Vec<(u64, &String, Revision)> = done
            .iter()
            .filter_map(|(attempt, id, revision)| Some((attempt.ended?, *id, *revision)))
            .collect();
        by_end.sort_unstable();
        for pair in by_end.windows(2) {
            self.longest_gap = self.longest_gap.max(pair[1].0 - pair[0].0);
        }
        let mut ended = by_end.iter().peekable();
        let mut newest = Revision::NONE;
        for (began, id, revision) in by_begin {
            while let Some((_, _, earlier)) = ended.next_if(|(end, ..)| *end < began) {
                newest = newest.max(*earlier);
            }
            if revision <= newest {
                complaints.push(format!("{id} was done at {revision}, asked for after {newest}"));
            }
        }
        self.complaints.extend(complaints);
    }

    pub(crate) fn applied(&self) -> usize {
        self.applied
    }

    /// How many of the increments ended so.
    fn count(&self, which: impl Fn(Outcome) -> bool) -> usize {
        self.said.attempts.values().filter(|attempt| which(attempt.outcome)).count()
    }

    pub(crate) fn report(&self, journals: &[Journal], faults: &[Fault]) -> String {
        let acknowledged = self.count(|outcome| matches!(outcome, Outcome::Acknowledged(_)));
        let refused = self.count(|outcome| outcome == Outcome::Refused);
        let unknown = self.said.attempts.len() - acknowledged - refused;
        let mut text = format!(
            "{} increments: {acknowledged} acknowledged, {} of {unknown} unknown ones; \
             {refused} refused\nhighest fence {}, longest time without an increment {} ms, \
             {} workers in all, {} killed within a line\nsaid: {:?}\n",
            self.applied,
            self.applied - acknowledged.min(self.applied),
            self.highest,
            self.longest_gap / 1_000_000,
            journals.len(),
            journals.iter().filter(|journal| journal.torn).count(),
            self.said.counts,
        );
        let latency = |percent: usize| {
            let place = self.latencies.len().saturating_sub(1) * percent / 100;
            self.latencies.get(place).map_or(0.0, |nanos| *nanos as f64 / 1e6)
        };
        text += &format!(
            "from the turn to the grant, ms: half within {:.1}, 90 % within {:.1}, all within {:.0}\n",
            latency(50),
            latency(90),
            latency(100)
        );
        if let Some((nanos, whose)) = &self.idle {
            let millis = nanos / 1_000_000;
            text += &format!("longest turn that was not granted: {millis} ms, of {whose}\n");
        }
        text += &format!("done: {:?}\n", tally(faults));
        if !self.overlaps.is_empty() {
            let millis = self.overlaps.iter().map(|(a, b)| (a.until - b.from) / 1_000_000);
            text += &format!(
                "{} times somebody believed for a while after etcd took the lease too early, \
                 ms: {:?}\n",
                self.overlaps.len(),
                millis.collect::<Vec<_>>(),
            );
        }
        text
    }
}
