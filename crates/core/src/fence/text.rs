use std::{error::Error, fmt, str::FromStr};

use super::Fence;
use crate::{
    LeaseId, Revision,
    name::{escape_all_but, parse_hex, unescape_all_but},
};

/// What stays readable of a key: all that its parts are usually made of.
const KEPT: &[u8] = b"_-./:";

/// The text is not that of a [`Fence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseFenceError(());

impl Fence {
    pub(super) fn key_text(&self) -> String {
        escape_all_but(&self.key, KEPT)
    }

    /// The fence with these parts, the ids and the key as text.
    pub(super) fn of_parts(
        (create, modified): (Revision, Revision),
        cluster: &str,
        lease: &str,
        key: &str,
    ) -> Result<Self, ParseFenceError> {
        let parts = || {
            Some(Self {
                cluster_id: parse_hex(cluster)?,
                key: unescape_all_but(key, KEPT)?.into(),
                create_revision: create,
                mod_revision: modified,
                lease: LeaseId::new(parse_hex(lease)?.cast_signed())?,
            })
        };
        parts().ok_or(ParseFenceError(()))
    }
}

fn parse_revision(digits: &str) -> Option<Revision> {
    let revision: i64 = digits.parse().ok()?;
    (revision.to_string() == digits).then_some(Revision(revision))
}

/// The revisions, then cluster, lease and key.
fn split(text: &str) -> Option<((Revision, Revision), &str, &str, &str)> {
    let (create, rest) = text.split_once('.')?;
    let (modified, rest) = rest.split_once('@')?;
    let (cluster, rest) = rest.split_once('/')?;
    let (lease, key) = rest.split_once('/')?;
    Some(((parse_revision(create)?, parse_revision(modified)?), cluster, lease, key))
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster_id, create_revision, mod_revision, lease, .. } = self;
        let key = self.key_text();
        write!(f, "{create_revision}.{mod_revision}@{cluster_id:x}/{lease}/{key}")
    }
}

impl FromStr for Fence {
    type Err = ParseFenceError;

    /// Reads what `Display` prints, and only that: a fence has one text.
    fn from_str(text: &str) -> Result<Self, ParseFenceError> {
        let (revisions, cluster, lease, key) = split(text).ok_or(ParseFenceError(()))?;
        Self::of_parts(revisions, cluster, lease, key)
    }
}

impl fmt::Display for ParseFenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a fence: its form is <create>.<mod>@<cluster>/<lease>/<key>")
    }
}

impl Error for ParseFenceError {}
