//! Holding something in etcd while a command runs, or until a signal comes: what `lock`, `elect`
//! and `exec` have in common.

use std::{
    ffi::{OsStr, OsString},
    io,
    ops::Deref,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::Signal;
use tenure::{Client, Fence, Held, Leadership, MutexGuard, Release, Session};
use tokio::time::sleep;

use crate::{
    bytes_text::shown,
    connect::Connection,
    console::say,
    duration,
    exit::{self, Failure},
    group::Group,
    signals::Signals,
    supervise::{Stopped, Supervision},
    terminal::Terminal,
};

/// etcd gives no shorter lease.
const SHORTEST_TTL: Duration = Duration::from_secs(2);
/// How much of the TTL the grace may be: renewals need the better part of it.
const GRACE_SHARE: u32 = 10;
const GRACE: Duration = Duration::from_secs(1);
/// What is left for the way out once somebody insists.
const HURRY: Duration = Duration::from_secs(1);

/// What is held while a command runs.
pub(crate) trait Guard: Deref<Target = Held> {
    async fn give_back(self) -> tenure::Result<Release>;
}

impl Guard for MutexGuard {
    async fn give_back(self) -> tenure::Result<Release> {
        self.release().await
    }
}

impl Guard for Leadership {
    async fn give_back(self) -> tenure::Result<Release> {
        self.resign().await
    }
}

#[derive(Args)]
pub(crate) struct Hold {
    /// How long what is held outlives this process should that die, 2s at least
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration::parse)]
    pub(crate) ttl: Duration,

    /// How long the command has between SIGTERM and SIGKILL, and how long before the hold could
    /// be lost it is killed; a tenth of the TTL at most [default: 1s, or that tenth]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    grace: Option<Duration>,

    /// What to run; without it the hold lasts until SIGINT or SIGTERM, and its key is printed
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

impl Hold {
    pub(crate) fn grace(&self) -> Result<Duration, Failure> {
        if self.ttl < SHORTEST_TTL {
            return Err(Failure::usage(format!("--ttl: {SHORTEST_TTL:?} at least")));
        }
        let most = self.ttl / GRACE_SHARE;
        match self.grace {
            Some(grace) if grace > most => Err(Failure::usage(format!(
                "--grace: {most:?} at most, a tenth of the TTL: or a renewal that is a little \
                 late would cost the command its life"
            ))),
            Some(grace) => Ok(grace),
            None => Ok(GRACE.min(most)),
        }
    }

    /// A client, and a session on it.
    pub(crate) async fn open(
        &self,
        verb: &str,
        connection: &Connection,
        give_up_at: Option<Instant>,
    ) -> Result<(Client, Session), Failure> {
        let opening = async {
            let client = connection.connect().await?;
            let session = Session::builder().ttl(self.ttl).name(self.session_name(verb));
            let session = session.open(&client).await?;
            Ok((client, session))
        };
        let Some(give_up_at) = give_up_at else { return opening.await };
        let opened = tokio::time::timeout_at(give_up_at.into(), opening).await;
        opened.unwrap_or_else(|_| {
            Err(Failure::new(exit::UNAVAILABLE, "etcd did not answer before --wait was over"))
        })
    }

    /// What others read of us while we hold or wait. Not the arguments: there may be secrets in
    /// them.
    fn session_name(&self, verb: &str) -> String {
        let program = self.command.first().and_then(|program| Path::new(program).file_name());
        program.map_or_else(|| format!("tenure {verb}"), |name| name.to_string_lossy().into_owned())
    }

    /// Runs the command, or waits for a signal if there is none; then gives back what is held.
    pub(crate) async fn go_on(
        &self,
        held: Holding<'_, impl Guard>,
        signals: &mut Signals,
    ) -> Result<u8, Failure> {
        let Holding { what, environment, guard, client, session } = held;
        let (outcome, insisting) = match self.command.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).envs(environment);
                let grace = self.grace()?;
                let ran = hold_while(command, &what, client, &guard, grace, signals).await;
                let code = ran.map(|(status, stopped)| match stopped {
                    None => code(status),
                    Some(Stopped::InDanger | Stopped::Lost) => exit::LOST,
                });
                (code, Insisting::Twice)
            }
            None => (hold(&what, &guard, signals).await, Insisting::Again),
        };
        leave(Some(guard), session, signals, insisting).await;
        outcome
    }
}

