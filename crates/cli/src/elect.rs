//! `tenure elect`: stands in an election, leads while a command runs, or tells who leads.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
};

use clap::Args;
use futures::StreamExt;
use tenure::{Client, Election, Leadership, Observer, Session};

use crate::{
    bytes_text::shown,
    connect::Connection,
    exit::Failure,
    hold::{self, Hold, Holding, Insisting, ended_by},
    signals::Signals,
};

/// Stand in an election; lead until a signal comes, or while a command runs
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Elect {
    /// The election's name, and what the candidate says of itself; with --prefix only the latter
    #[arg(value_names = ["NAME", "VALUE"], num_args = 0..=2)]
    words: Vec<OsString>,

    /// In place of a name: the election on this raw prefix, as `etcdctl elect PREFIX` and Go's
    /// client have it
    #[arg(long)]
    prefix: Option<OsString>,

    /// Do not stand: print key and value of each leader, now and whenever that changes
    #[arg(long, conflicts_with = "command")]
    listen: bool,

    #[command(flatten)]
    hold: Hold,
}

const HELP: &str = "\
Once elected, without a command, key and value of the leader are printed, a line each; SIGINT or
SIGTERM makes it resign.

The command finds in its environment:
  TENURE_LEADER_KEY    the leader's key in etcd
  TENURE_LEADER_FENCE  the fence: greater for each leader than for the one before
  TENURE_LEADER_TERM   the term: the create revision of the key
  TENURE_LEASE         the lease of the key, in hexadecimal

It is told to end, and killed, as one under `tenure lock` is: before another can lead.";

impl Elect {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let (place, value) = self.place()?;
        if self.listen {
            let client = connection.connect().await?;
            return listen(place.observer(&client)).await;
        }
        self.hold.grace()?;
        let mut signals = Signals::listen()?;
        let (client, session) = tokio::select! {
            opened = self.hold.open("elect", connection, None) => opened?,
            // There is no key yet.
            signal = signals.next() => return Ok(ended_by(signal)),
        };
        let campaign = place.election(&session).campaign(value.as_bytes().to_vec());
        let elected = tokio::select! {
            elected = campaign => elected,
            signal = signals.next() => {
                hold::withdraw(&session, &mut signals, Insisting::Again).await;
                return Ok(ended_by(signal));
            }
        };
        let guard = match elected {
            Ok(guard) => guard,
            Err(error) => {
                hold::withdraw(&session, &mut signals, Insisting::Twice).await;
                let Failure { code, text } = error.into();
                return Err(Failure::new(code, format!("not leading {place}: {text}")));
            }
        };
        if self.hold.command.is_empty() {
            // Whoever does not want to read it need not.
            let _ = print(&guard.key(), value.as_bytes());
        }
        let what = format!("leadership of {place}");
        let (client, session) = (&client, &session);
        let environment = environment(&guard);
        self.hold.go_on(Holding { what, environment, guard, client, session }, &mut signals).await
    }

    /// Which election is meant, and the candidate's value.
    fn place(&self) -> Result<(Place, OsString), Failure> {
        let mut words = self.words.iter().cloned();
        let place = match &self.prefix {
            Some(prefix) => Place::Prefix(prefix.clone()),
            None => {
                let name = words.next();
                let name = name.ok_or_else(|| Failure::usage("NAME or --prefix is missing"))?;
                let name = name.into_string().map_err(|_| Failure::usage("NAME is not UTF-8"))?;
                Place::Name(name)
            }
        };
        let value = words.next();
        if let Some(more) = words.next() {
            let more = shown(more.as_bytes());
            return Err(Failure::usage(format!("with --prefix, one VALUE; and {more} is there")));
        }
        if self.listen && value.is_some() {
            return Err(Failure::usage("--listen: who only listens has no VALUE"));
        }
        Ok((place, value.unwrap_or_default()))
    }
}

/// Which election is meant.
pub(crate) enum Place {
    Name(String),
    Prefix(OsString),
}

impl Place {
    pub(crate) fn election(&self, session: &Session) -> Election {
        match self {
            Self::Name(name) => Election::new(session, name),
            Self::Prefix(prefix) => Election::at(session, prefix.as_bytes()),
        }
    }

    fn observer(&self, client: &Client) -> Observer {
        match self {
            Self::Name(name) => Observer::new(client, name),
            Self::Prefix(prefix) => Observer::at(client, prefix.as_bytes()),
        }
    }
}

/// `"jobs"`, or `at prefix "jobs"`.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "\"{}\"", shown(name.as_bytes())),
            Self::Prefix(prefix) => write!(f, "at prefix \"{}\"", shown(prefix.as_bytes())),
        }
    }
}

pub(crate) fn environment(leadership: &Leadership) -> Vec<(&'static str, OsString)> {
    let names = ["TENURE_LEADER_KEY", "TENURE_LEADER_FENCE", "TENURE_LEADER_TERM", "TENURE_LEASE"];
    hold::environment(&leadership.fence(), names)
}

async fn listen(observer: Observer) -> Result<u8, Failure> {
    let mut leaders = observer.observe();
    while let Some(leader) = leaders.next().await {
        // Whoever has gone is nobody to print.
        if let Some(leader) = leader?
            && print(&leader.key, &leader.value).is_err()
        {
            // Nobody reads it any more.
            return Ok(0);
        }
    }
    Ok(0)
}

fn print(key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for line in [key, value] {
        stdout.write_all(line)?;
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}
