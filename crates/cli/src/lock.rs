//! `tenure lock`: holds a lock while a command runs.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::Signal;
use tenure::{Client, Error, ErrorKind, MutexGuard, Session};
use tokio::time::{sleep, timeout};

use crate::{
    bytes_text::shown,
    connect::Connection,
    console::say,
    duration,
    exit::{self, Failure},
    group::Group,
    inspect::describe,
    signals::Signals,
    supervise::{Stopped, Supervision},
    target::Target,
    terminal::Terminal,
};

/// etcd gives no shorter lease.
const SHORTEST_TTL: Duration = Duration::from_secs(2);
/// How much of the TTL the grace may be: renewals need the better part of it.
const GRACE_SHARE: u32 = 10;
const GRACE: Duration = Duration::from_secs(1);
/// What is left for the way out once somebody insists.
const HURRY: Duration = Duration::from_secs(1);
/// How long a look at who is in the way may take.
const GLANCE: Duration = Duration::from_secs(1);

/// Hold a lock while a command runs
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Lock {
    #[command(flatten)]
    target: Target,

    /// How long the lock outlives this process should that die, 2s at least
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration::parse)]
    ttl: Duration,

    /// Give up if the lock is not ours by then [default: wait for as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    wait: Option<Duration>,

    /// Do not wait: take the lock only if nobody has it or waits for it
    #[arg(long = "try", conflicts_with = "wait")]
    try_once: bool,

    /// How long the command has between SIGTERM and SIGKILL, and how long before the lock could
    /// be lost it is killed; a tenth of the TTL at most [default: 1s, or that tenth]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    grace: Option<Duration>,

    /// What to run; without it the lock is held until SIGINT or SIGTERM, and its key printed
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

const HELP: &str = "\
The command finds in its environment:
  TENURE_LOCK_KEY       the key in etcd that is the lock
  TENURE_LOCK_FENCE     the fence: greater for each holder than for the one before; a resource
                        that has seen one can refuse older ones
  TENURE_LOCK_REVISION  the create revision of the key
  TENURE_LEASE          the lease of the key, in hexadecimal
  ETCD_LOCK_KEY, ETCD_LOCK_REV  key and revision, as etcdctl calls them

It runs in a process group of its own, gets SIGINT, SIGTERM, SIGHUP and SIGQUIT passed on, and its
exit code is that of tenure. The lock is released when all of its group have ended; what the
command leaves behind there is told to end (SIGTERM) and, after the grace, killed.

If etcd does not answer for so long that the lock may be lost, the group is told to end at twice
the grace before the deadline and killed (SIGKILL) at the grace: it is gone before anybody else can
have the lock. If the lock is lost at once (its key was deleted, its lease revoked), the group is
killed at once. Out of reach are processes that have left the group, or that run as another user;
and a tenure that is stopped, or killed with SIGKILL, kills nobody: for these there is the fence.

A second signal while the lock is being released limits that to another second; what is not told
to etcd then ends with the TTL.";

