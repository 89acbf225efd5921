use tenure::wire::{
    etcdserverpb::{
        Compare,
        compare::{CompareResult, CompareTarget, TargetUnion},
    },
    mvccpb::KeyValue,
};

use super::{Span, Store};

impl Store {
    /// Whether all of these hold.
    pub(super) fn holds(&self, compares: &[Compare]) -> bool {
        compares.iter().all(|compare| self.holds_one(compare))
    }

    /// It must hold for each key of its range; where there is none, for a key that never was.
    fn holds_one(&self, compare: &Compare) -> bool {
        let span = Span::new(&compare.key, &compare.range_end);
        let mut living = self.living(&span, i64::MAX).peekable();
        if living.peek().is_none() {
            // What is not there has no value, not even one that differs.
            let of_value = compare.target == CompareTarget::Value as i32;
            return !of_value && holds_for(compare, &KeyValue::default());
        }
        living.all(|record| holds_for(compare, &record.kv))
    }
}

/// An operand that is missing, or of another kind, counts as zero; a relation that etcd does not
/// know holds, and so does a thing to compare.
fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let operand = compare.target_union.as_ref();
    let number = |pick: fn(&TargetUnion) -> Option<i64>| operand.and_then(pick).unwrap_or(0);
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => kv.version.cmp(&number(|operand| match operand {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        })),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&number(|operand| match operand {
            TargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        })),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&number(|operand| match operand {
            TargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        })),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&number(|operand| match operand {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        })),
        Ok(CompareTarget::Value) => match operand {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value[..].cmp(&[][..]),
        },
        Err(_) => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
