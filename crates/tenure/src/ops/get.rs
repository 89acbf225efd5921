use tenure_core::{KeyRange, Revision};

use super::{Via, check_range};
use crate::error::{Error, Result};

/// What [`Get::sort`] orders by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The key, in byte order.
    Key,
    /// How often the key was put since its creation.
    Version,
    /// When the key was created.
    CreateRevision,
    /// When the key was last changed.
    ModRevision,
    /// The value, in byte order.
    Value,
}

/// Which way [`Get::sort`] orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Lowest first.
    Ascending,
    /// Highest first.
    Descending,
}

/// Lower and upper bound of a revision, 0 where there is none.
pub(crate) type Bounds = (Revision, Revision);

/// Reads the keys of a range.
///
/// Linearizable unless said otherwise: it sees every write that was answered before it began.
#[derive(Clone, Debug)]
#[must_use = "an operation runs when it is awaited"]
pub struct Get<V = ()> {
    pub(crate) range: KeyRange,
    pub(crate) limit: u32,
    pub(crate) revision: Revision,
    pub(crate) sort: Option<(SortBy, Order)>,
    pub(crate) serializable: bool,
    pub(crate) keys_only: bool,
    pub(crate) mod_revision: Bounds,
    pub(crate) create_revision: Bounds,
    pub(crate) via: V,
}

impl Get {
    /// Reads `range`: a key, or any [`KeyRange`].
    pub fn new(range: impl Into<KeyRange>) -> Self {
        Self::with(range.into(), ())
    }
}

impl<V> Get<V> {
    pub(crate) fn with(range: KeyRange, via: V) -> Self {
        Self {
            range,
            limit: 0,
            revision: Revision::NONE,
            sort: None,
            serializable: false,
            keys_only: false,
            mod_revision: Bounds::default(),
            create_revision: Bounds::default(),
            via,
        }
    }

    /// Answers with `limit` keys at most; 0, the default, means all. The answer says whether there
    /// are more, and how many keys the range holds in all.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Reads the store as it was at `revision`.
    pub fn revision(mut self, revision: Revision) -> Self {
        self.revision = revision;
        self
    }

    /// Orders the answer; by default it is ordered by key, ascending. Any other order makes the
    /// server read the whole range before it applies a limit.
    pub fn sort(mut self, by: SortBy, order: Order) -> Self {
        self.sort = Some((by, order));
        self
    }

    /// Only the lowest by `by`.
    pub fn first(self, by: SortBy) -> Self {
        self.sort(by, Order::Ascending).limit(1)
    }

    /// Only the highest by `by`.
    pub fn last(self, by: SortBy) -> Self {
        self.sort(by, Order::Descending).limit(1)
    }

    /// Lets the member that is asked answer from what it has, which may be old, without asking
    /// the others. Served even without a quorum.
    pub fn serializable(mut self) -> Self {
        self.serializable = true;
        self
    }

    /// Leaves the values out.
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Only keys last changed at `revision` or later.
    pub fn min_mod_revision(mut self, revision: Revision) -> Self {
        self.mod_revision.0 = revision;
        self
    }

    /// Only keys last changed at `revision` or earlier.
    pub fn max_mod_revision(mut self, revision: Revision) -> Self {
        self.mod_revision.1 = revision;
        self
    }

    /// Only keys created at `revision` or later.
    pub fn min_create_revision(mut self, revision: Revision) -> Self {
        self.create_revision.0 = revision;
        self
    }

    /// Only keys created at `revision` or earlier.
    pub fn max_create_revision(mut self, revision: Revision) -> Self {
        self.create_revision.1 = revision;
        self
    }

    pub(super) fn detach(self) -> (Get, V) {
        let Self { range, limit, revision, sort, serializable, keys_only, .. } = self;
        let Self { mod_revision, create_revision, via, .. } = self;
        let op = Get {
            range,
            limit,
            revision,
            sort,
            serializable,
            keys_only,
            mod_revision,
            create_revision,
            via: (),
        };
        (op, via)
    }

    pub(super) fn check(&self) -> Result<()> {
        check_range("get", &self.range)?;
        for (field, revision) in [
            ("revision", self.revision),
            ("min_mod_revision", self.mod_revision.0),
            ("max_mod_revision", self.mod_revision.1),
            ("min_create_revision", self.create_revision.0),
            ("max_create_revision", self.create_revision.1),
        ] {
            check_revision("get", field, revision)?;
        }
        Ok(())
    }
}

fn check_revision(what: &'static str, field: &str, revision: Revision) -> Result<()> {
    if revision < Revision::NONE {
        return Err(Error::invalid(what, format!("{field} is negative")));
    }
    Ok(())
}

impl Get<Via> {
    pub(crate) fn via(range: KeyRange, via: Via) -> Self {
        Self::with(range, via)
    }
}

/// Counts the keys of a range, without reading them.
#[derive(Clone, Debug)]
#[must_use = "an operation runs when it is awaited"]
pub struct Count<V = ()> {
    pub(crate) range: KeyRange,
    pub(crate) revision: Revision,
    pub(crate) serializable: bool,
    pub(crate) via: V,
}

impl Count {
    /// Counts `range`.
    pub fn new(range: impl Into<KeyRange>) -> Self {
        Self::with(range.into(), ())
    }
}

impl<V> Count<V> {
    pub(crate) fn with(range: KeyRange, via: V) -> Self {
        Self { range, revision: Revision::NONE, serializable: false, via }
    }

    /// Counts the keys there were at `revision`.
    pub fn revision(mut self, revision: Revision) -> Self {
        self.revision = revision;
        self
    }

    /// As [`Get::serializable`].
    pub fn serializable(mut self) -> Self {
        self.serializable = true;
        self
    }

    pub(super) fn detach(self) -> (Count, V) {
        let Self { range, revision, serializable, via } = self;
        (Count { range, revision, serializable, via: () }, via)
    }

    pub(super) fn check(&self) -> Result<()> {
        check_range("count", &self.range)?;
        check_revision("count", "revision", self.revision)
    }
}
