//! What a worker says of itself: one line for each thing that happens, written at once, so that it
//! is known even of one that is killed.

use std::{
    fmt,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};
use tenure::{Clock, Error, ErrorKind, Revision};

use crate::hold;

/// The variable that makes this program a worker.
pub(crate) const ORDERS: &str = "TENURE_CAMPAIGN_WORKER";

/// What a worker is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The test it works for.
    pub(crate) test: String,
    pub(crate) name: Name,
    pub(crate) endpoints: Vec<String>,
    /// Of its session.
    pub(crate) ttl_secs: u64,
    pub(crate) seed: u64,
}

/// A worker: which of the crew, and how often that one was replaced before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Name {
    pub(crate) slot: usize,
    pub(crate) generation: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}.{}", self.slot, self.generation)
    }
}

/// How a revision is written down.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Revision")]
pub(crate) struct Written(i64);

/// When it is worst for a worker to be hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Moment {
    /// It has what it asked for. Whoever comes here again and again gets on.
    Granted,
    /// It sends a write.
    Writing,
}

/// What workers of a recipe say beyond what all say.
pub(crate) trait Tell: Serialize {
    fn moment(&self) -> Option<Moment>;
}

impl Tell for () {
    fn moment(&self) -> Option<Moment> {
        None
    }
}

/// Something that happened, and when. The campaign reads `at` and `moment` at once, and the recipe
/// all of it in the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry<E> {
    /// Nanoseconds of the machine's clock, which all processes share.
    pub(crate) at: u64,
    pub(crate) moment: Option<Moment>,
    pub(crate) event: Event<E>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event<E> {
    /// The session is open.
    Opened,
    /// Something else than a write failed, as it may.
    Failed { what: String, kind: String, text: String },
    /// The library broke a rule.
    Broken { text: String },
    /// The session is closed.
    Left,
    /// It asks for something that it may have to wait for.
    Waiting,
    /// It gets, has or gives back something.
    Hold(hold::Event),
    /// What else the recipe is about.
    Own(E),
}

impl<E: Tell> Event<E> {
    fn moment(&self) -> Option<Moment> {
        match self {
            Self::Hold(event) => event.moment(),
            Self::Own(event) => event.moment(),
            _ => None,
        }
    }
}

pub(crate) fn now() -> u64 {
    Clock::boot().now().as_nanos()
}

/// What workers of all recipes say.
pub(crate) fn say(event: Event<()>) {
    write(now(), event);
}

pub(crate) fn say_at(at: u64, event: Event<()>) {
    write(at, event);
}

/// What those of this one say.
pub(crate) fn say_own(event: impl Tell) {
    write(now(), Event::Own(event));
}

pub(crate) fn say_own_at(at: u64, event: impl Tell) {
    write(at, Event::Own(event));
}

fn write(at: u64, event: Event<impl Tell>) {
    let entry = Entry { at, moment: event.moment(), event };
    let mut line = serde_json::to_string(&entry).expect("it can be written");
    line.push('\n');
    let mut out = io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        // Nobody listens any more.
        std::process::exit(1);
    }
}

/// The library broke a rule.
pub(crate) fn broken(text: impl Into<String>) {
    say(Event::Broken { text: text.into() });
}

/// Says that something failed, and whether it may.
pub(crate) fn failed(what: &str, error: &Error) {
    let kind = format!("{:?}", error.kind());
    say(Event::Failed { what: what.to_owned(), kind, text: error.to_string() });
    match error.kind() {
        ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Indeterminate
        | ErrorKind::Refused
        | ErrorKind::Lost => {}
        kind => broken(format!("{what}: {kind:?}: {error}")),
    }
}

/// All that a worker said.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) name: Name,
    /// When each was said, and all of it.
    pub(crate) lines: Vec<(u64, String)>,
    /// The last line, if the worker was killed in the middle of it.
    pub(crate) torn: bool,
    /// A line in the middle that makes no sense.
    pub(crate) nonsense: Option<String>,
    /// What it wrote to its standard error.
    pub(crate) complaints: String,
}
