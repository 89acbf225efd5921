//! Which endpoints deserve calls: quick circuit-breaking, and probes to return.
//!
//! One failure takes an endpoint out of the rotation while others serve; from then on only
//! probes go there, until one is answered. A member that is frozen or cut off therefore costs
//! each call in flight one attempt, and later calls nothing. With nobody left in the rotation
//! everybody is, since an endpoint that fails is better than none.

use crate::{Moment, backoff::Outage};

/// How a call, or a probe, to an endpoint went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// An answer came, whatever it said.
    Answered,
    /// No connection could be made, or it broke.
    Failed,
    /// What came back could not be understood; the connection is dropped.
    Garbled,
    /// Nothing came back for the time of an attempt, to nobody.
    Silent,
    /// Nothing has come back where that may be honest (a write, or others were answered): worth a
    /// probe, no more.
    Slow,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    state: State,
    /// A probe is out.
    probing: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Healthy,
    /// In the rotation, but to be probed.
    Doubted,
    /// Out of the rotation.
    Broken {
        outage: Outage,
        next_probe: Moment,
    },
}

impl State {
    fn broken(now: Moment, mut outage: Outage) -> Self {
        let next_probe = now + outage.pause(now);
        Self::Broken { outage, next_probe }
    }
}

impl Member {
    fn probe_due(&self) -> Option<Moment> {
        match self.state {
            _ if self.probing => None,
            State::Healthy => None,
            State::Doubted => Some(Moment::default()),
            State::Broken { next_probe, .. } => Some(next_probe),
        }
    }
}

/// The health of each endpoint of a client, by its place in the list.
#[derive(Debug)]
pub struct Endpoints {
    members: Vec<Member>,
}

impl Endpoints {
    /// `count` endpoints of which nothing bad is known.
    pub fn new(count: usize) -> Self {
        Self { members: vec![Member { state: State::Healthy, probing: false }; count] }
    }

    /// The same after a change of the list: for each endpoint, where it was in the old one.
    pub fn rearranged(&self, before: &[Option<usize>]) -> Self {
        let old = |place: &Option<usize>| place.and_then(|place| self.members.get(place).copied());
        let unknown = Member { state: State::Healthy, probing: false };
        Self { members: before.iter().map(|place| old(place).unwrap_or(unknown)).collect() }
    }

    /// Takes in what became of a call. True when the rotation changed.
    pub fn handle_report(&mut self, now: Moment, endpoint: usize, report: Report) -> bool {
        let Some(member) = self.members.get_mut(endpoint) else { return false };
        match (member.state, report) {
            // An answer to a call sent before the endpoint broke proves nothing about now.
            (State::Broken { .. }, _) | (State::Healthy, Report::Answered) => false,
            (State::Doubted, Report::Answered) => {
                member.state = State::Healthy;
                false
            }
            (State::Healthy | State::Doubted, Report::Slow) => {
                member.state = State::Doubted;
                false
            }
            (State::Healthy | State::Doubted, _) => {
                member.state = State::broken(now, Outage::new(now));
                true
            }
        }
    }

    /// Takes in the end of a probe. True when the rotation changed.
    pub fn handle_probe(&mut self, now: Moment, endpoint: usize, answered: bool) -> bool {
        let Some(member) = self.members.get_mut(endpoint) else { return false };
        member.probing = false;
        let was_broken = matches!(member.state, State::Broken { .. });
        member.state = match member.state {
            _ if answered => State::Healthy,
            State::Healthy => State::Healthy,
            State::Doubted => State::broken(now, Outage::new(now)),
            State::Broken { outage, .. } => State::broken(now, outage),
        };
        was_broken != matches!(member.state, State::Broken { .. })
    }

    /// An endpoint that is to be probed now; the caller answers with [`Self::handle_probe`].
    pub fn poll_probe(&mut self, now: Moment) -> Option<usize> {
        let due = |member: &Member| member.probe_due().is_some_and(|at| at <= now);
        let place = self.members.iter().position(due)?;
        self.members[place].probing = true;
        Some(place)
    }

