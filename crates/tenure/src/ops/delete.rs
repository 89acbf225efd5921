use tenure_core::KeyRange;

/// Deletes the keys of a range. Deleting nothing is fine, and makes no revision.
#[derive(Clone, Debug)]
#[must_use = "an operation runs when it is awaited"]
pub struct Delete<V = ()> {
    pub(crate) range: KeyRange,
    pub(crate) prev_kv: bool,
    pub(crate) via: V,
}

impl Delete {
    /// Deletes `range`: a key, or any [`KeyRange`].
    pub fn new(range: impl Into<KeyRange>) -> Self {
        Self::with(range.into(), ())
    }
}

impl<V> Delete<V> {
    pub(crate) fn with(range: KeyRange, via: V) -> Self {
        Self { range, prev_kv: false, via }
    }

    /// Answers with the keys that were deleted.
    pub fn prev_kv(mut self) -> Self {
        self.prev_kv = true;
        self
    }

    pub(super) fn detach(self) -> (Delete, V) {
        let Self { range, prev_kv, via } = self;
        (Delete { range, prev_kv, via: () }, via)
    }
}
