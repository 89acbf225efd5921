//! Readers and writers: their claims, and that what a reader reads stands still meanwhile. What
//! writers do is judged as increments.

use super::claims::Aftermath;
use crate::journal::Name;

/// What a reader takes.
pub(crate) const READER: u64 = 1;
/// What a writer takes: all that there is, so that there is room for nobody else.
pub(crate) const WRITER: u64 = 1 << 32;

/// What a reader read twice of what writers write, and still believed to hold the lock then.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) reader: Name,
    /// When it had both.
    pub(crate) at: u64,
    pub(crate) first: u64,
    pub(crate) second: u64,
}

/// Complains of what was written beside a reader.
pub(crate) fn written_beside(readings: &[Reading], aftermath: &Aftermath) -> Vec<String> {
    let wrong = readings.iter().filter(|it| it.first != it.second && !aftermath.covers(it.at));
    let complaint = |Reading { reader, at, first, second }: &Reading| {
        format!("{reader} read {first}, and then {second}, under one hold, until {at}")
    };
    wrong.map(complaint).collect()
}

fn what_is_written_beside_a_reader_is_found() {
    let reader = Name { slot: 0, generation: 0 };
    let reading = |first, second| Reading { reader, at: 10, first, second };
    let calm = Aftermath::of(&[]);
    assert!(written_beside(&[reading(1, 1), reading(2, 2)], &calm).is_empty());
    assert_eq!(written_beside(&[reading(1, 1), reading(1, 2)], &calm).len(), 1);
}

super::cases![what_is_written_beside_a_reader_is_found];
