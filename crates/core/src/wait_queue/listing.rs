use bytes::Bytes;

use crate::{KeyValue, Revision};

/// All keys under a prefix as of one revision, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision that the listing is of.
    pub revision: Revision,
    /// The keys.
    pub keys: Vec<Listed>,
}

/// One key of a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: Bytes,
    /// When it was created.
    pub create_revision: Revision,
    /// When it was put last.
    pub mod_revision: Revision,
}

impl Listing {
    /// The same after the put that created `key`, if it is not of a later revision anyway.
    pub(super) fn with(mut self, key: Bytes, created: Revision) -> Self {
        if !self.keys.iter().any(|listed| listed.key == key) {
            self.keys.push(Listed { key, create_revision: created, mod_revision: created });
        }
        self.revision = self.revision.max(created);
        self
    }

    /// Whether a key that was put at this place was gone by then.
    pub(super) fn lacks(&self, place: &(Revision, Bytes)) -> bool {
        place.0 <= self.revision && !self.keys.iter().any(|listed| listed.place() == *place)
    }
}

impl Listed {
    /// Where it stands in the queue.
    pub(super) fn place(&self) -> (Revision, Bytes) {
        (self.create_revision, self.key.clone())
    }
}

impl From<&KeyValue> for Listed {
    fn from(kv: &KeyValue) -> Self {
        Self {
            key: kv.key.clone(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
        }
    }
}
