use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

fn fence(cluster_id: u64, create: i64, modified: i64) -> Fence {
    Fence {
        cluster_id,
        key: Bytes::from_static(b"tenure/mutex/jobs/a1-0"),
        create_revision: Revision(create),
        mod_revision: Revision(modified),
        lease: LeaseId::new(0xa1).expect("not 0"),
    }
}

fn any_fence() -> impl Strategy<Value = Fence> {
    let ids = (any::<u64>(), any::<i64>().prop_filter_map("0 is none", LeaseId::new));
    let revisions = (any::<i64>(), any::<i64>());
    (ids, revisions, any::<Vec<u8>>()).prop_map(|((cluster_id, lease), revisions, key)| Fence {
        cluster_id,
        key: key.into(),
        create_revision: Revision(revisions.0),
        mod_revision: Revision(revisions.1),
        lease,
    })
}

/// Fences that often have something in common.
fn similar_fence() -> impl Strategy<Value = Fence> {
    let lease = (1..3_i64).prop_filter_map("0 is none", LeaseId::new);
    ((1..3_u64, lease), (1..4_i64, 1..4_i64)).prop_map(|((cluster_id, lease), revisions)| Fence {
        lease,
        ..fence(cluster_id, revisions.0, revisions.1)
    })
}

#[test]
fn it_is_printed_as_one_word() {
    assert_eq!(fence(0xcdf8, 7, 9).to_string(), "7.9@cdf8/a1/tenure/mutex/jobs/a1-0");
    let odd = Fence { key: Bytes::from_static(b"a b%=\xff\n"), ..fence(1, 2, 3) };
    assert_eq!(odd.to_string(), "2.3@1/a1/a%20b%25%3D%FF%0A");
}

#[test]
fn only_its_own_text_is_read() {
    let others = [
        "",
        "7",
        "7.9",
        "7.9@cdf8",
        "7.9@cdf8/a1",
        "7.9@cdf8/0/k",
        "07.9@cdf8/a1/k",
        "+7.9@cdf8/a1/k",
        "7.9@CDF8/a1/k",
        "7.9@cdf8/0a1/k",
        "7.9@+cdf8/a1/k",
        " 7.9@cdf8/a1/k",
        "7.9@cdf8/a1/k k",
        "7.9@cdf8/a1/%2f",
        "7.9@cdf8/a1/%6B",
        "7.9@cdf8/a1/%2",
        "7.9@cdf8/a1/ü",
        "7.9@10000000000000000/a1/k",
        "7.x@cdf8/a1/k",
        "7@cdf8/a1/k.9",
    ];
    for text in others {
        assert_eq!(text.parse::<Fence>().ok(), None, "{text:?}");
    }
    let message = "x".parse::<Fence>().unwrap_err().to_string();
    assert!(message.contains("<create>.<mod>@<cluster>/<lease>/<key>"), "{message}");
}

#[test]
fn a_later_creation_is_newer_and_then_a_later_put() {
    assert!(fence(1, 7, 9) < fence(1, 8, 8));
    assert!(fence(1, 7, 9) > fence(1, 7, 8));
    assert_eq!(fence(1, 7, 9).partial_cmp(&fence(1, 7, 9)), Some(Ordering::Equal));
    assert_eq!(fence(1, 7, 9).partial_cmp(&fence(2, 8, 9)), None);
    let other = Fence { key: Bytes::from_static(b"k"), ..fence(1, 7, 9) };
    assert_eq!(fence(1, 7, 9).partial_cmp(&other), None);
}

#[test]
fn a_gate_refuses_what_is_older_than_what_it_saw() {
    let gate = FenceGate::new();
    assert_eq!(gate.highest("jobs"), None);
    for newer in [fence(1, 7, 7), fence(1, 7, 7), fence(1, 7, 8), fence(1, 9, 9)] {
        assert_eq!(gate.admit("jobs", &newer), Ok(()));
        assert_eq!(gate.highest("jobs"), Some(newer));
    }
    let refused = gate.admit("jobs", &fence(1, 7, 8)).unwrap_err();
    assert_eq!(refused.highest(), Some(&fence(1, 9, 9)));
    assert_eq!((refused.name(), refused.fence()), ("jobs", &fence(1, 7, 8)));
    assert_eq!(
        refused.to_string(),
        "the fence 7.8@1/a1/tenure/mutex/jobs/a1-0 for \"jobs\" is refused: it must not be older \
         than 9.9@1/a1/tenure/mutex/jobs/a1-0, which was seen before"
    );
    assert_eq!(gate.admit("mail", &fence(1, 7, 7)), Ok(()), "another name");
}

