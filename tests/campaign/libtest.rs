//! What `cargo test` may say to a test binary that has a `main` of its own.

use std::{collections::VecDeque, env};

/// Arguments of libtest that take a value, in the next argument if not after a `=`.
const WITH_VALUE: [&str; 7] =
    ["--test-threads", "--skip", "--format", "--color", "--logfile", "--shuffle-seed", "-Z"];

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) list: bool,
    terse: bool,
    exact: bool,
    /// Only the ignored tests, of which there are none.
    ignored: bool,
    filters: Vec<String>,
    skip: Vec<String>,
}

impl Asked {
    pub(crate) fn by_arguments() -> Self {
        let mut asked = Self::default();
        let mut arguments: VecDeque<String> = env::args().skip(1).collect();
        while let Some(argument) = arguments.pop_front() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
                _ => (&argument[..], None),
            };
            let value = match value {
                None if WITH_VALUE.contains(&name) => arguments.pop_front(),
                value => value,
            };
            match name {
                "--list" => asked.list = true,
                "--exact" => asked.exact = true,
                "--ignored" => asked.ignored = true,
                "--skip" => asked.skip.extend(value),
                "--format" => asked.terse = value.is_some_and(|format| format == "terse"),
                // They run one after the other, and what they say is printed.
                _ if name.starts_with('-') => {}
                _ => asked.filters.push(argument),
            }
        }
        asked
    }

    /// Whether a test of this name shall run.
    pub(crate) fn wants(&self, test: &str) -> bool {
        let matches = |filter: &String| match self.exact {
            true => test == filter,
            false => test.contains(&filter[..]),
        };
        !self.ignored
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skip.iter().any(matches)
    }

    /// Prints the names of the tests that are wanted.
    pub(crate) fn print_list(&self, wanted: impl Iterator<Item = &'static str>) {
        let count = wanted.inspect(|test| println!("{test}: test")).count();
        if !self.terse {
            println!("\n{count} tests, 0 benchmarks");
        }
    }
}
