use bytes::Bytes;

use crate::name;

/// Whom a key waits for, among those that are older.
///
/// A queue has rules of one recipe. They are fair: whoever must wait holds up all who came later,
/// so that nobody is overtaken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// For nobody. Its owner only wants to hear what others do to it.
    Nobody,
    /// For all of them: a lock.
    Everybody,
    /// For those under this prefix: a reader, for the writers.
    Under(Bytes),
    /// For so many that there is room: a semaphore. A key weighs the permits that its
    /// [name](name::permits_of) tells.
    Room {
        /// The prefix of the keys that hold or want permits.
        under: Bytes,
        /// How many permits the key itself wants.
        needs: u32,
    },
}

impl Rule {
    /// What an older key weighs.
    fn weight(&self, key: &[u8]) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::Everybody => 1,
            Self::Under(prefix) => key.starts_with(prefix).into(),
            Self::Room { under, .. } => name::permits_of(key, under).map_or(0, u64::from),
        }
    }

    /// Whether a key waits for this one, if that is older.
    pub fn waits_for(&self, key: &[u8]) -> bool {
        self.weight(key) > 0
    }

    /// The rule of another key of the same semaphore.
    pub fn of(&self, key: &[u8]) -> Self {
        match self {
            Self::Room { under, .. } => {
                let needs = name::permits_of(key, under).unwrap_or(0);
                Self::Room { under: under.clone(), needs }
            }
            other => other.clone(),
        }
    }

    /// Whether it is a key's turn, these being all that are older, and `room` the number of
    /// permits there are; none as long as that is not known.
    pub fn admits<'a>(&self, older: impl Iterator<Item = &'a Bytes>, room: Option<u64>) -> bool {
        let may_be_ahead = match self {
            Self::Nobody => return true,
            Self::Everybody | Self::Under(_) => 0,
            Self::Room { needs, .. } => {
                match room.and_then(|room| room.checked_sub(u64::from(*needs))) {
                    Some(rest) => rest,
                    None => return false,
                }
            }
        };
        let mut ahead = 0u64;
        older.into_iter().all(|key| {
            ahead = ahead.saturating_add(self.weight(key));
            ahead <= may_be_ahead
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(rule: &Rule, older: &[&'static str], room: Option<u64>) -> bool {
        let older: Vec<_> = older.iter().map(|key| Bytes::from_static(key.as_bytes())).collect();
        rule.admits(older.iter(), room)
    }

    #[test]
    fn a_lock_waits_for_all_and_a_reader_for_the_writers() {
        assert!(admits(&Rule::Everybody, &[], None));
        assert!(!admits(&Rule::Everybody, &["p/a"], None));
        assert!(admits(&Rule::Nobody, &["p/a"], None));
        let reader = Rule::Under("p/write/".into());
        assert!(admits(&reader, &["p/read/1", "p/read/2"], None));
        assert!(!admits(&reader, &["p/read/1", "p/write/2"], None));
    }

    #[test]
    fn permits_are_given_while_there_is_room_for_all_who_came_before() {
        let two = Rule::Room { under: "p/q/".into(), needs: 2 };
        assert!(!admits(&two, &[], None));
        assert!(!admits(&two, &[], Some(1)));
        assert!(admits(&two, &["p/limit"], Some(2)));
        assert!(admits(&two, &["p/limit", "p/q/3/a-1"], Some(5)));
        assert!(!admits(&two, &["p/q/3/a-1", "p/q/1/a-2"], Some(5)));
        assert!(!admits(
            &two,
            &["p/q/4294967295/a-1", "p/q/4294967295/a-2"],
            Some(u64::from(u32::MAX))
        ));
    }
}
