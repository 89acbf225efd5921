use std::fmt;

use super::refusals;
use crate::refusal::Refusal;

/// bcrypt hashes no more, so etcd takes no more.
const MAX_BYTES: usize = 72;

/// Kept as it is, since nothing here outlives the process; never shown.
#[derive(PartialEq, Eq)]
pub(super) struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// How a user signs in.
#[derive(Debug)]
pub(super) enum SignIn {
    With(Password),
    /// With a password nobody has: its hash alone was given, or nothing at all.
    Sealed,
    /// By certificate only, which a server without TLS never sees.
    NoPassword,
}

impl SignIn {
    pub(super) fn check(&self, given: &str) -> Result<(), Refusal> {
        match self {
            Self::With(Password(right)) if right == given => Ok(()),
            Self::With(_) | Self::Sealed => Err(refusals::AUTH_FAILED),
            Self::NoPassword => Err(refusals::NO_PASSWORD_USER),
        }
    }

    /// Of a new user. An empty password is a password; a hash is not read.
    pub(super) fn of_new_user(no_password: bool, password: String) -> Result<Self, Refusal> {
        match no_password {
            true => Ok(Self::NoPassword),
            false => Ok(Self::With(accepted(password)?)),
        }
    }

    /// Once the user has a new password, or its hash. An empty password is none, here.
    pub(super) fn changed(&self, password: Option<Password>, hash: &str) -> Result<Self, Refusal> {
        match (self, password) {
            (Self::NoPassword, _) => Ok(Self::NoPassword),
            (_, Some(password)) => Ok(Self::With(password)),
            (_, None) if is_base64(hash) => Ok(Self::Sealed),
            (_, None) => Err(refusals::NO_PASSWORD_USER),
        }
    }
}

/// The password of a change, if one was given.
pub(super) fn given(password: String) -> Result<Option<Password>, Refusal> {
    match password.is_empty() {
        true => Ok(None),
        false => accepted(password).map(Some),
    }
}

fn accepted(password: String) -> Result<Password, Refusal> {
    match password.len() > MAX_BYTES {
        true => Err(refusals::PASSWORD_TOO_LONG),
        false => Ok(Password(password)),
    }
}

/// Whether Go would decode it: padded, and line breaks do not count.
fn is_base64(text: &str) -> bool {
    let text = text.replace(['\r', '\n'], "");
    let digits = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(password: &str) -> SignIn {
        SignIn::of_new_user(false, password.to_owned()).unwrap()
    }

    #[test]
    fn only_the_right_password_signs_in() {
        with("pw").check("pw").unwrap();
        with("").check("").unwrap();
        assert_eq!(with("pw").check("no"), Err(refusals::AUTH_FAILED));
        assert_eq!(SignIn::Sealed.check(""), Err(refusals::AUTH_FAILED));
        assert_eq!(SignIn::NoPassword.check(""), Err(refusals::NO_PASSWORD_USER));
    }

    #[test]
    fn a_password_is_no_longer_than_bcrypt_hashes() {
        with(&"x".repeat(72));
        let long = "x".repeat(73);
        let refused = SignIn::of_new_user(false, long.clone()).unwrap_err();
        assert_eq!(refused, refusals::PASSWORD_TOO_LONG);
        assert_eq!(given(long.clone()), Err(refusals::PASSWORD_TOO_LONG));
        assert!(SignIn::of_new_user(true, long).is_ok(), "nobody will ask for it");
    }

    #[test]
    fn a_change_to_nothing_or_to_a_hash_leaves_nobody_who_can_sign_in() {
        for hash in ["", "JDJhJDA0", "YQ==", "YWI=", "YQ\r\n=="] {
            let changed = with("pw").changed(None, hash).unwrap();
            assert!(matches!(changed, SignIn::Sealed), "{hash}");
        }
        for hash in ["!!", "YQ", "YQ=", "Y===", "====", "YQ==YQ==", "YW-_"] {
            let refused = with("pw").changed(None, hash).unwrap_err();
            assert_eq!(refused, refusals::NO_PASSWORD_USER, "{hash}");
        }
    }

    #[test]
    fn a_user_without_password_stays_one() {
        let password = given("pw".to_owned()).unwrap();
        let changed = SignIn::NoPassword.changed(password, "!!").unwrap();
        assert!(matches!(changed, SignIn::NoPassword));
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", with("secret")).contains("secret"));
    }
}