/// What a command runs under.
pub(crate) struct Holding<'a, G> {
    /// What it is called for a person: `lock "jobs"`.
    pub(crate) what: String,
    /// What the command is told of it.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    pub(crate) guard: G,
    pub(crate) client: &'a Client,
    pub(crate) session: &'a Session,
}

/// What a command finds in its environment: key, fence, revision and lease, under these names.
pub(crate) fn environment(
    fence: &Fence,
    names: [&'static str; 4],
) -> Vec<(&'static str, OsString)> {
    let values = [
        OsStr::from_bytes(&fence.key).to_owned(),
        fence.to_string().into(),
        fence.create_revision.to_string().into(),
        fence.lease.to_string().into(),
    ];
    names.into_iter().zip(values).collect()
}

/// Holds it until a signal comes.
async fn hold(what: &str, guard: &Held, signals: &mut Signals) -> Result<u8, Failure> {
    tokio::select! {
        _ = signals.next() => Ok(0),
        reason = guard.lost() => {
            Err(Failure::new(exit::LOST, format!("the {what} is lost: {reason}")))
        }
    }
}

/// Runs a command for as long as this is held, and not longer.
pub(crate) async fn hold_while(
    mut command: Command,
    what: &str,
    client: &Client,
    guard: &Held,
    grace: Duration,
    signals: &mut Signals,
) -> Result<(ExitStatus, Option<Stopped>), Failure> {
    let program = shown(command.get_program().as_bytes());
    let group = Group::spawn(&mut command).map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::NotFound => exit::NO_COMMAND,
            _ => exit::CANNOT_RUN,
        };
        Failure::new(code, format!("cannot run {program}: {error}"))
    })?;
    let supervision = Supervision {
        what: what.to_owned(),
        guard,
        clock: client.clock(),
        grace,
        terminal: Terminal::of_stdin(),
    };
    supervision
        .run(group, signals)
        .await
        .map_err(|error| Failure::new(exit::OTHER, format!("cannot watch over {program}: {error}")))
}

/// What somebody has to do who cannot wait until we are out of etcd.
pub(crate) enum Insisting {
    /// One signal told us to leave: one more.
    Again,
    /// We leave by ourselves: the first one asks for what is being done.
    Twice,
}

/// Takes everything of ours out of etcd, where nothing is held.
pub(crate) async fn withdraw(session: &Session, signals: &mut Signals, insisting: Insisting) {
    leave(None::<MutexGuard>, session, signals, insisting).await;
}

/// Takes everything of ours out of etcd.
pub(crate) async fn leave(
    guard: Option<impl Guard>,
    session: &Session,
    signals: &mut Signals,
    insisting: Insisting,
) {
    let leaving = async {
        let given_up = async {
            session.lost().await;
            sleep(HURRY).await;
        };
        if let Some(guard) = guard {
            tokio::select! {
                released = guard.give_back() => drop(released?),
                // The lease is as good as gone, and all that hangs on it.
                () = given_up => {}
            }
        }
        session.close().await
    };
    let insisted = async {
        if let Insisting::Twice = insisting {
            signals.next().await;
        }
        signals.next().await;
        sleep(HURRY).await;
    };
    let why = tokio::select! {
        left = leaving => match left {
            Ok(()) => return,
            Err(error) => error.to_string(),
        },
        () = insisted => "there was no time for it".to_owned(),
    };
    say(format!("could not tell etcd that we are gone, it will see by the TTL: {why}"));
}

pub(crate) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::OTHER)
}

pub(crate) fn ended_by(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(exit::OTHER)
}
