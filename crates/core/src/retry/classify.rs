use super::Code;
use crate::EtcdError;

/// Who made the status that a call failed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The call never left: no connection, or the connection refused the stream unseen.
    NotSent,
    /// The connection broke, or nothing came in time: it may have arrived.
    Connection,
    /// The answer could not be understood.
    Garbled,
    /// The server answered with it.
    Server,
}

/// A failed call, as far as retrying is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Who made the status.
    pub origin: Origin,
    /// Its gRPC code.
    pub code: Code,
    /// Its text.
    pub text: &'a str,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing can have been applied twice by trying again, here or elsewhere.
    Again,
    /// Another member may answer better; the same one will not.
    Elsewhere,
    /// Refused before it was looked at: with a fresh token it may be served.
    RefreshToken,
    /// Refused; surely not applied.
    Refused,
    /// An answer that is no refusal, and makes no sense to ask for twice.
    Failed,
    /// A write of which nobody can say whether it was applied.
    Indeterminate,
}

/// Judges a failed call that is `repeatable` (doing it twice is as good as once) or not.
///
/// Sources: etcd's Go client (`retry.go`, with its defect mended: a status `Canceled` or
/// `DeadlineExceeded` sent by a server never repeats a write), and answers recorded from etcd
/// 3.4 and 3.5. An unknown text never counts as a refusal of a write.
pub fn classify(repeatable: bool, failure: Failure<'_>) -> Verdict {
    let unsure = if repeatable { Verdict::Again } else { Verdict::Indeterminate };
    match failure.origin {
        Origin::NotSent => Verdict::Again,
        Origin::Connection => unsure,
        Origin::Garbled if repeatable => Verdict::Failed,
        Origin::Garbled => Verdict::Indeterminate,
        Origin::Server => match EtcdError::from_text(failure.text) {
            Some(error) if error.wants_token() => Verdict::RefreshToken,
            Some(EtcdError::NoLeader | EtcdError::NotSupportedForLearner) => Verdict::Elsewhere,
            Some(error) if error.is_definite() => Verdict::Refused,
            Some(_) => unsure,
            None if is_definite_text(failure) => Verdict::Refused,
            None => match failure.code {
                Code::Unavailable | Code::Canceled | Code::DeadlineExceeded => unsure,
                _ if repeatable => Verdict::Failed,
                _ => Verdict::Indeterminate,
            },
        },
    }
}

/// Refusals that are not in the table: etcd's newer ones, and those of its gRPC library.
fn is_definite_text(failure: Failure<'_>) -> bool {
    match failure.code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::DataLoss
        | Code::Unauthenticated => failure.text.starts_with("etcdserver: "),
        Code::ResourceExhausted => {
            failure.text.starts_with("etcdserver: ")
                || failure.text.starts_with("grpc: received message larger than max")
        }
        Code::Unimplemented => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODES: [Code; 16] = [
        Code::Canceled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    fn answered(code: Code, text: &str) -> Failure<'_> {
        Failure { origin: Origin::Server, code, text }
    }

    #[test]
    fn a_server_that_gave_up_waiting_leaves_a_write_open_and_a_read_free_to_go_on() {
        for text in [
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
        ] {
            let failure = answered(Code::Unavailable, text);
            assert_eq!(classify(false, failure), Verdict::Indeterminate);
            assert_eq!(classify(true, failure), Verdict::Again);
        }
    }

    #[test]
    fn a_code_that_differs_between_versions_is_overruled_by_the_text() {
        for code in [Code::Unavailable, Code::FailedPrecondition] {
            let learner = answered(code, "etcdserver: rpc not supported for learner");
            assert_eq!(classify(false, learner), Verdict::Elsewhere);
            let incapable = answered(code, "etcdserver: not capable");
            assert_eq!(classify(false, incapable), Verdict::Refused);
        }
    }

    #[test]
    fn a_dead_token_is_refreshed_whatever_the_call() {
        for repeatable in [true, false] {
            let stale = answered(Code::Unauthenticated, "etcdserver: invalid auth token");
            assert_eq!(classify(repeatable, stale), Verdict::RefreshToken);
            let old = answered(Code::InvalidArgument, "etcdserver: revision of auth store is old");
            assert_eq!(classify(repeatable, old), Verdict::RefreshToken);
        }
    }

    proptest! {
        #[test]
        fn a_write_is_never_repeated_once_it_may_have_arrived(
            code in prop::sample::select(&CODES[..]),
            origin in prop::sample::select(&[Origin::Connection, Origin::Garbled, Origin::Server][..]),
            text in prop_oneof![
                any::<String>(),
                prop::sample::select(EtcdError::ALL).prop_map(|e| e.text().to_owned()),
            ],
        ) {
            let verdict = classify(false, Failure { origin, code, text: &text });
            prop_assert_ne!(verdict, Verdict::Again);
            let sure = matches!(
                verdict,
                Verdict::Refused | Verdict::Elsewhere | Verdict::RefreshToken
            );
            if sure {
                // Only the server's own words can make it sure.
                prop_assert_eq!(origin, Origin::Server);
                let definite = EtcdError::from_text(&text).is_some_and(EtcdError::is_definite)
                    || is_definite_text(Failure { origin, code, text: &text });
                prop_assert!(definite, "{:?} {:?}", code, text);
            }
        }

        #[test]
        fn a_text_nobody_knows_is_never_a_refusal_of_a_write(
            code in prop::sample::select(&CODES[..]),
            text in "[a-z :]{0,20}",
        ) {
            prop_assume!(code != Code::Unimplemented && !text.starts_with("etcdserver: "));
            prop_assert_eq!(classify(false, answered(code, &text)), Verdict::Indeterminate);
        }

        #[test]
        fn a_read_that_lost_its_connection_always_goes_on(
            code in prop::sample::select(&CODES[..]),
            text in any::<String>(),
            origin in prop::sample::select(&[Origin::Connection, Origin::NotSent][..]),
        ) {
            prop_assert_eq!(
                classify(true, Failure { origin, code, text: &text }),
                Verdict::Again
            );
        }

        #[test]
        fn what_never_left_may_always_be_sent(
            repeatable: bool,
            code in prop::sample::select(&CODES[..]),
            text in any::<String>(),
        ) {
            let failure = Failure { origin: Origin::NotSent, code, text: &text };
            prop_assert_eq!(classify(repeatable, failure), Verdict::Again);
        }
    }
}