    /// When the next probe is due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.members.iter().filter_map(Member::probe_due).min()
    }

    /// The endpoints to call, in turn; never empty unless there is none at all.
    pub fn rotation(&self) -> Vec<usize> {
        let healthy: Vec<_> = (0..self.members.len()).filter(|&i| self.is_healthy(i)).collect();
        if healthy.is_empty() { (0..self.members.len()).collect() } else { healthy }
    }

    /// Whether the endpoint takes part in the rotation by its own merit.
    pub fn is_healthy(&self, endpoint: usize) -> bool {
        self.members.get(endpoint).is_some_and(|m| !matches!(m.state, State::Broken { .. }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn one_failure_takes_an_endpoint_out_and_an_answered_probe_returns_it() {
        let mut endpoints = Endpoints::new(3);
        assert!(endpoints.handle_report(at(0), 1, Report::Failed));
        assert_eq!(endpoints.rotation(), [0, 2]);
        assert_eq!(endpoints.poll_probe(at(1)), None);
        assert_eq!(endpoints.poll_timeout(), Some(at(5)));
        assert_eq!(endpoints.poll_probe(at(5)), Some(1));
        assert_eq!(endpoints.poll_probe(at(500)), None, "one probe at a time");
        assert!(endpoints.handle_probe(at(6), 1, true));
        assert_eq!(endpoints.rotation(), [0, 1, 2]);
    }

    #[test]
    fn an_endpoint_that_stays_in_the_list_keeps_its_name() {
        let mut endpoints = Endpoints::new(2);
        endpoints.handle_report(at(0), 1, Report::Silent);
        assert_eq!(endpoints.rearranged(&[Some(1), None, Some(0)]).rotation(), [1, 2]);
    }

    #[test]
    fn with_nobody_healthy_everybody_is_called() {
        let mut endpoints = Endpoints::new(2);
        endpoints.handle_report(at(0), 0, Report::Silent);
        endpoints.handle_report(at(0), 1, Report::Failed);
        assert_eq!(endpoints.rotation(), [0, 1]);
    }

    #[test]
    fn a_late_answer_does_not_return_a_broken_endpoint() {
        let mut endpoints = Endpoints::new(2);
        endpoints.handle_report(at(0), 0, Report::Silent);
        assert!(!endpoints.handle_report(at(1), 0, Report::Answered));
        assert_eq!(endpoints.rotation(), [1]);
    }

    #[test]
    fn a_slow_write_leads_to_a_probe_and_only_the_probe_breaks() {
        let mut endpoints = Endpoints::new(2);
        assert!(!endpoints.handle_report(at(0), 0, Report::Slow));
        assert_eq!(endpoints.rotation(), [0, 1]);
        assert_eq!(endpoints.poll_probe(at(0)), Some(0));
        assert_eq!(endpoints.poll_probe(at(0)), None);
        assert!(endpoints.handle_probe(at(1000), 0, false));
        assert_eq!(endpoints.rotation(), [1]);
    }

    proptest! {
        #[test]
        fn the_rotation_is_never_empty_and_a_probe_never_runs_twice(
            steps in prop::collection::vec((0u8..6, 0usize..4, 0u64..2000), 0..200),
        ) {
            let mut endpoints = Endpoints::new(3);
            let mut running = [false; 3];
            let mut now = at(0);
            for (kind, endpoint, ms) in steps {
                now = now + Duration::from_millis(ms);
                match kind {
                    0 => { endpoints.handle_report(now, endpoint, Report::Answered); }
                    1 => { endpoints.handle_report(now, endpoint, Report::Failed); }
                    2 => { endpoints.handle_report(now, endpoint, Report::Slow); }
                    3 if endpoint < 3 && running[endpoint] => {
                        running[endpoint] = false;
                        endpoints.handle_probe(now, endpoint, ms % 2 == 0);
                    }
                    _ => {
                        if let Some(probed) = endpoints.poll_probe(now) {
                            prop_assert!(!running[probed]);
                            running[probed] = true;
                        }
                    }
                }
                prop_assert!(!endpoints.rotation().is_empty());
            }
        }
    }
}
