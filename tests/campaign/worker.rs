//! One of the processes: it opens a session, and does what its recipe is about for as long as its
//! standard input is open.

use std::{
    io::Read,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Signal, set_parent_process_death_signal};
use tenure::{Client, Session};
use tokio::time::sleep;

use crate::{
    journal::{Event, Name, Orders, failed, say},
    random::Random,
    recipe::Recipe,
};

/// What a worker has of its own.
pub(crate) struct Worker {
    pub(crate) name: Name,
    pub(crate) client: Client,
    pub(crate) session: Session,
    pub(crate) random: Random,
}

pub(crate) fn run<R: Recipe>(orders: Orders) -> ExitCode {
    // So that no stopped worker outlives a campaign that was killed.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("Linux can");
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        // It ends when the campaign closes it, or is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(work::<R>(orders, stop));
    ExitCode::SUCCESS
}

async fn work<R: Recipe>(orders: Orders, stop: Arc<AtomicBool>) {
    let stopped = || stop.load(Ordering::Relaxed);
    let client = Client::connect(&orders.endpoints).await.expect("the endpoints are good");
    let session = loop {
        let ttl = Duration::from_secs(orders.ttl_secs);
        let builder = Session::builder().ttl(ttl).name(orders.name.to_string()).reenter();
        match builder.open(&client).await {
            Ok(session) => break session,
            Err(error) => failed("open", &error),
        }
        if stopped() {
            return;
        }
    };
    say(Event::Opened);
    let mut random = Random::new(orders.seed);
    let mut recipe = R::new(Worker {
        name: orders.name,
        client,
        session: session.clone(),
        random: random.fork(),
    });
    while !stopped() {
        recipe.turn().await;
        if random.one_in(4) {
            sleep(random.millis(0..100)).await;
        }
    }
    drop(recipe);
    if let Err(error) = session.close().await {
        failed("close", &error);
    }
    say(Event::Left);
}
