//! How a recipe's keys are called.
//!
//! A recipe has a name that its user chose, and a prefix made of it. Behind the prefix each
//! contender has a key of its own, called by its lease as Go's recipes do, and by a number that
//! tells apart several acquisitions of one session.

use crate::{Key, LeaseId};

/// Whether a recipe may have this name; if not, the rule that it breaks.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("a name must not be empty")
    } else if name.contains('\0') {
        Err("a name must not contain NUL")
    } else {
        Ok(())
    }
}

/// The name as one segment of a key: each byte outside `A-Za-z0-9_-` becomes `%XX`.
///
/// Different names have different segments, and no segment begins another one's path: neither `/`
/// nor `.` survives.
///
/// ```
/// assert_eq!(tenure_core::name::escape("jobs/eu west"), "jobs%2Feu%20west");
/// ```
pub fn escape(name: impl AsRef<[u8]>) -> String {
    escape_all_but(name.as_ref(), b"_-")
}

/// The key of one acquisition: `<prefix><lease>-<nonce>`, both in hexadecimal.
///
/// The prefix ends with the slash, if there is one. Go's recipes write the same without the nonce,
/// and read only the prefix and the revisions.
pub fn claim_key(prefix: impl Into<Key>, lease: LeaseId, nonce: u32) -> Key {
    let mut key = Vec::from(prefix.into().into_bytes());
    key.extend_from_slice(format!("{lease}-{nonce:x}").as_bytes());
    key.into()
}

/// The same with a dot, `<prefix><lease>.<nonce>`: a key that a process which resumes the session
/// leaves as it is. For recipes whose other members look when a key was put last.
pub fn place_key(prefix: impl Into<Key>, lease: LeaseId, nonce: u32) -> Key {
    let mut key = Vec::from(prefix.into().into_bytes());
    key.extend_from_slice(format!("{lease}.{nonce:x}").as_bytes());
    key.into()
}

/// The prefix of claims on so many permits of a semaphore: `<prefix><permits>/`.
pub fn permits_prefix(prefix: &[u8], permits: u32) -> Key {
    [prefix, format!("{permits}/").as_bytes()].concat().into()
}

/// How many permits a claim under [`permits_prefix`] is on.
pub fn permits_of(key: &[u8], prefix: &[u8]) -> Option<u32> {
    let rest = key.strip_prefix(prefix)?;
    let digits = std::str::from_utf8(rest.split(|byte| *byte == b'/').next()?).ok()?;
    let permits: u32 = digits.parse().ok()?;
    (rest.len() > digits.len() && permits.to_string() == digits).then_some(permits)
}

/// The lease after which a contender's key is called, with a nonce or without. `None` for keys
/// that are called otherwise.
pub fn lease_of(key: &[u8], prefix: &[u8]) -> Option<LeaseId> {
    lease_before(b'-', key.strip_prefix(prefix)?)
}

/// The lease after which a [`place_key`] is called, whatever its prefix.
pub fn lease_of_place(key: &[u8]) -> Option<LeaseId> {
    let segment = key.rsplit(|byte| *byte == b'/').next()?;
    segment.contains(&b'.').then(|| lease_before(b'.', segment))?
}

fn lease_before(sign: u8, segment: &[u8]) -> Option<LeaseId> {
    let segment = std::str::from_utf8(segment).ok()?;
    let lease = match segment.split_once(char::from(sign)) {
        Some((lease, nonce)) => {
            u32::try_from(parse_hex(nonce)?).ok()?;
            lease
        }
        None => segment,
    };
    LeaseId::new(parse_hex(lease)?.cast_signed())
}

/// A number as `{:x}` prints it, and in no other form.
pub(crate) fn parse_hex(digits: &str) -> Option<u64> {
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:x}") == digits).then_some(number)
}

