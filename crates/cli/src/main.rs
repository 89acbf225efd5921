//! The `tenure` command: runs a command under a lock in etcd or while leading, tells who holds what,
//! reads and writes keys, and is a server for all that.

mod bytes_text;
mod connect;
mod console;
mod duration;
mod elect;
mod exec;
mod exit;
mod group;
mod hold;
mod inspect;
mod kv;
mod lock;
mod serve;
mod signals;
mod supervise;
mod target;
mod terminal;

use std::{env, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

use crate::exit::Failure;

/// How long the last words may take to get out.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Locks and elections in etcd for commands and scripts; and a look at what is there.
#[derive(Parser)]
#[command(version, after_help = exit::HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    connection: connect::Connection,

    /// What to log to stderr: off, error, warn, info, debug or trace
    #[arg(long, global = true, env = "TENURE_LOG_LEVEL", value_name = "LEVEL")]
    #[arg(default_value = "warn", hide_env_values = true)]
    log_level: LevelFilter,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Lock(lock::Lock),
    Elect(elect::Elect),
    Exec(exec::Exec),
    Inspect(inspect::Inspect),
    Get(kv::Get),
    Put(kv::Put),
    Del(kv::Del),
    Watch(kv::Watch),
    Serve(serve::Serve),
}

fn main() -> ExitCode {
    let cli = Cli::parse_from(serve::unread(env::args_os()));
    let console = console::start();
    let code = run(cli).unwrap_or_else(|failure| {
        console::say(failure.text);
        failure.code
    });
    console.finish(LAST_WORDS);
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::OTHER, format!("cannot start: {error}")))?;
    let connection = &cli.connection;
    runtime.block_on(async {
        // That one's own flags may have another level.
        if !matches!(cli.verb, Verb::Serve(_)) {
            console::log(cli.log_level);
        }
        match cli.verb {
            Verb::Lock(lock) => lock.run(connection).await,
            Verb::Elect(elect) => elect.run(connection).await,
            Verb::Exec(exec) => exec.run(connection).await,
            Verb::Inspect(inspect) => inspect.run(connection).await,
            Verb::Get(get) => get.run(connection).await,
            Verb::Put(put) => put.run(connection).await,
            Verb::Del(del) => del.run(connection).await,
            Verb::Watch(watch) => watch.run(connection).await,
            Verb::Serve(serve) => serve.run(cli.log_level).await,
        }
    })
}