impl Lock {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let grace = self.grace()?;
        let mut signals = Signals::listen().map_err(|error| {
            Failure::new(exit::OTHER, format!("cannot listen to signals: {error}"))
        })?;
        let give_up_at = self.wait.map(|wait| Instant::now() + wait);
        let (client, session) = tokio::select! {
            opened = self.open(connection, give_up_at) => opened?,
            // There is no key yet.
            signal = signals.next() => return Ok(ended_by(signal)),
        };
        let acquired = tokio::select! {
            acquired = self.acquire(&client, &session, give_up_at) => acquired,
            signal = signals.next() => {
                leave(None, &session, &mut signals, Insisting::Again).await;
                return Ok(ended_by(signal));
            }
        };
        let guard = match acquired {
            Ok(guard) => guard,
            Err(failure) => {
                leave(None, &session, &mut signals, Insisting::Twice).await;
                return Err(failure);
            }
        };
        let (outcome, insisting) = match self.command.split_first() {
            Some((program, arguments)) => {
                let command = command(program, arguments, &guard);
                let ran = self.hold_while(command, &client, &guard, grace, &mut signals).await;
                (ran, Insisting::Twice)
            }
            None => (self.hold(&guard, &mut signals).await, Insisting::Again),
        };
        leave(Some(guard), &session, &mut signals, insisting).await;
        outcome
    }

    fn grace(&self) -> Result<Duration, Failure> {
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

    async fn open(
        &self,
        connection: &Connection,
        give_up_at: Option<Instant>,
    ) -> Result<(Client, Session), Failure> {
        let opening = async {
            let client = connection.connect().await?;
            let session = Session::builder().ttl(self.ttl).name(self.session_name());
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
    fn session_name(&self) -> String {
        let program = self.command.first().and_then(|program| Path::new(program).file_name());
        program.map_or_else(|| "tenure lock".into(), |name| name.to_string_lossy().into_owned())
    }

    async fn acquire(
        &self,
        client: &Client,
        session: &Session,
        give_up_at: Option<Instant>,
    ) -> Result<MutexGuard, Failure> {
        let mutex = self.target.mutex(session);
        if self.try_once {
            return match mutex.try_acquire().await? {
                Some(guard) => Ok(guard),
                None => Err(self.not_acquired(client, "is not free").await),
            };
        }
        let mut acquire = mutex.acquire();
        if let Some(give_up_at) = give_up_at {
            acquire = acquire.timeout(give_up_at.saturating_duration_since(Instant::now()));
        }
        match acquire.await {
            Ok(guard) => Ok(guard),
            // It tries for as long as it may, so this is the limit of --wait.
            Err(error) if error.kind() == ErrorKind::Timeout && self.wait.is_some() => {
                let wait = self.wait.unwrap_or_default();
                Err(self.not_acquired(client, &format!("was not free within {wait:?}")).await)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &Error) -> Failure {
        let failure = Failure::from(error.clone());
        Failure::new(failure.code, format!("no lock {}: {}", self.target, failure.text))
    }

    /// Says, if it can be found out, who is in the way.
    async fn not_acquired(&self, client: &Client, what: &str) -> Failure {
        let holder = timeout(GLANCE, self.target.contenders(client)).await;
        let holder = holder.ok().and_then(Result::ok).and_then(|all| all.into_iter().next());
        let by =
            holder.map_or_else(String::new, |holder| format!("; held by {}", describe(&holder)));
        Failure::new(exit::NOT_ACQUIRED, format!("the lock {} {what}{by}", self.target))
    }

    /// Holds the lock until a signal comes.
    async fn hold(&self, guard: &MutexGuard, signals: &mut Signals) -> Result<u8, Failure> {
        let mut line = guard.key().to_vec();
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        // Whoever does not want to read it need not.
        let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
        tokio::select! {
            _ = signals.next() => Ok(0),
            reason = guard.lost() => Err(Failure::new(
                exit::LOST,
                format!("the lock {} is lost: {reason}", self.target),
            )),
        }
    }

    async fn hold_while(
        &self,
        mut command: Command,
        client: &Client,
        guard: &MutexGuard,
        grace: Duration,
        signals: &mut Signals,
    ) -> Result<u8, Failure> {
        let program = shown(command.get_program().as_bytes());
        let group = Group::spawn(&mut command).map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::NotFound => exit::NO_COMMAND,
                _ => exit::CANNOT_RUN,
            };
            Failure::new(code, format!("cannot run {program}: {error}"))
        })?;
        let supervision = Supervision {
            lock: self.target.to_string(),
            guard,
            clock: client.clock(),
            grace,
            terminal: Terminal::of_stdin(),
        };
        let (status, stopped) = supervision.run(group, signals).await.map_err(|error| {
            Failure::new(exit::OTHER, format!("cannot watch over {program}: {error}"))
        })?;
        match stopped {
            None => Ok(code(status)),
            Some(Stopped::InDanger | Stopped::Lost) => Ok(exit::LOST),
        }
    }
}

fn command(program: &OsStr, arguments: &[OsString], guard: &MutexGuard) -> Command {
    let fence = guard.fence();
    let key = OsStr::from_bytes(&fence.key);
    let revision = fence.create_revision.to_string();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("TENURE_LOCK_KEY", key)
        .env("TENURE_LOCK_FENCE", fence.to_string())
        .env("TENURE_LOCK_REVISION", &revision)
        .env("TENURE_LEASE", fence.lease.to_string())
        .env("ETCD_LOCK_KEY", key)
        .env("ETCD_LOCK_REV", &revision);
    command
}

/// What somebody has to do who cannot wait until we are out of etcd.
enum Insisting {
    /// One signal told us to leave: one more.
    Again,
    /// We leave by ourselves: the first one asks for what is being done.
    Twice,
}

/// Takes everything of ours out of etcd.
async fn leave(
    guard: Option<MutexGuard>,
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
                released = guard.release() => drop(released?),
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

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::OTHER)
}

fn ended_by(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(exit::OTHER)
}
