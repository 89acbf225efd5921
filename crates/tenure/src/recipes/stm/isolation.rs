/// What a transaction is kept apart from.
///
/// They are those of Go's client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// As if it ran alone, and nobody else writes what it writes: everything is read as of one
    /// revision, and commits only if nobody changed since then what was read or is written. What
    /// is written by a transaction that read nothing meets no condition.
    #[default]
    SerializableSnapshot,
    /// As if it ran alone: everything is read as of one revision, and commits only if nobody
    /// changed since then what was read. What is written without having been read goes over
    /// whatever others wrote.
    Serializable,
    /// What was read stays as it is until the commit. The closure may see different keys as of
    /// different revisions: each member answers from what it has, which may be old. Such a run
    /// is not committed.
    RepeatableReads,
    /// Everything that is read was committed once, and everything is written at once. Nothing
    /// else: such a transaction meets no conflict, and others' changes are lost to its own.
    ReadCommitted,
}

impl Isolation {
    /// Whether everything is read as of one revision.
    pub(super) fn has_snapshot(self) -> bool {
        matches!(self, Self::SerializableSnapshot | Self::Serializable)
    }

    /// Whether what was read must not have been changed.
    pub(super) fn checks_reads(self) -> bool {
        self != Self::ReadCommitted
    }

    /// Whether what is written without having been read must not have been changed either.
    pub(super) fn guards_writes(self) -> bool {
        self == Self::SerializableSnapshot
    }
}
