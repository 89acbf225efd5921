use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use tenure_core::{KeyRange, LeaseId, Revision, Value};

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Operand {
    Value(Bytes),
    Version(i64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Lease(Option<LeaseId>),
}

/// Values are never printed.
impl fmt::Debug for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "Value({} bytes)", value.len()),
            Self::Version(version) => write!(f, "Version({version})"),
            Self::CreateRevision(revision) => write!(f, "CreateRevision({revision})"),
            Self::ModRevision(revision) => write!(f, "ModRevision({revision})"),
            Self::Lease(lease) => write!(f, "Lease({lease:?})"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// A condition on a key, or on every key of a range, of a [`Txn`](super::Txn).
///
/// A key that is not there has version, revisions and lease 0; its *value* fails every
/// comparison, "not equal" included. A range without keys is judged as one key that is not there.
///
/// ```
/// use tenure::{Compare, KeyRange};
///
/// let unchanged = Compare::mod_revision("config").equal(7);
/// let nobody = Compare::create_revision(KeyRange::prefix("lock/")).equal(0);
/// let fresh = Compare::missing("id");
/// # let _ = (unchanged, nobody, fresh);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub(crate) range: KeyRange,
    pub(crate) relation: Relation,
    pub(crate) operand: Operand,
}

/// One side of a [`Compare`]; say how it relates to the other.
#[derive(Clone, Debug)]
#[must_use]
pub struct Comparison<T> {
    range: KeyRange,
    operand: fn(T) -> Operand,
    of: PhantomData<fn(T)>,
}

impl Compare {
    /// Compares the value, in byte order.
    pub fn value(range: impl Into<KeyRange>) -> Comparison<Value> {
        Comparison::new(range, |value: Value| Operand::Value(value.into_bytes()))
    }

    /// Compares how often the key was put since its creation.
    pub fn version(range: impl Into<KeyRange>) -> Comparison<i64> {
        Comparison::new(range, Operand::Version)
    }

    /// Compares when the key was created.
    pub fn create_revision(range: impl Into<KeyRange>) -> Comparison<Revision> {
        Comparison::new(range, Operand::CreateRevision)
    }

    /// Compares when the key was last changed.
    pub fn mod_revision(range: impl Into<KeyRange>) -> Comparison<Revision> {
        Comparison::new(range, Operand::ModRevision)
    }

    /// Compares the lease the key dies with; `None` for a key without one.
    pub fn lease(range: impl Into<KeyRange>) -> Comparison<Option<LeaseId>> {
        Comparison::new(range, Operand::Lease)
    }

    /// The key is there. Of a range: every key of it, and there is one.
    pub fn exists(range: impl Into<KeyRange>) -> Self {
        Self::version(range).greater(0)
    }

    /// The key is not there. Of a range: none is.
    pub fn missing(range: impl Into<KeyRange>) -> Self {
        Self::version(range).equal(0)
    }
}

impl<T> Comparison<T> {
    fn new(range: impl Into<KeyRange>, operand: fn(T) -> Operand) -> Self {
        Self { range: range.into(), operand, of: PhantomData }
    }

    fn to(self, relation: Relation, other: impl Into<T>) -> Compare {
        Compare { range: self.range, relation, operand: (self.operand)(other.into()) }
    }

    /// It equals `other`.
    pub fn equal(self, other: impl Into<T>) -> Compare {
        self.to(Relation::Equal, other)
    }

    /// It differs from `other`.
    pub fn not_equal(self, other: impl Into<T>) -> Compare {
        self.to(Relation::NotEqual, other)
    }

    /// It is greater than `other`.
    pub fn greater(self, other: impl Into<T>) -> Compare {
        self.to(Relation::Greater, other)
    }

    /// It is less than `other`.
    pub fn less(self, other: impl Into<T>) -> Compare {
        self.to(Relation::Less, other)
    }
}