#[test]
fn a_gate_refuses_what_is_of_another_cluster() {
    let gate = FenceGate::new();
    gate.admit("jobs", &fence(1, 7, 7)).unwrap();
    let refused = gate.admit("jobs", &fence(0xc2, 9, 9)).unwrap_err();
    assert!(refused.to_string().contains("of the same cluster as 7.7@1/"), "{refused}");

    let gate = FenceGate::of_cluster(0xc1);
    let refused = gate.admit("jobs", &fence(0xc2, 9, 9)).unwrap_err();
    assert_eq!(refused.highest(), None);
    assert!(refused.to_string().ends_with("it must be of the cluster c1"), "{refused}");
    assert_eq!(gate.admit("jobs", &fence(0xc1, 7, 7)), Ok(()));
    assert!(gate.admit("jobs", &fence(0xc2, 9, 9)).is_err());
}

#[cfg(feature = "serde")]
#[test]
fn json_carries_it_as_a_plain_struct() {
    let json = r#"{"cluster_id":"ffffffffffffffff","key":"tenure/mutex/jobs/a1-0","create_revision":7,"mod_revision":9,"lease":"a1"}"#;
    assert_eq!(serde_json::to_string(&fence(u64::MAX, 7, 9)).unwrap(), json);
    assert_eq!(serde_json::from_str::<Fence>(json).unwrap(), fence(u64::MAX, 7, 9));
    let refused = serde_json::from_str::<Fence>(&json.replace("a1\"}", "0\"}")).unwrap_err();
    assert!(refused.to_string().starts_with("not a fence"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    #[test]
    fn what_is_printed_can_be_read(fence in any_fence()) {
        let text = fence.to_string();
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{}", text);
        prop_assert_eq!(text.parse::<Fence>(), Ok(fence));
    }

    #[test]
    fn no_text_has_a_second_spelling(text in "[0-9+-]{1,3}\\.[0-9]{1,2}@[0-9a-fA-F]{1,3}/[0-9a]{1,3}/[a%2F]{0,4}") {
        if let Ok(fence) = text.parse::<Fence>() {
            prop_assert_eq!(fence.to_string(), text);
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn what_is_written_as_json_can_be_read(fence in any_fence()) {
        let json = serde_json::to_string(&fence).unwrap();
        prop_assert_eq!(serde_json::from_str::<Fence>(&json).unwrap(), fence);
    }

    #[test]
    fn the_order_is_one(a in similar_fence(), b in similar_fence(), c in similar_fence()) {
        prop_assert_eq!(a.partial_cmp(&b), b.partial_cmp(&a).map(Ordering::reverse));
        prop_assert_eq!(a.partial_cmp(&b) == Some(Ordering::Equal), a == b);
        if a < b && b < c {
            prop_assert!(a < c);
        }
    }

    /// What is admitted never goes back, and nothing that is as new as all before is refused.
    #[test]
    fn a_gate_only_ever_rises(
        fences in prop::collection::vec(similar_fence(), 1..30),
        cluster in prop::option::of(1..3_u64),
    ) {
        let gate = cluster.map_or_else(FenceGate::new, FenceGate::of_cluster);
        for fence in &fences {
            let before = gate.highest("jobs");
            let admitted = gate.admit("jobs", fence).is_ok();
            let expected = match &before {
                Some(highest) => fence >= highest,
                None => cluster.is_none_or(|id| id == fence.cluster_id),
            };
            prop_assert_eq!(admitted, expected);
            prop_assert_eq!(gate.highest("jobs"), if admitted { Some(fence.clone()) } else { before });
        }
    }
}
