//! Twenty processes count under one lock, while members of the cluster and the processes
//! themselves are killed, frozen and cut off: no increment is lost, none is done twice, and none
//! is done by anybody but the holder.
//!
//! `TENURE_CAMPAIGN_SECS` is how long it lasts, 20 by default; `TENURE_CAMPAIGN_SEED` repeats its
//! faults, though not what comes of them. `TENURE_CAMPAIGN_KEEP` writes down all that was said, as a
//! failure does.
//!
//! This binary has a `main` of its own, because it is each of the twenty processes, too.

#[path = "campaign/crew.rs"]
mod crew;
#[path = "campaign/faults.rs"]
mod faults;
#[path = "campaign/journal.rs"]
mod journal;
#[path = "campaign/libtest.rs"]
mod libtest;
#[path = "campaign/observer.rs"]
mod observer;
#[path = "campaign/random.rs"]
mod random;
#[path = "campaign/said.rs"]
mod said;
#[path = "campaign/verdict.rs"]
mod verdict;
#[path = "campaign/worker.rs"]
mod worker;

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::join;
use tenure::{Client, KeyRange, Revision};
use tenure_testkit::{Cluster, EtcdBinary, on_each_etcd};
use tokio::time::{Instant, sleep, timeout};

use self::{
    crew::Crew,
    faults::{Fault, Faults, HEAVY, LIGHT, hurt_members, hurt_workers},
    journal::{Journal, ORDERS},
    libtest::Asked,
    observer::{Observer, Turn},
    random::Random,
    verdict::{Found, Verdict},
};

const TEST: &str = "processes_count_under_one_lock_while_members_and_processes_are_hurt";
const WORKERS: usize = 20;
/// Whoever waits for something now and then, though nothing is wrong, has it by then.
const SOON: Duration = Duration::from_secs(60);
/// What a worker may be away for.
const LONGEST: Duration = Duration::from_secs(5);
/// A campaign of this length does everything at least once.
const WHOLE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    if let Ok(orders) = env::var(ORDERS) {
        return worker::run(&orders);
    }
    let asked = Asked::by_arguments();
    if asked.list {
        asked.print_list(&[TEST]);
        return ExitCode::SUCCESS;
    }
    let wanted = asked.wants(TEST);
    println!("\nrunning {} test{}", u8::from(wanted), if wanted { "" } else { "s" });
    if wanted {
        println!("test {TEST} ...");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        // A panic ends the program, and so fails the test.
        runtime.expect("a runtime can be made").block_on(on_each_etcd(campaign));
        println!("test {TEST} ... ok");
    }
    println!("\ntest result: ok. {} passed; 0 failed\n", u8::from(wanted));
    ExitCode::SUCCESS
}

/// Tells the seed again if it failed.
struct Seed(u64);

impl Seed {
    fn given() -> Self {
        let given = env::var("TENURE_CAMPAIGN_SEED").ok();
        let seed = given.map(|seed| seed.parse().expect("a number")).unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
        });
        println!("TENURE_CAMPAIGN_SEED={seed}");
        Self(seed)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the campaign with TENURE_CAMPAIGN_SEED={} failed", self.0);
        }
    }
}

fn length() -> Duration {
    let secs = env::var("TENURE_CAMPAIGN_SECS").ok();
    Duration::from_secs(secs.map_or(20, |secs| secs.parse().expect("a number of seconds")))
}

