//! Whether what workers said, when they said it, and what etcd has, fit together. The judges know
//! no server; each has cases beside it in which it finds what was planted.

pub(crate) mod bank;
pub(crate) mod barrier;
pub(crate) mod chronicle;
pub(crate) mod claims;
pub(crate) mod counting;
pub(crate) mod election;
pub(crate) mod outcome;
pub(crate) mod queue;
pub(crate) mod rwlock;

/// Cases of a judge, by their names.
pub(crate) type Cases = &'static [(&'static str, fn())];

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(crate) const CASES: $crate::judges::Cases = &[$((stringify!($case), $case)),*];
    };
}
pub(crate) use cases;

pub(crate) fn all_cases() -> impl Iterator<Item = (&'static str, fn())> {
    let judges = [
        bank::CASES,
        barrier::CASES,
        chronicle::CASES,
        claims::CASES,
        counting::CASES,
        election::CASES,
        queue::CASES,
        rwlock::CASES,
    ];
    judges.into_iter().flatten().copied()
}
