//! `tenure serve`: the embedded server on a port, for whatever speaks etcd's API.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use clap::Args;
use tenure_embed::{Embedded, EtcdFlags};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    console::{self, say},
    exit::{self, Failure},
    signals::Signals,
};

const VERB: &str = "serve";
/// Where etcd listens unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);
const REMOTE: &str = "--allow-remote-unreplicated";

/// Without the flags of the connection, of which there is none.
const HELP: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{after-help}";
const FLAGS: &str = "\
For development and tests: one process, no replication, and its data are in memory and gone with it.
SIGTERM, SIGINT, SIGHUP and SIGQUIT end it, with exit code 0.

Flags, as etcd has them, --flag VALUE or --flag=VALUE:
  --listen-client-urls URLS       Commas between; port 0 is a free one [default:
                                  http://127.0.0.1:2379]
  --advertise-client-urls URLS    What the list of members shows [default: where it listens]
  --name NAME                     The member's name
  --max-txn-ops N                 Operations of a transaction [default: 128]
  --max-request-bytes N           The largest request [default: 1572864]
  --quota-backend-bytes N         Of keys, values and history; more raises the alarm NOSPACE
                                  [default: 2 GiB]
  --heartbeat-interval MS         With the next one: how short a lease can be [default: 100]
  --election-timeout MS           [default: 1000]
  --auth-token simple             The only kind there is
  --auth-token-ttl SECONDS        How long an unused token is good for [default: 300]
  --experimental-watch-progress-notify-interval TIME
                                  [default: 10m]
  --log-level LEVEL               debug, info, warn, error, panic or fatal [default: warn]

Every other flag of etcd 3.5 (--data-dir, --initial-cluster, ...) is taken and has no effect, which
is said. One that etcd does not have is an error.

And of its own:
  --allow-remote-unreplicated     Listen on addresses that other machines can reach, too";

/// Run an etcd server in this process, on a port
#[derive(Args)]
#[command(help_template = HELP, after_help = FLAGS)]
pub(crate) struct Serve {
    /// etcd's flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    line: Vec<String>,
}

/// The command line, so that all after `serve` but a call for help is left to it: our own flags
/// mean something else there, or nothing.
pub(crate) fn unread(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut line: Vec<_> = line.into_iter().collect();
    let Some(verb) = place_of_verb(&line).filter(|verb| line[*verb] == VERB) else { return line };
    let rest = &line[verb + 1..];
    let raw = rest.first().is_some_and(|word| word == "--");
    if !raw && !rest.iter().any(|word| word == "--help" || word == "-h") {
        line.insert(verb + 1, "--".into());
    }
    line
}

/// Each flag that may stand before a verb has a value, but for those that end everything.
fn place_of_verb(line: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(flag) = line.get(at)?.to_str().filter(|word| word.starts_with("--")) {
        at += if flag.contains('=') { 1 } else { 2 };
    }
    Some(at)
}

impl Serve {
    pub(crate) async fn run(mut self, level: LevelFilter) -> Result<u8, Failure> {
        let words = self.line.len();
        self.line.retain(|word| word != REMOTE);
        let builder = Embedded::builder();
        let builder = match self.line.len() < words {
            true => builder.allow_remote_unreplicated(),
            false => builder,
        };
        let flags = EtcdFlags::read(builder, self.line)
            .map_err(|error| Failure::usage(error.to_string()))?;
        console::log(flags.log_level.as_deref().map_or(Ok(level), etcds_level)?);
        if !flags.without_effect.is_empty() {
            say(format!("without effect here: {}", flags.without_effect.join(", ")));
        }
        let mut signals = Signals::listen()?;
        let builder = match flags.listens {
            true => flags.builder,
            false => flags.builder.listen(LISTEN),
        };
        let server = builder.start().await.map_err(not_started)?;
        say(format!(
            "serving etcd's API on {}: single process, no replication, data in memory",
            server.endpoints().join(", ")
        ));
        signals.next().await;
        server.stop().await;
        Ok(0)
    }
}

fn not_started(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidInput => Failure::usage(format!("{error} ({REMOTE})")),
        _ => Failure::new(exit::OTHER, error.to_string()),
    }
}

fn etcds_level(name: &str) -> Result<LevelFilter, Failure> {
    match name {
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warn" => Ok(LevelFilter::WARN),
        "error" => Ok(LevelFilter::ERROR),
        // Nothing is logged that is as bad.
        "panic" | "fatal" => Ok(LevelFilter::OFF),
        _ => Err(Failure::usage(format!(
            "--log-level={name}: not one of debug, info, warn, error, panic, fatal"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::unread;

    #[test]
    fn what_follows_serve_is_not_read_for_flags_of_ours() {
        for (line, read) in [
            ("tenure serve --log-level panic", "tenure serve -- --log-level panic"),
            (
                "tenure --log-level debug serve --name x",
                "tenure --log-level debug serve -- --name x",
            ),
            ("tenure --log-level=debug serve", "tenure --log-level=debug serve --"),
            ("tenure serve -- --name x", "tenure serve -- --name x"),
            ("tenure serve --help", "tenure serve --help"),
            ("tenure lock serve -- serve", "tenure lock serve -- serve"),
            ("tenure --user serve get x", "tenure --user serve get x"),
            ("tenure", "tenure"),
            ("tenure --user", "tenure --user"),
        ] {
            let words = unread(line.split(' ').map(Into::into));
            assert_eq!(words, read.split(' ').collect::<Vec<_>>());
        }
    }
}
