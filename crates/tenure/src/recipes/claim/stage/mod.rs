//! Where a claim stands: a machine without clock, I/O or memory of its own.

use tenure_core::{Fence, Moment};

use crate::{
    client::LeaseState,
    error::{Error, LossReason},
};

/// How it stands with something that a session asked for: a lock, for one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimState {
    /// Others are first.
    Waiting {
        /// How many, as far as is known.
        ahead: Option<usize>,
    },
    /// It is ours.
    Held {
        /// What proves it, of a claim for several names the first.
        fence: Fence,
    },
    /// It is ours, but the session's renewal is overdue: get ready to stop.
    Jeopardy {
        /// When it will be lost, on the client's clock.
        until: Moment,
    },
    /// It is ours no longer. Final.
    Lost {
        /// Why.
        reason: LossReason,
    },
    /// It was given back, or given up. Final.
    Released,
}

impl ClaimState {
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Released)
    }
}

/// What happened to the claim itself; its session may be lost besides.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Waiting {
        ahead: Option<usize>,
    },
    /// Nobody is older; whether the session still lives is being looked at.
    Turn,
    Failed(Error),
    Held(Fence),
    Lost(LossReason),
    Released,
}

impl Stage {
    /// Moves on, if that is possible from here. What is final stays.
    pub(super) fn advance(&mut self, next: Self) -> bool {
        let ends = matches!(next, Self::Lost(_) | Self::Released);
        let possible = match self {
            Self::Waiting { .. } => true,
            Self::Turn => ends || matches!(next, Self::Held(_)),
            Self::Held(_) | Self::Failed(_) => ends,
            Self::Lost(_) | Self::Released => false,
        };
        if possible {
            *self = next;
        }
        possible
    }

    /// Why it is over, whatever the session says.
    pub(super) fn loss(&self) -> Option<LossReason> {
        match self {
            Self::Lost(reason) => Some(*reason),
            Self::Released => Some(LossReason::Closed),
            _ => None,
        }
    }

    /// What to tell, the lease being as it is; none while it hangs on no lease yet.
    pub(super) fn state(&self, lease: Option<LeaseState>) -> ClaimState {
        match (self, lease) {
            (Self::Lost(reason), _) => ClaimState::Lost { reason: *reason },
            (Self::Released, _) => ClaimState::Released,
            (Self::Failed(error), _) => match error.loss_reason() {
                Some(reason) => ClaimState::Lost { reason },
                None => ClaimState::Released,
            },
            (_, Some(LeaseState::Lost { reason })) => ClaimState::Lost { reason },
            (Self::Waiting { ahead }, _) => ClaimState::Waiting { ahead: *ahead },
            (Self::Turn, _) => ClaimState::Waiting { ahead: Some(0) },
            (Self::Held(_), Some(LeaseState::Jeopardy { until })) => ClaimState::Jeopardy { until },
            (Self::Held(fence), _) => ClaimState::Held { fence: fence.clone() },
        }
    }
}

#[cfg(test)]
mod tests;
