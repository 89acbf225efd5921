//! What a worker says of itself: one line for each thing that happens, written at once, so that it
//! is known even of one that is killed.

use std::{
    fmt,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};
use tenure::{Clock, Fence};

/// The counter that all workers raise.
pub(crate) const COUNTER: &str = "campaign/counter";
/// Under it, each increment has a key of its own, put by the transaction that raised the counter.
pub(crate) const INCREMENTS: &str = "campaign/increments/";
/// What they lock.
pub(crate) const LOCK: &str = "campaign";
/// The variable that makes this program a worker.
pub(crate) const ORDERS: &str = "TENURE_CAMPAIGN_WORKER";

/// What a worker is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) name: Name,
    pub(crate) endpoints: Vec<String>,
    /// Of its session.
    pub(crate) ttl_secs: u64,
    pub(crate) seed: u64,
}

/// A worker: which of the twenty, and how often that one was replaced before.
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

/// The value of an increment's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Increment {
    pub(crate) number: u64,
    pub(crate) worker: Name,
    pub(crate) fence: Fence,
}

/// Something that happened, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Nanoseconds of the machine's clock, which all processes share.
    pub(crate) at: u64,
    pub(crate) event: Event,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The session is open.
    Opened,
    Waiting,
    /// Something else than a write failed, as it may.
    Failed {
        what: String,
        kind: String,
        text: String,
    },
    /// The lock was granted, a little before this time.
    Acquired {
        fence: Fence,
    },
    /// It still believes so, at this time and a little later; until then at the most, as far as it
    /// knew.
    Held {
        deadline: u64,
    },
    /// It sends an increment.
    Writing {
        id: String,
        number: u64,
        /// Until when at the most it believed so, if it did at this time.
        held: Option<u64>,
    },
    /// etcd has done it.
    Wrote {
        id: String,
        revision: i64,
    },
    /// Nobody knows whether etcd did.
    Unknown {
        id: String,
        text: String,
    },
    /// etcd surely did not.
    Refused {
        id: String,
        kind: String,
        text: String,
    },
    /// The lock is given back, and an unknown increment is there, or never will be.
    Settled {
        id: String,
        there: bool,
    },
    /// It believes no longer.
    Lost {
        reason: String,
    },
    /// It gives the lock back: waits for that, or leaves it to the background.
    GivesBack {
        waits: bool,
    },
    /// etcd has it back.
    Released,
    /// It was no longer held then.
    AlreadyLost {
        reason: String,
    },
    /// The library broke a rule.
    Broken {
        text: String,
    },
    /// The session is closed.
    Left,
}

impl Event {
    pub(crate) fn failed(what: &str, error: &tenure::Error) -> Self {
        let kind = format!("{:?}", error.kind());
        Self::Failed { what: what.to_owned(), kind, text: error.to_string() }
    }
}

pub(crate) fn now() -> u64 {
    Clock::boot().now().as_nanos()
}

pub(crate) fn say(event: Event) {
    say_at(now(), event);
}

pub(crate) fn say_at(at: u64, event: Event) {
    let mut line = serde_json::to_string(&Entry { at, event }).expect("it can be written");
    line.push('\n');
    let mut out = io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        // Nobody listens any more.
        std::process::exit(1);
    }
}

/// All that a worker said.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) name: Name,
    pub(crate) entries: Vec<Entry>,
    /// The last line, if the worker was killed in the middle of it.
    pub(crate) torn: bool,
    /// A line in the middle that makes no sense.
    pub(crate) nonsense: Option<String>,
    /// What it wrote to its standard error.
    pub(crate) complaints: String,
}
