//! Workers that are processes of their own, and are told to end. Their part is played by this same
//! program, started again with [`WORKER`] set, and with one test to run.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tenure::{Client, Clock, Election, KeyRange, Reign, Session};
use tenure_testkit::{eventually, on_each_listener};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{sleep, timeout},
};

#[path = "support/start.rs"]
mod start;

use start::{MINUTE, SOON, start};

/// Set where this program is a worker: the endpoint.
const WORKER: &str = "TENURE_TEST_WORKER";
/// What the work takes to end.
const LAST_STEP: Duration = Duration::from_millis(100);

/// What a worker says: what happens, and when, on a clock that all processes of the machine share.
fn say(what: &str) {
    let at = Clock::boot().now().as_nanos();
    // Whatever else was printed ends before it.
    println!("\nworker: {what} {at}");
}

/// The part of a worker: works while it leads, and ends in order when it is told to.
async fn work(endpoint: &str) {
    let mut told_to_end = signal(SignalKind::terminate()).unwrap();
    let client = Client::connect([endpoint]).await.unwrap();
    // If it did not resign, nobody would lead before the test is over.
    let session = Session::builder().ttl(MINUTE).open(&client).await.unwrap();
    let work = async |reign: Arc<Reign>| {
        say("begins");
        reign.stopping().await;
        say("stopping");
        sleep(LAST_STEP).await;
        assert!(reign.is_leader());
        reign.kv().put("saved", "by its leader").await.unwrap();
        say("ends");
    };
    let leading = Election::new(&session, "work").lead(work).stop_within(SOON).start().unwrap();
    told_to_end.recv().await;
    leading.stop().await.unwrap();
    session.close().await.unwrap();
    client.close().await;
    say("over");
}

struct Worker {
    process: Child,
    said: mpsc::UnboundedReceiver<(String, u64)>,
}

impl Worker {
    fn start(test: &str, endpoint: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(WORKER, endpoint)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = BufReader::new(process.stdout.take().unwrap());
        let (sender, said) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in printed.lines().map_while(Result::ok) {
                let word = line.strip_prefix("worker: ").and_then(|line| line.split_once(' '));
                if let Some((what, at)) = word {
                    // Nobody listens any more where the test failed.
                    let _ = sender.send((what.to_owned(), at.parse().unwrap()));
                }
            }
        });
        Self { process, said }
    }

    /// When it says this, which it does next.
    async fn says(&mut self, what: &str) -> u64 {
        let said = timeout(SOON, self.said.recv()).await;
        let (said, at) = said.unwrap_or_else(|_| panic!("not said: {what}")).expect("it lives");
        assert_eq!(said, what);
        at
    }

    fn terminate(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    async fn ends_well(&mut self) {
        eventually(SOON, "it ends", async || {
            self.process.try_wait().unwrap().map(|status| assert!(status.success()))
        })
        .await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// So many processes in line, of which the first works.
async fn workers(test: &str, endpoint: &str, client: &Client, count: u64) -> Vec<Worker> {
    let mut workers = Vec::new();
    for number in 1..=count {
        workers.push(Worker::start(test, endpoint));
        candidates_are(client, number).await;
    }
    workers
}

async fn candidates_are(client: &Client, count: u64) {
    let what = format!("{count} stand");
    eventually(SOON, &what, async || {
        client.count(KeyRange::prefix("tenure/election/")).await.unwrap().count == count
    })
    .await;
}

#[tokio::test]
async fn work_of_a_process_that_is_told_to_end_is_over_before_the_next_one_begins() {
    if let Ok(endpoint) = std::env::var(WORKER) {
        return work(&endpoint).await;
    }
    let test = "work_of_a_process_that_is_told_to_end_is_over_before_the_next_one_begins";
    on_each_listener(async |server| {
        let (server, client) = start(&server).await;
        let mut workers = workers(test, &server.endpoint(), &client, 4).await;
        let mut ended = 0;
        while !workers.is_empty() {
            let mut leads = workers.remove(0);
            let began = leads.says("begins").await;
            assert!(began > ended, "the one before was still at work");
            leads.terminate();
            if workers.len() == 1 {
                // While it steps down, once more.
                leads.says("stopping").await;
                leads.terminate();
            } else {
                leads.says("stopping").await;
            }
            ended = leads.says("ends").await;
            leads.says("over").await;
            leads.ends_well().await;
        }
        candidates_are(&client, 0).await;
        assert!(client.leases().await.unwrap().leases.is_empty());
        assert_eq!(client.get("saved").await.unwrap().kv().unwrap().version, 4);
    })
    .await;
}

#[tokio::test]
async fn a_process_that_is_told_to_end_while_it_waits_leaves_no_key() {
    if let Ok(endpoint) = std::env::var(WORKER) {
        return work(&endpoint).await;
    }
    let test = "a_process_that_is_told_to_end_while_it_waits_leaves_no_key";
    on_each_listener(async |server| {
        let (server, client) = start(&server).await;
        let mut workers = workers(test, &server.endpoint(), &client, 3).await;
        workers[0].says("begins").await;
        workers[1].terminate();
        workers[1].says("over").await;
        workers[1].ends_well().await;
        candidates_are(&client, 2).await;
        assert_eq!(client.leases().await.unwrap().leases.len(), 2);
        workers[0].terminate();
        workers[0].says("stopping").await;
        let ended = workers[0].says("ends").await;
        assert!(workers[2].says("begins").await > ended);
    })
    .await;
}
