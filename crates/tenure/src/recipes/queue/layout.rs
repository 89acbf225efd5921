//! Where a queue has its keys, and how they are called.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tenure_core::{Key, KeyRange, KeyValue, Revision, name::escape};

use crate::{
    error::{Error, Result},
    ops::{Get, SortBy},
    recipes::name::Kind,
};

/// What a queue has beside its items is under this: out of sight of Go's consumers, who take
/// whatever begins with the items' prefix.
const WORK: &str = "tenure/queue-work/";

/// Which item is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discipline {
    /// The one that was put first.
    Fifo,
    /// The one whose key is the first: the priority is the first part of its name.
    Priority,
}

pub(super) struct Layout {
    pub(super) discipline: Discipline,
    /// All items are under this.
    items: Bytes,
    work: Bytes,
}

impl Layout {
    pub(super) fn named(kind: &Kind, discipline: Discipline, name: &str) -> Result<Self> {
        Ok(Self::new(discipline, kind.prefix_of(name)?))
    }

    pub(super) fn raw(kind: &Kind, discipline: Discipline, prefix: Key) -> Result<Self> {
        let prefix = prefix.into_bytes();
        if WORK.as_bytes().starts_with(&prefix) || b"tenure/session/".starts_with(&prefix) {
            return Err(Error::invalid(kind.prefix, "it takes in keys that are no items"));
        }
        Ok(Self::new(discipline, kind.raw_prefix(prefix.into())?))
    }

    fn new(discipline: Discipline, items: Bytes) -> Self {
        let prefix = items.strip_suffix(b"/").unwrap_or(&items);
        let work = format!("{WORK}{}/", escape(prefix)).into();
        Self { discipline, items, work }
    }

    pub(super) fn prefix(&self) -> &Bytes {
        &self.items
    }

    pub(super) fn items(&self) -> KeyRange {
        KeyRange::prefix(self.items.clone())
    }

    /// The one to take next.
    pub(super) fn first(&self) -> Get {
        Get::new(self.items()).first(match self.discipline {
            Discipline::Fifo => SortBy::ModRevision,
            Discipline::Priority => SortBy::Key,
        })
    }

    pub(super) fn item(&self, name: &[u8]) -> Bytes {
        [&self.items, name].concat().into()
    }

    fn at(&self, area: &str, rest: &[u8]) -> Bytes {
        [&self.work, area.as_bytes(), rest].concat().into()
    }

    /// Where the payload of a job is while somebody works on it. Without a lease.
    pub(super) fn run(&self, id: &[u8]) -> Bytes {
        self.at("run/", id)
    }

    pub(super) fn runs(&self) -> KeyRange {
        KeyRange::prefix(self.at("run/", b""))
    }

    /// The prefix of the key that dies with whoever works on a job.
    pub(super) fn worker(&self, id: &[u8]) -> Bytes {
        let mut home = Vec::from(self.at("run-by/", id));
        home.push(b'/');
        home.into()
    }

    pub(super) fn workers(&self) -> KeyRange {
        KeyRange::prefix(self.at("run-by/", b""))
    }

    /// Payloads and workers.
    pub(super) fn running(&self) -> KeyRange {
        KeyRange::prefix(self.at("run", b""))
    }

    pub(super) fn dead(&self, id: &[u8]) -> Bytes {
        self.at("dead/", id)
    }

    pub(super) fn dead_letters(&self) -> KeyRange {
        KeyRange::prefix(self.at("dead/", b""))
    }

    /// Consumers with nothing to do stand in line here.
    pub(super) fn idle(&self) -> Bytes {
        self.at("idle/", b"")
    }

    /// Producers who wait for room stand in line here.
    pub(super) fn full(&self) -> Bytes {
        self.at("full/", b"")
    }

    /// The job whose payload is at this key.
    pub(super) fn job_of_run(&self, key: &Bytes) -> Option<Bytes> {
        Some(key.slice_ref(key.strip_prefix(&self.at("run/", b"")[..])?))
    }

    /// The job that is worked on by whoever put this key.
    pub(super) fn job_of_worker(&self, key: &Bytes) -> Option<Bytes> {
        let rest = key.strip_prefix(&self.at("run-by/", b"")[..])?;
        let end = rest.iter().rposition(|byte| *byte == b'/')?;
        Some(key.slice_ref(&rest[..end]))
    }

    /// The job behind a dead letter.
    pub(super) fn job_of_dead(&self, key: &Bytes) -> Option<Bytes> {
        Some(key.slice_ref(key.strip_prefix(&self.at("dead/", b"")[..])?))
    }

    /// What Go's recipe writes with every item of a priority, so that no two get one number.
    pub(super) fn bookkeeping(&self, priority: u16) -> Bytes {
        [b"__", &self.items[..], format!("{priority:05}").as_bytes()].concat().into()
    }

    /// The items of one priority.
    pub(super) fn of_priority(&self, priority: u16) -> KeyRange {
        KeyRange::prefix(self.item(format!("{priority:05}/").as_bytes()))
    }
}

