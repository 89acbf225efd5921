//! What real etcd servers were seen to answer, case by case, asked of the servers of this machine
//! and of the embedded one. `data/contract/README.md` says what the cases are.
//!
//! `TENURE_CASES=watch,txn-nested` plays only those whose names begin so.

#[path = "contract/answer.rs"]
mod answer;
#[path = "contract/cases.rs"]
mod cases;
#[path = "contract/embedded.rs"]
mod embedded;
#[path = "contract/messages.rs"]
mod messages;
#[path = "contract/play.rs"]
mod play;
#[path = "support/raw.rs"]
mod raw;
#[path = "contract/steps.rs"]
mod steps;
#[path = "contract/streams.rs"]
mod streams;
#[path = "contract/target.rs"]
mod target;

use std::{any::Any, panic::AssertUnwindSafe};

use futures::{FutureExt, StreamExt, stream};
use tenure_testkit::find_servers;

use self::{cases::Case, play::play, target::Target};

#[tokio::test]
async fn every_server_of_this_machine_answers_as_its_version_was_recorded() {
    let servers = find_servers().unwrap();
    let mut failed = Vec::new();
    for server in servers {
        let name = server.to_string();
        let failures = play_all(Target::Etcd(server)).await;
        failed.extend(failures.into_iter().map(|failure| format!("{name}, {failure}")));
    }
    report(&failed);
}

#[tokio::test]
async fn the_embedded_server_answers_as_etcd_does_where_that_is_safe() {
    report(&play_all(Target::Embedded).await);
}

/// Plays all cases, and says what is wrong with each that fails.
async fn play_all(target: Target) -> Vec<String> {
    let cases = stream::iter(Case::all(target.column()));
    let played = cases.map(|case| verdict(case, &target)).buffer_unordered(target.at_once());
    played.collect::<Vec<_>>().await.into_iter().flatten().collect()
}

/// What is wrong with a case, if it fails.
async fn verdict(case: Case, target: &Target) -> Option<String> {
    let played = AssertUnwindSafe(play(&case, target)).catch_unwind().await;
    let wrong: Vec<String> = match played {
        Ok(failures) => failures.iter().map(ToString::to_string).collect(),
        Err(panic) => vec![format!("  panics: {}", panic_text(&*panic))],
    };
    (!wrong.is_empty()).then(|| format!("{}: {}\n{}", case.id, case.title, wrong.join("\n")))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(|text| &text[..]);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("see above")
}

fn report(failed: &[String]) {
    assert!(failed.is_empty(), "{} cases fail:\n\n{}\n", failed.len(), failed.join("\n\n"));
}
