//! `tenure lock`: holds a lock while a command runs.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    time::{Duration, Instant},
};

use clap::Args;
use tenure::{Client, Error, ErrorKind, MutexGuard, Session};
use tokio::time::timeout;

use crate::{
    connect::Connection,
    duration,
    exit::{self, Failure},
    hold::{self, Hold, Holding, Insisting, ended_by},
    inspect::describe,
    signals::Signals,
    target::Target,
};

/// How long a look at who is in the way may take.
const GLANCE: Duration = Duration::from_secs(1);

/// Hold a lock while a command runs
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Lock {
    #[command(flatten)]
    target: Target,

    /// Give up if the lock is not ours by then [default: wait for as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    wait: Option<Duration>,

    /// Do not wait: take the lock only if nobody has it or waits for it
    #[arg(long = "try", conflicts_with = "wait")]
    try_once: bool,

    #[command(flatten)]
    hold: Hold,
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
        self.hold.grace()?;
        let mut signals = Signals::listen()?;
        // Later than any clock can say is never.
        let give_up_at = self.wait.and_then(|wait| Instant::now().checked_add(wait));
        let (client, session) = tokio::select! {
            opened = self.hold.open("lock", connection, give_up_at) => opened?,
            // There is no key yet.
            signal = signals.next() => return Ok(ended_by(signal)),
        };
        let acquired = tokio::select! {
            acquired = self.acquire(&client, &session, give_up_at) => acquired,
            signal = signals.next() => {
                hold::withdraw(&session, &mut signals, Insisting::Again).await;
                return Ok(ended_by(signal));
            }
        };
        let guard = match acquired {
            Ok(guard) => guard,
            Err(failure) => {
                hold::withdraw(&session, &mut signals, Insisting::Twice).await;
                return Err(failure);
            }
        };
        if self.hold.command.is_empty() {
            print_key(&guard);
        }
        let what = format!("lock {}", self.target);
        let (client, session) = (&client, &session);
        let environment = environment(&guard);
        let held = Holding { what, environment, guard, client, session };
        self.hold.go_on(held, &mut signals).await
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
}

fn print_key(guard: &MutexGuard) {
    let mut line = guard.key().to_vec();
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    // Whoever does not want to read it need not.
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
}

fn environment(guard: &MutexGuard) -> Vec<(&'static str, OsString)> {
    let fence = guard.fence();
    let names = ["TENURE_LOCK_KEY", "TENURE_LOCK_FENCE", "TENURE_LOCK_REVISION", "TENURE_LEASE"];
    let mut environment = hold::environment(&fence, names);
    let key = std::ffi::OsStr::from_bytes(&fence.key).to_owned();
    environment.push(("ETCD_LOCK_KEY", key));
    environment.push(("ETCD_LOCK_REV", fence.create_revision.to_string().into()));
    environment
}
