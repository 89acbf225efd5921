//! The cases, and which of their answers a server is held to.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    str::FromStr,
};

use serde::{Deserialize, de::IgnoredAny};

use super::steps::{Step, Want};

const CASES: &str = include_str!("../data/contract/cases.jsonl");
const DIFFERS: &str = include_str!("../data/contract/differs.jsonl");

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

/// Whose answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Column {
    /// Those of a real server of this version, its defects included.
    Etcd(Version),
    /// The newest ones, with safe ones in the place of defects: the embedded server's.
    Ours,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) title: String,
    #[serde(rename = "server_flags")]
    pub(crate) flags: Vec<String>,
    pub(crate) timing: Timing,
    pub(crate) steps: Vec<Step>,
    #[serde(default)]
    crashes_real_servers: bool,
    checked: BTreeMap<Version, IgnoredAny>,
    #[serde(default)]
    differs: BTreeMap<Version, Vec<Instead>>,
    safe: Option<Safe>,
    /// From the file of further servers.
    #[serde(skip)]
    further: Vec<Further>,
    #[serde(rename = "area")]
    _area: IgnoredAny,
    #[serde(rename = "needs")]
    _needs: IgnoredAny,
    #[serde(default, rename = "note")]
    _note: IgnoredAny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Timing {
    Any,
    /// etcd's own, upon which the shortest lease and the length of a pause depend.
    Default,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instead {
    step: usize,
    want: Want,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Safe {
    steps: BTreeMap<usize, Want>,
    #[serde(rename = "why")]
    _why: IgnoredAny,
}

/// What one more server answers, or that it may not be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Further {
    server: Column,
    id: String,
    #[serde(default)]
    crashes: bool,
    step: Option<usize>,
    want: Option<Want>,
    #[serde(rename = "why")]
    _why: String,
}

impl Case {
    /// All that may be put to a server of which these answers are asked, or those of them whose
    /// names begin with what `TENURE_CASES` lists (with commas between).
    pub(crate) fn all(column: Column) -> Vec<Self> {
        let mut cases: Vec<Self> = CASES.lines().map(parse).collect();
        for further in DIFFERS.lines().map(parse::<Further>) {
            let case = cases.iter_mut().find(|case| case.id == further.id);
            let case = case.unwrap_or_else(|| panic!("there is no {}", further.id));
            assert!(further.fits(case), "{further:?} replaces nothing");
            case.further.push(further);
        }
        let names = cases.iter().map(|case| &case.id).collect::<BTreeSet<_>>();
        assert_eq!(names.len(), cases.len(), "two cases share a name");
        let wanted = env::var("TENURE_CASES").unwrap_or_default();
        cases.retain(|case| {
            case.may_be_put_to(column)
                && wanted.split(',').any(|prefix| case.id.starts_with(prefix.trim()))
        });
        assert!(!cases.is_empty(), "no case has a name that begins with {wanted}");
        cases
    }

    fn may_be_put_to(&self, column: Column) -> bool {
        let crashes = self.crashes_real_servers && column != Column::Ours;
        !crashes && !self.further_of(column).any(|further| further.crashes)
    }

    fn further_of(&self, column: Column) -> impl Iterator<Item = &Further> {
        self.further.iter().filter(move |further| further.server == column)
    }

    /// The answer that counts for a step, where it is not the one that stands beside the step.
    pub(crate) fn instead(&self, column: Column, step: usize) -> Option<&Want> {
        let further = self.further_of(column).find(|further| further.step == Some(step));
        further.and_then(|further| further.want.as_ref()).or_else(|| match column {
            Column::Ours => self.safe.as_ref()?.steps.get(&step),
            Column::Etcd(version) => {
                let instead = self.differs.get(&self.recorded_for(version)?)?;
                instead.iter().find(|instead| instead.step == step).map(|found| &found.want)
            }
        })
    }

    /// The recorded version that speaks for this one: the next of its minor version, else the
    /// last. None speaks for a minor version that is not there: the reference holds.
    fn recorded_for(&self, version: Version) -> Option<Version> {
        let minor = |recorded: &&Version| (recorded.0, recorded.1) == (version.0, version.1);
        let mut recorded = self.checked.keys().filter(minor);
        recorded
            .clone()
            .find(|recorded| **recorded >= version)
            .or_else(|| recorded.next_back())
            .copied()
    }
}

impl Further {
    fn fits(&self, case: &Case) -> bool {
        match self.step {
            Some(step) => case.steps.get(step).is_some_and(|step| step.want().is_some()),
            None => self.crashes,
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}, in {line:.200}"))
}

impl TryFrom<String> for Column {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match &text[..] {
            "embedded" => Ok(Self::Ours),
            _ => Version::try_from(text).map(Self::Etcd),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbers: Vec<_> = text.split('.').map(u32::from_str).collect();
        match numbers[..] {
            [Ok(major), Ok(minor), Ok(patch)] => Ok(Self(major, minor, patch)),
            _ => Err(format!("{text} is no version")),
        }
    }
}

#[test]
fn the_next_later_version_of_the_same_minor_one_speaks_for_those_that_nobody_recorded() {
    let cases = Case::all(Column::Ours);
    let spokesman = |version| cases[0].recorded_for(version);
    assert_eq!(spokesman(Version(3, 5, 1)), Some(Version(3, 5, 16)));
    assert_eq!(spokesman(Version(3, 5, 16)), Some(Version(3, 5, 16)));
    assert_eq!(spokesman(Version(3, 5, 17)), Some(Version(3, 5, 30)));
    assert_eq!(spokesman(Version(3, 5, 33)), Some(Version(3, 5, 30)));
    assert_eq!(spokesman(Version(3, 4, 25)), Some(Version(3, 4, 23)));
    assert_eq!(spokesman(Version(3, 6, 0)), None);
}
