use std::{future::IntoFuture, time::Duration};

use futures::future::BoxFuture;
use tenure_core::Revision;

use super::{CompactResponse, Via};
use crate::error::{Error, Result};

/// Throws away the history before a revision.
///
/// What keys were before it can no longer be read nor watched; what they are stays.
#[derive(Clone, Debug)]
#[must_use = "an operation runs when it is awaited"]
pub struct Compact {
    pub(crate) revision: Revision,
    pub(crate) physical: bool,
    pub(crate) via: Via,
}

impl Compact {
    /// Waits until the server has freed the space in its database too.
    pub fn physical(mut self) -> Self {
        self.physical = true;
        self
    }

    /// How long the call may take in all, in place of the client's setting.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.via.options.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for Compact {
    type Output = Result<CompactResponse>;
    type IntoFuture = BoxFuture<'static, Result<CompactResponse>>;

    fn into_future(self) -> Self::IntoFuture {
        if self.revision < Revision::NONE {
            let error = Error::invalid("compact", "the revision is negative");
            return Box::pin(async { Err(error) });
        }
        self.via.kv.compact(self.revision, self.physical, self.via.options)
    }
}
