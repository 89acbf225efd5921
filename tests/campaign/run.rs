//! A campaign, whatever its recipe: a cluster, a crew, faults; then peace, in which all get on and
//! all end; then the verdict.

use std::{
    env,
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::join;
use tenure::{Client, KeyRange};
use tenure_testkit::{Cluster, EtcdBinary};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    crew::Crew,
    faults::{self, Fault, Faults, HEAVY, LIGHT, hurt_members, hurt_workers},
    journal::Journal,
    random::Random,
    recipe::{Evidence, Recipe, Verdict},
};

/// Whoever waits for something now and then, though nothing is wrong, has it by then.
const SOON: Duration = Duration::from_secs(60);
/// What a worker may be away for.
const LONGEST: Duration = Duration::from_secs(5);
/// A campaign of this length does everything at least once.
const WHOLE: Duration = Duration::from_secs(120);

/// Tells the seed again if it failed.
struct Seed {
    seed: u64,
    test: &'static str,
}

impl Seed {
    fn given(test: &'static str) -> Self {
        let given = env::var("TENURE_CAMPAIGN_SEED").ok();
        let seed = given.map(|seed| seed.parse().expect("a number")).unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
        });
        println!("TENURE_CAMPAIGN_SEED={seed}");
        Self { seed, test }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} with TENURE_CAMPAIGN_SEED={} failed", self.test, self.seed);
        }
    }
}

fn length() -> Duration {
    let secs = env::var("TENURE_CAMPAIGN_SECS").ok();
    Duration::from_secs(secs.map_or(10, |secs| secs.parse().expect("a number of seconds")))
}

async fn cluster(etcd: &EtcdBinary) -> Cluster {
    // Slower than the other tests, whose timing does not bear with twenty processes on two cores,
    // and quicker than etcd's own: a leader is found again within a second.
    let cluster = Cluster::builder(etcd)
        .members(3)
        .proxied_peers(true)
        .flag("--heartbeat-interval=40")
        .flag("--election-timeout=400");
    cluster.start().await.unwrap()
}

pub(crate) async fn campaign<R: Recipe>(etcd: EtcdBinary) {
    let seed = Seed::given(R::TEST);
    let length = length();
    let mut random = Random::new(seed.seed);
    let cluster = cluster(&etcd).await;
    let observer = R::observe(&cluster).await;
    let crew = Crew::start(R::TEST, R::WORKERS, cluster.endpoints(), random.fork());
    let began = Instant::now();
    let faults = hurt(&cluster, &crew, &mut random, began + length).await;
    println!("{} faults in {:?}", faults.len(), began.elapsed());
    cluster.wait_ready().await.unwrap();

    let mut complaints = crew.ended();
    complaints.extend(all_get_on(&crew).await);
    crew.dismiss();
    complaints.extend(all_end(&crew).await);
    let journals = crew.into_journals();
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    let evidence = Evidence { client: &client, journals: &journals, faults: &faults };
    let verdict = R::judge(evidence, &observer).await.unwrap();
    complaints.extend(something_is_left(&client).await);
    let done = faults::tally(&faults);
    println!("{}done: {done:?}\n{:?} in all", verdict.report, began.elapsed());

    complaints.extend(verdict.complaints.iter().cloned());
    if length >= WHOLE {
        let missing = faults::all().filter(|what| !done.contains_key(&what[..]));
        complaints.extend(missing.map(|what| format!("{what} was never done")));
    }
    if (verdict.done as u64) < length.as_secs() {
        complaints.push("hardly anything was done".to_owned());
    }
    if !complaints.is_empty() || env::var_os("TENURE_CAMPAIGN_KEEP").is_some() {
        println!("all that was said: {}", keep(&seed, &journals, &faults, &verdict).display());
    }
    let count = complaints.len();
    complaints.truncate(50);
    let first = complaints.join("\n");
    assert!(complaints.is_empty(), "on {etcd}, {count} complaints; the first are:\n{first}");
}

/// Everybody, until the time is over.
async fn hurt(cluster: &Cluster, crew: &Crew, random: &mut Random, until: Instant) -> Vec<Fault> {
    let faults = Faults::default();
    join!(
        hurt_members(cluster, crew, random.fork(), until, &faults),
        // They end with the rest.
        hurt_workers(crew, HEAVY, random.fork(), until - LONGEST, &faults),
        hurt_workers(crew, LIGHT, random.fork(), until, &faults),
    );
    faults.into_inner()
}

/// When nobody is hurt any more, everybody gets what it asks for.
async fn all_get_on(crew: &Crew) -> Option<String> {
    let before = crew.granted();
    let behind = || {
        let now = crew.granted();
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
        Err(_) => Some(format!("workers {:?} were granted nothing in {SOON:?} of peace", behind())),
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
    gone.await.is_err().then(|| format!("keys of the recipe, or leases, are left after {SOON:?}"))
}

/// Writes down what was said and done.
fn keep(seed: &Seed, journals: &[Journal], faults: &[Fault], verdict: &Verdict) -> PathBuf {
    let name = format!("{}-{}.txt", seed.test, seed.seed);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut file = BufWriter::new(File::create(&path).expect("a file can be made"));
    let mut lines = verdict.seen.clone();
    for fault in faults {
        lines.push((fault.from, format!("== {}, from", fault.what)));
        lines.push((fault.until, format!("== {}, until", fault.what)));
    }
    for Journal { name, lines: said, .. } in journals {
        lines.extend(said.iter().map(|(at, line)| (*at, format!("{name} {line}"))));
    }
    lines.sort();
    for (at, line) in lines {
        writeln!(file, "{at} {line}").expect("a file can be written");
    }
    path
}