/// Every byte becomes `%XX` that is neither a letter, nor a digit, nor one of `kept`.
pub(crate) fn escape_all_but(bytes: &[u8], kept: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Reverts [`escape_all_but`]; `None` where it would not have written this.
pub(crate) fn unescape_all_but(escaped: &str, kept: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    (escape_all_but(&bytes, kept) == escaped).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lease(id: i64) -> LeaseId {
        LeaseId::new(id).expect("not 0")
    }

    fn claim(prefix: &str, id: i64, nonce: u32) -> Vec<u8> {
        claim_key(prefix, lease(id), nonce).into_bytes().into()
    }

    #[test]
    fn names_that_cannot_be_are_refused_with_the_rule() {
        assert_eq!(check_name(""), Err("a name must not be empty"));
        assert_eq!(check_name("a\0b"), Err("a name must not contain NUL"));
        assert_eq!(check_name("jobs/eu ü"), Ok(()));
    }

    #[test]
    fn only_plain_letters_digits_and_two_signs_stay_as_they_are() {
        assert_eq!(escape("aZ09_-"), "aZ09_-");
        assert_eq!(escape("a/b"), "a%2Fb");
        assert_eq!(escape("a%2Fb"), "a%252Fb");
        assert_eq!(escape(".."), "%2E%2E");
        assert_eq!(escape("ü\n"), "%C3%BC%0A");
    }

    #[test]
    fn a_claim_is_called_by_lease_and_nonce() {
        assert_eq!(claim("p/", 0x694d_8fab, 0), b"p/694d8fab-0");
        assert_eq!(claim("p/", 10, u32::MAX), b"p/a-ffffffff");
        assert_eq!(claim("p/", -1, 16), b"p/ffffffffffffffff-10");
    }

    #[test]
    fn a_lease_is_read_with_a_nonce_and_without() {
        assert_eq!(lease_of(b"p/694d8fab", b"p/"), LeaseId::new(0x694d_8fab));
        assert_eq!(lease_of(b"p/694d8fab-1f", b"p/"), LeaseId::new(0x694d_8fab));
        let others: [&[u8]; 13] = [
            b"p/",
            b"p/0",
            b"p/-1",
            b"p/a-",
            b"p/a-1-2",
            b"p/a-100000000",
            b"p/0a",
            b"p/A",
            b"p/+a",
            b"p/a/b",
            b"q/a",
            b"p/\xff",
            b"p/10000000000000000",
        ];
        for key in others {
            assert_eq!(lease_of(key, b"p/"), None, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_place_is_no_claim_and_tells_its_lease() {
        let key = place_key("p/read/", lease(10), 31).into_bytes();
        assert_eq!(&key[..], b"p/read/a.1f");
        assert_eq!(lease_of_place(&key), LeaseId::new(10));
        assert_eq!(lease_of(&key, b"p/read/"), None);
        assert_eq!(lease_of_place(b"p/read/a"), None);
        assert_eq!(lease_of_place(b"p/read/a-1f"), None);
    }

    #[test]
    fn the_permits_of_a_claim_are_in_its_name() {
        let prefix = permits_prefix(b"p/q/", 12).into_bytes();
        let key = claim_key(prefix, lease(10), 31).into_bytes();
        assert_eq!(&key[..], b"p/q/12/a-1f");
        assert_eq!(permits_of(&key, b"p/q/"), Some(12));
        let others: [&[u8]; 6] =
            [b"p/limit", b"p/q/", b"p/q/12", b"p/q/012/a-1", b"p/q/+1/a-1", b"p/q/4294967296/a-1"];
        for key in others {
            assert_eq!(permits_of(key, b"p/q/"), None, "{}", key.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_claim_tells_its_lease(prefix in ".{0,9}", id in any::<i64>(), nonce in any::<u32>()) {
            prop_assume!(id != 0);
            let key = claim(&prefix, id, nonce);
            prop_assert_eq!(lease_of(&key, prefix.as_bytes()), LeaseId::new(id));
        }

        #[test]
        fn what_is_escaped_can_be_read_back(bytes: Vec<u8>) {
            for kept in [b"".as_slice(), b"_-", b"/."] {
                let escaped = escape_all_but(&bytes, kept);
                prop_assert_eq!(unescape_all_but(&escaped, kept), Some(bytes.clone()));
            }
        }

        #[test]
        fn a_text_is_read_only_if_it_would_be_written_so(text in "[a-c%2F/+ü]{0,9}") {
            if let Some(bytes) = unescape_all_but(&text, b"/") {
                prop_assert_eq!(escape_all_but(&bytes, b"/"), text);
            }
        }

        #[test]
        fn different_names_are_different_segments(one in "[ab/%2F.]{0,4}", other in "[ab/%2F.]{0,4}") {
            prop_assert_eq!(escape(&one) == escape(&other), one == other);
        }
    }
}
