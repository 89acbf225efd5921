use tenure::wire::authpb::{Permission, permission::Type};

use super::key_set::{Interval, KeySet};

#[derive(Clone, Copy, Debug)]
pub(super) enum Right {
    Read,
    Write,
}

/// What the permissions of all roles of a user come to.
#[derive(Debug, Default)]
pub(super) struct Rights {
    read: KeySet,
    write: KeySet,
}

impl Rights {
    pub(super) fn of<'a>(permissions: impl Iterator<Item = &'a Permission> + Clone) -> Self {
        let keys = |kinds: [Type; 2]| {
            let fitting = permissions.clone().filter(move |permission| {
                kinds.iter().any(|kind| *kind as i32 == permission.perm_type)
            });
            fitting.map(interval).collect()
        };
        Self {
            read: keys([Type::Read, Type::Readwrite]),
            write: keys([Type::Write, Type::Readwrite]),
        }
    }

    pub(super) fn cover(&self, right: Right, key: &[u8], range_end: &[u8]) -> bool {
        let keys = match right {
            Right::Read => &self.read,
            Right::Write => &self.write,
        };
        keys.covers(key, range_end)
    }
}

pub(super) fn interval(permission: &Permission) -> Interval {
    Interval::new(&permission.key, &permission.range_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(perm_type: i32, key: &'static str, range_end: &'static str) -> Permission {
        Permission { perm_type, key: key.into(), range_end: range_end.into() }
    }

    #[test]
    fn each_type_gives_the_rights_it_is_named_after() {
        let permissions = [
            permission(Type::Read as i32, "r", ""),
            permission(Type::Write as i32, "w", ""),
            permission(Type::Readwrite as i32, "x", ""),
        ];
        let rights = Rights::of(permissions.iter());
        let has = |right, key: &str| rights.cover(right, key.as_bytes(), b"");
        assert!(has(Right::Read, "r") && !has(Right::Write, "r"));
        assert!(!has(Right::Read, "w") && has(Right::Write, "w"));
        assert!(has(Right::Read, "x") && has(Right::Write, "x"));
    }

    #[test]
    fn an_unknown_type_gives_nothing() {
        let rights = Rights::of([permission(9, "a", "")].iter());
        assert!(!rights.cover(Right::Read, b"a", b"") && !rights.cover(Right::Write, b"a", b""));
    }

    #[test]
    fn permissions_of_unlike_types_join_where_they_give_the_same_right() {
        let permissions =
            [permission(Type::Read as i32, "a", "c"), permission(Type::Readwrite as i32, "c", "e")];
        let rights = Rights::of(permissions.iter());
        assert!(rights.cover(Right::Read, b"a", b"e"));
        assert!(!rights.cover(Right::Write, b"a", b"e"));
    }
}
