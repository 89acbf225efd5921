use super::{Compare, Op};

/// Does several operations at one revision, depending on conditions.
///
/// If all of [`when`](Self::when) holds, all of [`and_then`](Self::and_then) is done, otherwise
/// all of [`or_else`](Self::or_else). No key may be put twice, nor put and deleted, in one branch.
/// Reads see the writes that stand before them.
///
/// A txn that writes nothing in any branch is a read and is repeated like one; any other is sent
/// at most once unless nothing reached a server.
#[derive(Clone, Debug)]
#[must_use = "an operation runs when it is awaited"]
pub struct Txn<V = ()> {
    pub(crate) compares: Vec<Compare>,
    pub(crate) and_then: Vec<Op>,
    pub(crate) or_else: Vec<Op>,
    pub(crate) via: V,
}

impl Txn {
    /// A txn without conditions, which hold then.
    pub fn new() -> Self {
        Self::with(())
    }
}

impl Default for Txn {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Txn<V> {
    pub(crate) fn with(via: V) -> Self {
        Self { compares: Vec::new(), and_then: Vec::new(), or_else: Vec::new(), via }
    }

    /// Adds conditions.
    pub fn when(mut self, compares: impl IntoIterator<Item = Compare>) -> Self {
        self.compares.extend(compares);
        self
    }

    /// Adds operations for when all conditions hold.
    pub fn and_then(mut self, ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        self.and_then.extend(ops.into_iter().map(Into::into));
        self
    }

    /// Adds operations for when a condition does not hold.
    pub fn or_else(mut self, ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        self.or_else.extend(ops.into_iter().map(Into::into));
        self
    }

    pub(super) fn detach(self) -> (Txn, V) {
        let Self { compares, and_then, or_else, via } = self;
        (Txn { compares, and_then, or_else, via: () }, via)
    }
}
