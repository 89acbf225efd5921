use std::time::Duration;

use proptest::prelude::*;
use tenure_core::{LeaseId, Revision};

use super::*;
use crate::client::LeaseCell;

fn fence() -> Fence {
    Fence {
        cluster_id: 1,
        key: "tenure/mutex/m/1-1".into(),
        create_revision: Revision(7),
        mod_revision: Revision(7),
        lease: LeaseId::new(1).unwrap(),
    }
}

/// What may happen to a claim and to its lease, in any order and at any time.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Ahead(usize),
    Turn,
    Failed,
    Held,
    KeyDeleted,
    Released,
    /// The lease was renewed for so many milliseconds more.
    Renewed(u64),
    Overdue,
    Revoked,
    /// Time passes, in milliseconds.
    Passes(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..5usize).prop_map(Happening::Ahead),
        Just(Happening::Turn),
        Just(Happening::Failed),
        Just(Happening::Held),
        Just(Happening::KeyDeleted),
        Just(Happening::Released),
        (1..5000u64).prop_map(Happening::Renewed),
        Just(Happening::Overdue),
        Just(Happening::Revoked),
        (0..4000u64).prop_map(Happening::Passes),
    ]
}

proptest! {
    #[test]
    fn what_is_over_stays_over_and_nothing_is_held_past_its_deadline(
        happenings in proptest::collection::vec(happening(), 0..60),
    ) {
        let (mut stage, cell) = (Stage::Waiting { ahead: None }, LeaseCell::new());
        let mut now = Moment::from_nanos(1);
        cell.renewed(now + Duration::from_secs(3), Duration::from_secs(3));
        let (mut over, mut ends): (Option<ClaimState>, _) = (None, 0);
        for happening in happenings {
            let was_final = stage.loss().is_some();
            let moved = match happening {
                Happening::Ahead(count) => stage.advance(Stage::Waiting { ahead: Some(count) }),
                Happening::Turn => stage.advance(Stage::Turn),
                Happening::Failed => stage.advance(Stage::Failed(Error::closed("test"))),
                Happening::Held => stage.advance(Stage::Held(fence())),
                Happening::KeyDeleted => stage.advance(Stage::Lost(LossReason::KeyDeleted)),
                Happening::Released => stage.advance(Stage::Released),
                Happening::Renewed(more) => {
                    // The Lease actor renews nothing that is past its deadline.
                    if now < cell.deadline() {
                        let more = Duration::from_millis(more);
                        cell.renewed(now + more, more);
                    }
                    false
                }
                Happening::Overdue => {
                    cell.endangered(cell.deadline());
                    false
                }
                Happening::Revoked => {
                    cell.lost(LossReason::Revoked);
                    false
                }
                Happening::Passes(time) => {
                    now = now + Duration::from_millis(time);
                    false
                }
            };
            prop_assert!(!(was_final && moved), "final is final");
            ends += usize::from(moved && stage.loss().is_some());

            let state = stage.state(Some(cell.state(now)));
            if matches!(state, ClaimState::Held { .. } | ClaimState::Jeopardy { .. }) {
                prop_assert!(now < cell.deadline(), "held at {now:?}, past its deadline");
                prop_assert!(matches!(stage, Stage::Held(_)), "held without a grant");
            }
            if let Some(over) = &over {
                prop_assert!(state.is_final(), "{state:?} after {over:?}");
            }
            if state.is_final() {
                over = Some(state);
            }
        }
        prop_assert!(ends <= 1, "ended {ends} times");
    }
}

#[test]
fn a_turn_is_no_hold_until_the_session_was_looked_at() {
    let mut stage = Stage::Waiting { ahead: Some(2) };
    assert!(stage.advance(Stage::Turn));
    assert_eq!(stage.state(None), ClaimState::Waiting { ahead: Some(0) });
    let lost = LeaseState::Lost { reason: LossReason::Expired };
    let expected = ClaimState::Lost { reason: LossReason::Expired };
    assert_eq!(stage.state(Some(lost)), expected);
    assert!(stage.advance(Stage::Held(fence())));
    assert!(!stage.advance(Stage::Waiting { ahead: Some(1) }), "late news changes nothing");
    assert_eq!(stage.state(Some(LeaseState::Healthy)), ClaimState::Held { fence: fence() });
    assert!(stage.advance(Stage::Lost(LossReason::KeyDeleted)));
    assert!(!stage.advance(Stage::Held(fence())));
    assert!(!stage.advance(Stage::Released));
}