/// An item as it was found.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) key: Bytes,
    pub(super) name: Bytes,
    pub(super) value: Bytes,
    pub(super) revision: Revision,
}

impl Found {
    pub(super) fn of(kv: KeyValue, layout: &Layout) -> Self {
        let name = kv.key.slice(layout.prefix().len().min(kv.key.len())..);
        Self { key: kv.key, name, value: kv.value, revision: kv.mod_revision }
    }

    /// What the job is called while somebody works on it. No two items ever have the same, since
    /// no two with one name were put at one revision.
    pub(super) fn job(&self) -> Bytes {
        [format!("{:x}-", self.revision.0).as_bytes(), &self.name].concat().into()
    }
}

/// The name of the item that became a job.
pub(super) fn name_of(job: &[u8]) -> &[u8] {
    let end = job.iter().position(|byte| *byte == b'-').map_or(0, |dash| dash + 1);
    &job[end..]
}

/// How often the item of this name failed so far: the number after the dot.
pub(super) fn failures_of(name: &[u8]) -> u32 {
    let last = name.rsplit(|byte| *byte == b'/').next().and_then(|it| str::from_utf8(it).ok());
    let parts = last.and_then(|last| last.split_once('.'));
    let failures = parts.filter(|(number, _)| number.parse::<u64>().is_ok());
    failures.and_then(|(_, failures)| failures.parse().ok()).unwrap_or(0)
}

/// The priority of an item, which is the lowest for one that is called otherwise.
pub(super) fn priority_of(name: &[u8]) -> u16 {
    let first = name.split(|byte| *byte == b'/').next().and_then(|it| str::from_utf8(it).ok());
    first.and_then(|first| first.parse().ok()).unwrap_or(u16::MAX)
}

/// The number of an item in its priority; none for a key that is no item's.
pub(super) fn number_of(name: &[u8]) -> Option<u64> {
    let last = str::from_utf8(name.rsplit(|byte| *byte == b'/').next()?).ok()?;
    last.split('.').next()?.parse().ok()
}

fn with_failures(name: String, failures: u32) -> Bytes {
    if failures == 0 { name.into() } else { format!("{name}.{failures}").into() }
}

/// A name by the clock, as Go's recipe gives them. Nothing goes by it: keys are in the order in
/// which etcd has them.
pub(super) fn by_clock(failures: u32) -> Bytes {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    with_failures(now.unwrap_or(Duration::ZERO).as_nanos().to_string(), failures)
}

pub(super) fn by_number(priority: u16, number: u64, failures: u32) -> Bytes {
    with_failures(format!("{priority:05}/{number:016}"), failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_how_often_its_item_failed() {
        for (name, failures) in
            [("17", 0), ("17.3", 3), ("00001/0000000000000017.2", 2), ("a.5", 0), ("17.x", 0)]
        {
            assert_eq!(failures_of(name.as_bytes()), failures, "{name}");
        }
        assert_eq!(&by_number(7, 12, 0)[..], b"00007/0000000000000012");
        let failed = by_number(7, 12, 4);
        assert_eq!(&failed[..], b"00007/0000000000000012.4");
        let told = (priority_of(&failed), number_of(&failed), failures_of(&failed));
        assert_eq!(told, (7, Some(12), 4));
        assert_eq!(priority_of(b"x/1"), u16::MAX);
        assert_eq!(number_of(b"00001/x"), None);
    }

    #[test]
    fn what_lies_beside_the_items_does_not_begin_as_they_do() {
        let kind = Kind { path: "queue", name: "queue name", prefix: "queue prefix" };
        for prefix in ["jobs", "a/b", "tenure/queue/jobs", "tenure/queue-works"] {
            let layout = Layout::raw(&kind, Discipline::Fifo, prefix.into()).unwrap();
            for key in [layout.run(b"1-2"), layout.worker(b"1-2"), layout.idle(), layout.full()] {
                assert!(!key.starts_with(prefix.as_bytes()), "{prefix}");
            }
        }
        for prefix in ["", "t", "tenure", "tenure/queue", "tenure/session/"] {
            assert!(Layout::raw(&kind, Discipline::Fifo, prefix.into()).is_err(), "{prefix}");
        }
    }

    #[test]
    fn a_job_is_read_from_its_keys() {
        let kind = Kind { path: "queue", name: "queue name", prefix: "queue prefix" };
        let layout = Layout::named(&kind, Discipline::Fifo, "a/b").unwrap();
        let key = layout.item(b"17.2");
        let found = Found { name: "17.2".into(), key, value: Bytes::new(), revision: Revision(31) };
        let job = found.job();
        assert_eq!(&job[..], b"1f-17.2");
        assert_eq!(name_of(&job), b"17.2");
        assert_eq!(layout.job_of_run(&layout.run(&job)), Some(job.clone()));
        let worker = Bytes::from([&layout.worker(&job)[..], b"abc.1"].concat());
        assert_eq!(layout.job_of_worker(&worker), Some(job));
    }
}
