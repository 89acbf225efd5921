//! One of the processes: it takes the lock, raises the counter, and gives the lock back, for as
//! long as its standard input is open.

use std::{
    convert::Infallible,
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
use tenure::{Client, Error, ErrorKind, Mutex, MutexGuard, Put, Release, Session};
use tokio::time::{sleep, timeout};

use crate::{
    journal::{COUNTER, Event, INCREMENTS, Increment, LOCK, Name, Orders, now, say, say_at},
    random::Random,
};

/// Long for a turn among twenty, also when some of them are dead until their leases are over.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a holder says that it believes to be one.
const CLAIM: Duration = Duration::from_millis(20);

pub(crate) fn run(orders: &str) -> ExitCode {
    // So that no stopped worker outlives a campaign that was killed.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("Linux can");
    let orders: Orders = serde_json::from_str(orders).expect("the campaign wrote it");
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        // It ends when the campaign closes it, or is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(work(orders, stop))
}

async fn work(orders: Orders, stop: Arc<AtomicBool>) -> ExitCode {
    let stopped = || stop.load(Ordering::Relaxed);
    let client = Client::connect(orders.endpoints).await.expect("the endpoints are good");
    let ttl = Duration::from_secs(orders.ttl_secs);
    let session = loop {
        let builder = Session::builder().ttl(ttl).name(orders.name.to_string()).reenter();
        match builder.open(&client).await {
            Ok(session) => break session,
            Err(error) => tell("open", &error),
        }
        if stopped() {
            return ExitCode::SUCCESS;
        }
    };
    say(Event::Opened);
    let mutex = Mutex::new(&session, LOCK);
    let mut worker =
        Worker { name: orders.name, client, mutex, random: Random::new(orders.seed), written: 0 };
    while !stopped() {
        worker.turn().await;
        if worker.random.one_in(4) {
            sleep(worker.random.millis(0..100)).await;
        }
    }
    if let Err(error) = session.close().await {
        tell("close", &error);
    }
    say(Event::Left);
    ExitCode::SUCCESS
}

/// Says that something failed, and whether it may.
fn tell(what: &str, error: &Error) {
    say(Event::failed(what, error));
    match error.kind() {
        ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Indeterminate
        | ErrorKind::Refused
        | ErrorKind::Lost => {}
        kind => say(Event::Broken { text: format!("{what}: {kind:?}: {error}") }),
    }
}

struct Worker {
    name: Name,
    client: Client,
    mutex: Mutex,
    random: Random,
    written: u64,
}

/// How the increments of one hold ended.
enum End {
    Well,
    Badly,
    /// With one of which nobody knows.
    Unknown(String),
}

impl Worker {
    async fn turn(&mut self) {
        say(Event::Waiting);
        let acquire = self.mutex.acquire();
        let span = self.random.millis(1..300);
        let acquired = match self.random.within(0..20) {
            // Gives up by dropping it.
            0 => match timeout(span, acquire.into_future()).await {
                Ok(acquired) => acquired,
                Err(_) => return,
            },
            1 => acquire.timeout(span).await,
            _ => acquire.timeout(PATIENCE).await,
        };
        match acquired {
            Ok(guard) => self.hold(guard).await,
            Err(error) => {
                tell("acquire", &error);
                sleep(self.random.millis(1..20)).await;
            }
        }
    }

    async fn hold(&mut self, guard: MutexGuard) {
        say(Event::Acquired { fence: guard.fence() });
        let end = tokio::select! {
            biased;
            end = self.increments(&guard) => end,
            never = claim(&guard) => match never {},
        };
        match end {
            End::Unknown(id) => self.settle(id, guard).await,
            _ if self.random.one_in(5) => {
                say(Event::GivesBack { waits: false });
                drop(guard);
            }
            _ => drop(release(guard).await),
        }
    }

    async fn increments(&mut self, guard: &MutexGuard) -> End {
        for _ in 0..self.random.within(1..4) {
            let number = match self.client.get(COUNTER).await {
                Ok(got) => got.kv().map_or(0, |kv| {
                    std::str::from_utf8(&kv.value).unwrap().parse::<u64>().unwrap()
                }),
                Err(error) => {
                    tell("read", &error);
                    return End::Badly;
                }
            } + 1;
            if self.random.one_in(3) {
                sleep(self.random.millis(0..20)).await;
            }
            self.written += 1;
            let id = format!("{}.{}", self.name, self.written);
            let increment = Increment { number, worker: self.name, fence: guard.fence() };
            let increment = serde_json::to_string(&increment).unwrap();
            let puts = [
                Put::new(COUNTER, number.to_string()),
                Put::new(format!("{INCREMENTS}{id}"), increment),
            ];
            let (at, held) = belief(guard);
            say_at(at, Event::Writing { id: id.clone(), number, held });
            match guard.txn().and_then(puts).await {
                Ok(done) => {
                    if !done.succeeded {
                        say(Event::Broken { text: format!("{id} has no condition that failed") });
                    }
                    say(Event::Wrote { id, revision: done.header.revision.0 });
                }
                Err(error) if error.may_have_been_applied() => {
                    say(Event::Unknown { id: id.clone(), text: error.to_string() });
                    return End::Unknown(id);
                }
                Err(error) => {
                    let kind = format!("{:?}", error.kind());
                    say(Event::Refused { id, kind, text: error.to_string() });
                    tell("write", &error);
                    if error.kind() == ErrorKind::Lost {
                        let reason = format!("{:?}", error.loss_reason());
                        if guard.is_held() {
                            let text = format!("held, though a write was refused: {reason}");
                            say(Event::Broken { text });
                        }
                        say(Event::Lost { reason });
                    }
                    return End::Badly;
                }
            }
        }
        End::Well
    }

    /// An increment is unknown. A late copy may be done for as long as the lock is held; once it
    /// is given back, what is not there never will be.
    async fn settle(&mut self, id: String, guard: MutexGuard) {
        if release(guard).await == Some(Release::Released) {
            match self.client.count(format!("{INCREMENTS}{id}")).await {
                Ok(found) => say(Event::Settled { id, there: found.count == 1 }),
                Err(error) => tell("settle", &error),
            }
        }
    }
}

async fn release(guard: MutexGuard) -> Option<Release> {
    say(Event::GivesBack { waits: true });
    match guard.release().await {
        Ok(released) => {
            say(match released {
                Release::Released => Event::Released,
                Release::AlreadyLost(reason) => {
                    Event::AlreadyLost { reason: format!("{reason:?}") }
                }
            });
            Some(released)
        }
        Err(error) => {
            tell("release", &error);
            None
        }
    }
}

/// Whether it is held at this time, and until when. The clock is read first, so that what is said
/// is not more than what was, though the process be stopped in between.
fn belief(guard: &MutexGuard) -> (u64, Option<u64>) {
    let (at, deadline) = (now(), guard.deadline().as_nanos());
    (at, guard.is_held().then_some(deadline))
}

/// Says again and again what the worker believes.
async fn claim(guard: &MutexGuard) -> Infallible {
    let mut lost = false;
    loop {
        match belief(guard) {
            (_, Some(_)) if lost => {
                say(Event::Broken { text: "held again after it was lost".into() });
            }
            (at, Some(deadline)) => say_at(at, Event::Held { deadline }),
            (_, None) if !lost => {
                lost = true;
                say(Event::Lost { reason: format!("{:?}", guard.lost().await) });
            }
            (_, None) => {}
        }
        sleep(CLAIM).await;
    }
}
