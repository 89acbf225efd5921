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
    /// Nothing has come back yet where that may be honest (a write): worth a probe, no more.
    Slow,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Healthy,
    /// In the rotation, with a probe out or due.
    Doubted {
        probing: bool,
    },
    /// Out of the rotation.
    Broken {
        outage: Outage,
        probe: Probe,
    },
}

#[derive(Clone, Copy, Debug)]
enum Probe {
    At(Moment),
    Running,
}

impl State {
    fn broken(now: Moment) -> Self {
        let mut outage = Outage::new(now);
        let probe = Probe::At(now + outage.pause(now));
        Self::Broken { outage, probe }
    }
}

/// The health of each endpoint of a client, by its place in the list.
#[derive(Debug)]
pub struct Endpoints {
    states: Vec<State>,
}

impl Endpoints {
    /// `count` endpoints of which nothing bad is known.
    pub fn new(count: usize) -> Self {
        Self { states: vec![State::Healthy; count] }
    }

    /// Takes in what became of a call. True when the rotation changed.
    pub fn handle_report(&mut self, now: Moment, endpoint: usize, report: Report) -> bool {
        let Some(state) = self.states.get_mut(endpoint) else { return false };
        match (*state, report) {
            // An answer to a call sent before the endpoint broke proves nothing about now.
            (State::Broken { .. } | State::Healthy, Report::Answered) => false,
            (State::Doubted { .. }, Report::Answered) => {
                *state = State::Healthy;
                false
            }
            (State::Healthy, Report::Slow) => {
                *state = State::Doubted { probing: false };
                false
            }
            (_, Report::Slow) | (State::Broken { .. }, _) => false,
            (State::Healthy | State::Doubted { .. }, _) => {
                *state = State::broken(now);
                true
            }
        }
    }

    /// Takes in the end of a probe. True when the rotation changed.
    pub fn handle_probe(&mut self, now: Moment, endpoint: usize, answered: bool) -> bool {
        let Some(state) = self.states.get_mut(endpoint) else { return false };
        match *state {
            State::Healthy => false,
            State::Doubted { .. } if answered => {
                *state = State::Healthy;
                false
            }
            State::Doubted { .. } => {
                *state = State::broken(now);
                true
            }
            State::Broken { .. } if answered => {
                *state = State::Healthy;
                true
            }
            State::Broken { mut outage, .. } => {
                let probe = Probe::At(now + outage.pause(now));
                *state = State::Broken { outage, probe };
                false
            }
        }
    }

    /// An endpoint that is to be probed now; the caller answers with [`Self::handle_probe`].
    pub fn poll_probe(&mut self, now: Moment) -> Option<usize> {
        self.states.iter_mut().position(|state| match state {
            State::Doubted { probing } if !*probing => {
                *probing = true;
                true
            }
            State::Broken { probe, .. } if matches!(*probe, Probe::At(at) if at <= now) => {
                *probe = Probe::Running;
                true
            }
            _ => false,
        })
    }

    /// When the next probe is due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.states
            .iter()
            .filter_map(|state| match state {
                State::Broken { probe: Probe::At(at), .. } => Some(*at),
                State::Doubted { probing: false } => Some(Moment::default()),
                _ => None,
            })
            .min()
    }

    /// The endpoints to call, in turn; never empty unless there is none at all.
    pub fn rotation(&self) -> Vec<usize> {
        let healthy: Vec<_> = (0..self.states.len()).filter(|&i| self.is_healthy(i)).collect();
        if healthy.is_empty() { (0..self.states.len()).collect() } else { healthy }
    }

    /// Whether the endpoint takes part in the rotation by its own merit.
    pub fn is_healthy(&self, endpoint: usize) -> bool {
        !matches!(self.states.get(endpoint), None | Some(State::Broken { .. }))
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
                            running[probed] = true;
                        }
                    }
                }
                prop_assert!(!endpoints.rotation().is_empty());
            }
        }
    }
}
