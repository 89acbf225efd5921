//! A holder that is a process of its own, and is stopped or killed. Its part is played by this same
//! program, started again with [`HOLDER`] set, and with one test to run.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tenure::{
    Client, Compare, ErrorKind, Fence, LossReason, Mutex, MutexGuard, Put, Release, Session,
};
use tenure_testkit::{Cluster, EtcdBinary, eventually, on_each_etcd};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// Long for anything that should happen; only a failure takes it.
const SOON: Duration = Duration::from_secs(20);
/// Set where this program is the holder: the endpoints, with commas between.
const HOLDER: &str = "TENURE_TEST_HOLDER";
const TTL: Duration = Duration::from_secs(3);

async fn start(etcd: &EtcdBinary, members: usize) -> (Cluster, Client) {
    let cluster = Cluster::builder(etcd).members(members).fast(true).start().await.unwrap();
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    (cluster, client)
}

async fn acquire(session: &Session) -> MutexGuard {
    timeout(SOON, Mutex::new(session, "jobs").acquire()).await.expect("it is our turn").unwrap()
}

/// Waits in the queue behind the holder.
async fn queue_up(client: &Client) -> tokio::task::JoinHandle<MutexGuard> {
    let session = Session::open(client).await.unwrap();
    let waiting = tokio::spawn(async move { acquire(&session).await });
    eventually(SOON, "it waits", async || Mutex::inspect(client, "jobs").await.unwrap().len() == 2)
        .await;
    waiting
}

/// The part of the holder: takes the lock, waits for a word, and then looks at what it has.
async fn hold(endpoints: &str) {
    let client = Client::connect(endpoints.split(',')).await.unwrap();
    let session = Session::builder().ttl(TTL).open(&client).await.unwrap();
    let guard = acquire(&session).await;
    guard.kv().put("k", "the holder's").await.unwrap();
    say(&guard.fence().to_string());
    // This is the work that takes long: nothing else happens on this thread.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    assert!(!guard.is_held(), "known at the first look");
    let refused = guard.kv().put("k", "stale").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Lost, "{refused}");
    let reason = timeout(SOON, guard.lost()).await.expect("it is told");
    assert!(matches!(reason, LossReason::Expired | LossReason::Revoked), "{reason}");
    // Even a write that looks at no clock is refused: by etcd, for the fence that it carries.
    let fence = guard.fence();
    let own = Compare::create_revision(fence.key).equal(fence.create_revision);
    let fenced = client.txn().when([own]).and_then([Put::new("k", "stale")]).await.unwrap();
    assert!(!fenced.succeeded);
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(reason));
    say("it is lost");
}

fn say(what: &str) {
    // Whatever else was printed ends before it.
    println!("\nholder: {what}");
}

/// A holder that runs `hold` in the test of this name.
struct Holder {
    process: Child,
    said: mpsc::UnboundedReceiver<String>,
}

impl Holder {
    fn start(test: &str, cluster: &Cluster) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(HOLDER, cluster.endpoints().join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = BufReader::new(process.stdout.take().unwrap());
        let (sender, said) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in printed.lines().map_while(Result::ok) {
                println!("{line}");
                if let Some(word) = line.strip_prefix("holder: ") {
                    // Nobody listens any more where the test failed.
                    let _ = sender.send(word.to_owned());
                }
            }
        });
        Self { process, said }
    }

    /// What it says next.
    async fn says(&mut self) -> String {
        timeout(SOON, self.said.recv()).await.expect("it speaks").expect("it lives")
    }

    async fn fence(&mut self) -> Fence {
        self.says().await.parse().unwrap()
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_holder_stopped_past_its_ttl_knows_at_once_and_its_writes_are_refused() {
    if let Ok(endpoints) = std::env::var(HOLDER) {
        return hold(&endpoints).await;
    }
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd, 1).await;
        let test = "a_holder_stopped_past_its_ttl_knows_at_once_and_its_writes_are_refused";
        let mut holder = Holder::start(test, &cluster);
        let fence = holder.fence().await;
        let waiting = queue_up(&client).await;
        holder.signal("-STOP");
        let guard = timeout(SOON, waiting).await.expect("the lease expires").unwrap();
        assert!(guard.fence() > fence);
        guard.kv().put("k", "the next one's").await.unwrap();
        // It goes on where it was, in the middle of what only a holder may do.
        holder.process.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        holder.signal("-CONT");
        assert_eq!(holder.says().await, "it is lost");
        eventually(SOON, "it ends well", async || {
            holder.process.try_wait().unwrap().map(|status| assert!(status.success()))
        })
        .await;
        assert_eq!(client.get("k").await.unwrap().kv().unwrap().value, "the next one's");
        assert!(guard.is_held());
    })
    .await;
}

#[tokio::test]
async fn the_lock_of_a_killed_holder_passes_on_within_its_ttl_and_two_seconds() {
    if let Ok(endpoints) = std::env::var(HOLDER) {
        return hold(&endpoints).await;
    }
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd, 3).await;
        let test = "the_lock_of_a_killed_holder_passes_on_within_its_ttl_and_two_seconds";
        // If the leader changes meanwhile, the next one gives every lease its whole TTL again.
        for (leader_dies, limit) in [(false, 2), (true, 3)] {
            let mut holder = Holder::start(test, &cluster);
            let fence = holder.fence().await;
            let waiting = queue_up(&client).await;
            holder.signal("-KILL");
            let begin = Instant::now();
            let ttl = if leader_dies {
                let leader = cluster.leader().await.unwrap();
                cluster.kill(leader).unwrap();
                2 * TTL
            } else {
                TTL
            };
            let guard = timeout(SOON, waiting).await.expect("the lease expires").unwrap();
            let (took, limit) = (begin.elapsed(), ttl + Duration::from_secs(limit));
            assert!(took <= limit, "{took:?} of {limit:?}");
            assert!(guard.fence() > fence);
            guard.kv().put("k", "the next one's").await.unwrap();
            assert_eq!(guard.release().await.unwrap(), Release::Released);
        }
    })
    .await;
}
