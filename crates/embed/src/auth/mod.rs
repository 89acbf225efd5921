//! Who may do what: users, roles, and the tokens that signing in gives.
//!
//! Pure: the time comes in, and nothing waits. Answers leave without a header, which is the
//! caller's to fill in. The rules are those of etcd 3.5.33, where 3.5.30 still
//! lets too much through.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use self::{roles::Role, tokens::Tokens, users::User};
use crate::refusal::Refusal;

mod admin;
mod key_set;
mod password;
mod permit;
pub(crate) mod refusals;
mod rights;
mod roles;
#[cfg(test)]
mod tests;
mod tokens;
mod users;

/// The one user that must be there while auth is on, and the one role that may do everything.
const ROOT: &str = "root";

#[derive(Debug)]
pub(crate) struct Auth {
    enabled: bool,
    /// Counts the changes made here, from 1; the store's revision knows nothing of them.
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    tokens: Tokens,
}

/// Who makes a request, as of the moment it came in.
///
/// It goes stale with the next change of users or roles, so whatever outlives one request (a
/// stream, a wait for a lock) keeps its token and asks [`Auth::caller`] again for each step.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    user: Option<Arc<str>>,
    revision: u64,
}

impl Auth {
    /// A token that nobody uses for `token_ttl` ends; zero means etcd's own default.
    pub(crate) fn new(token_ttl: Duration) -> Self {
        Self {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            tokens: Tokens::new(token_ttl),
        }
    }

    /// Who asks; using a token keeps it alive. No token is nobody, who is refused later, by
    /// whatever needs somebody. While auth is off, nobody looks at tokens.
    pub(crate) fn caller(&mut self, token: Option<&str>, now: Instant) -> Result<Caller, Refusal> {
        let user = match token {
            Some(token) if self.enabled => {
                Some(self.tokens.renew(token, now).ok_or(refusals::INVALID_AUTH_TOKEN)?)
            }
            _ => None,
        };
        Ok(Caller { user, revision: self.revision })
    }

    /// How many tokens are good.
    pub(crate) fn tokens(&self, now: Instant) -> usize {
        self.tokens.count(now)
    }

    /// What a restart does: all must sign in anew.
    pub(crate) fn forget_tokens(&mut self) {
        self.tokens.forget_all();
    }

    /// Each change ends here; a request that changes nothing does not.
    fn commit(&mut self) {
        self.revision += 1;
    }
}