async fn campaign(etcd: EtcdBinary) {
    let seed = Seed::given();
    let length = length();
    let mut random = Random::new(seed.0);
    // Slower than the other tests, whose timing does not bear with twenty processes on two cores,
    // and quicker than etcd's own: a leader is found again within a second.
    let cluster = Cluster::builder(&etcd)
        .members(3)
        .proxied_peers(true)
        .flag("--heartbeat-interval=40")
        .flag("--election-timeout=400");
    let cluster = cluster.start().await.unwrap();
    let observer = Observer::start(&cluster).await;
    let crew = Crew::start(WORKERS, cluster.endpoints(), random.fork());
    let began = Instant::now();
    let until = began + length;
    let faults = Faults::default();
    join!(
        hurt_members(&cluster, &crew, random.fork(), until, &faults),
        // They end with the rest.
        hurt_workers(&crew, HEAVY, random.fork(), until - LONGEST, &faults),
        hurt_workers(&crew, LIGHT, random.fork(), until, &faults),
    );
    let faults = faults.into_inner();
    println!("{} faults in {:?}", faults.len(), began.elapsed());
    cluster.wait_ready().await.unwrap();

    let mut complaints = crew.ended();
    complaints.extend(all_go_on(&crew).await);
    crew.dismiss();
    complaints.extend(all_end(&crew).await);
    let journals = crew.into_journals();
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    complaints.extend(something_is_left(&client).await);
    let found = Found::read(&client).await.unwrap();
    let turns = observer.turns();
    let verdict = Verdict::of(&journals, &found, &faults, &turns);
    print!("{}", verdict.report(&journals, &faults));
    println!("{:?} in all", began.elapsed());

    complaints.extend(verdict.complaints.iter().cloned());
    if length >= WHOLE {
        let done = faults::tally(&faults);
        let missing = faults::all().filter(|what| !done.contains_key(&what[..]));
        complaints.extend(missing.map(|what| format!("{what} was never done")));
    }
    if (verdict.applied() as u64) < length.as_secs() {
        complaints.push("hardly anything was done".to_owned());
    }
    if env::var_os("TENURE_CAMPAIGN_KEEP").is_some() {
        println!("all that was said: {}", keep(seed.0, &journals, &faults, &turns).display());
    }
    if !complaints.is_empty() {
        let journals = keep(seed.0, &journals, &faults, &turns);
        let count = complaints.len();
        complaints.truncate(50);
        panic!(
            "on {etcd}, {count} complaints; all that was said is in {}; the first are:\n{}",
            journals.display(),
            complaints.join("\n")
        );
    }
}

/// When nobody is hurt any more, everybody gets the lock.
async fn all_go_on(crew: &Crew) -> Option<String> {
    let before = crew.acquisitions();
    let behind = || {
        let now = crew.acquisitions();
        let behind = before.iter().zip(&now).enumerate().filter(|(_, (then, now))| then == now);
        behind.map(|(slot, _)| slot).collect::<Vec<_>>()
    };
    let all = async {
        while !behind().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    match timeout(SOON, all).await {
        Ok(()) => None,
        Err(_) => Some(format!("workers {:?} had no lock within {SOON:?} of peace", behind())),
    }
}

/// Whoever is told to, ends.
async fn all_end(crew: &Crew) -> Vec<String> {
    let until = Instant::now() + SOON;
    while crew.running() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(5)).await;
    }
    match crew.running() {
        0 => crew.ended().into_iter().filter(|end| !end.ends_with("exit status: 0")).collect(),
        running => vec![format!("{running} workers hang")],
    }
}

/// With the last session its keys are gone, and with the lease of the last dead worker all are.
async fn something_is_left(client: &Client) -> Option<String> {
    let nothing = async || {
        let keys = client.count(KeyRange::prefix("tenure/")).await;
        keys.is_ok_and(|keys| keys.count == 0)
            && client.leases().await.is_ok_and(|list| list.leases.is_empty())
    };
    let gone = timeout(SOON, async {
        while !nothing().await {
            sleep(Duration::from_millis(20)).await;
        }
    });
    gone.await.is_err().then(|| format!("keys of the lock, or leases, are left after {SOON:?}"))
}

/// Writes down what was said and done.
fn keep(
    seed: u64,
    journals: &[Journal],
    faults: &[Fault],
    turns: &BTreeMap<Revision, Turn>,
) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("campaign-{seed}.txt"));
    let mut file = BufWriter::new(File::create(&path).expect("a file can be made"));
    let mut lines: Vec<(u64, String)> = Vec::new();
    for fault in faults {
        lines.push((fault.from, format!("== {}, from", fault.what)));
        lines.push((fault.until, format!("== {}, until", fault.what)));
    }
    for (create, Turn { whose, from, until }) in turns {
        lines.push((*from, format!("-- turn of {whose} with {create}")));
        let until = until.map(|until| (until, format!("-- {whose} with {create} is gone")));
        lines.extend(until);
    }
    for journal in journals {
        let name = journal.name;
        lines.extend(journal.entries.iter().map(|it| (it.at, format!("{name} {:?}", it.event))));
    }
    lines.sort();
    for (at, line) in lines {
        writeln!(file, "{at} {line}").expect("a file can be written");
    }
    path
}
