//! `tenure exec --leader`: runs a command whenever this process leads.

use std::{ffi::OsString, process::Command, time::Duration};

use clap::Args;
use tenure::{ErrorKind, Leadership, Session};
use tokio::time::sleep;

use crate::{
    connect::Connection,
    console::say,
    elect::{Place, environment},
    exit::{self, Failure},
    hold::{self, Hold, Insisting, code, ended_by, hold_while, leave},
    signals::Signals,
};

/// Between two tries to reach etcd again.
const PAUSE: Duration = Duration::from_secs(1);

/// Run a command whenever this process leads, and stand again when that is over
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Exec {
    /// Run it while leading in the election of this name
    #[arg(long, value_name = "NAME", required_unless_present = "prefix")]
    leader: Option<String>,

    /// In place of a name: the election on this raw prefix
    #[arg(long, conflicts_with = "leader")]
    prefix: Option<OsString>,

    /// What the candidate says of itself
    #[arg(long, default_value = "")]
    value: String,

    #[command(flatten)]
    hold: Hold,
}

const HELP: &str = "\
Unlike under `tenure elect`, the command is started again when its process, having lost the
leadership, leads once more. When the command ends by itself, tenure resigns and ends with its exit
code. Its environment is that of `tenure elect`.";

impl Exec {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let grace = self.hold.grace()?;
        let Some((program, arguments)) = self.hold.command.split_first() else {
            return Err(Failure::usage("what is to be run? -- CMD"));
        };
        let place = match (&self.leader, &self.prefix) {
            (_, Some(prefix)) => Place::Prefix(prefix.clone()),
            (name, None) => Place::Name(name.clone().unwrap_or_default()),
        };
        let mut signals = Signals::listen()?;
        let mut has_stood = false;
        loop {
            let opened = tokio::select! {
                opened = self.hold.open("exec", connection, None) => opened,
                signal = signals.next() => return Ok(ended_by(signal)),
            };
            let (client, session) = match opened {
                Ok(opened) => opened,
                // Whoever stood once waits for etcd to come back.
                Err(failure)
                    if has_stood && !matches!(failure.code, exit::DENIED | exit::USAGE) =>
                {
                    say(failure.text);
                    tokio::select! {
                        () = sleep(PAUSE) => continue,
                        signal = signals.next() => return Ok(ended_by(signal)),
                    }
                }
                Err(failure) => return Err(failure),
            };
            has_stood = true;
            let guard = tokio::select! {
                elected = elected(&place, &session, &self.value) => elected,
                signal = signals.next() => {
                    hold::withdraw(&session, &mut signals, Insisting::Again).await;
                    return Ok(ended_by(signal));
                }
            };
            let guard = match guard {
                Ok(Some(guard)) => guard,
                // The session is gone; another one may do better.
                Ok(None) => continue,
                Err(failure) => {
                    hold::withdraw(&session, &mut signals, Insisting::Twice).await;
                    return Err(failure);
                }
            };
            let mut command = Command::new(program);
            command.args(arguments).envs(environment(&guard));
            let what = format!("leadership of {place}");
            let ran = hold_while(command, &what, &client, &guard, grace, &mut signals).await;
            leave(Some(guard), &session, &mut signals, Insisting::Twice).await;
            match ran? {
                (status, None) => return Ok(code(status)),
                (_, Some(_)) => match signals.told_to_end() {
                    Some(signal) => return Ok(ended_by(signal)),
                    None => say(format!("stands again for the {what}")),
                },
            }
        }
    }
}

/// The leadership; none if the session was lost meanwhile.
async fn elected(
    place: &Place,
    session: &Session,
    value: &str,
) -> Result<Option<Leadership>, Failure> {
    match place.election(session).campaign(value).await {
        Ok(leadership) => Ok(Some(leadership)),
        Err(error) if error.kind() == ErrorKind::Lost => {
            say(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
