use serde::{Deserialize, Serialize};

use super::{Fence, ParseFenceError};
use crate::Revision;

/// A [`Fence`] as it is written and read.
#[derive(Serialize, Deserialize)]
pub(super) struct Plain {
    cluster_id: String,
    key: String,
    create_revision: i64,
    mod_revision: i64,
    lease: String,
}

impl From<Fence> for Plain {
    fn from(fence: Fence) -> Self {
        Self {
            cluster_id: format!("{:x}", fence.cluster_id),
            key: fence.key_text(),
            create_revision: fence.create_revision.0,
            mod_revision: fence.mod_revision.0,
            lease: fence.lease.to_string(),
        }
    }
}

impl TryFrom<Plain> for Fence {
    type Error = ParseFenceError;

    fn try_from(plain: Plain) -> Result<Self, ParseFenceError> {
        let revisions = (Revision(plain.create_revision), Revision(plain.mod_revision));
        Self::of_parts(revisions, &plain.cluster_id, &plain.lease, &plain.key)
    }
}
