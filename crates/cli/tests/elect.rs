//! `tenure elect` and `tenure exec --leader`, on real etcd; and `etcdctl elect` beside them.

mod support;

use std::future::IntoFuture;

use support::*;
use tenure::{Client, Contender, Observer, Session};
use tenure_testkit::{EtcdBinary, eventually, on_each_etcd};
use tokio::process::Command;

fn etcdctl<'a>(
    etcd: &EtcdBinary,
    endpoint: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut command = program(etcd.etcdctl().expect("there is an etcdctl"));
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoint}")).args(words);
    command
}

async fn candidates(client: &Client, prefix: &str, count: usize) -> Vec<Contender> {
    let observer = Observer::at(client, prefix);
    eventually(SOON, &format!("{count} candidates"), async || {
        let all = observer.candidates().await.unwrap();
        (all.len() == count).then_some(all)
    })
    .await
}

#[tokio::test]
async fn etcdctl_and_tenure_lead_one_after_the_other_and_each_observes_both() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let mut theirs = Running::start(etcdctl(&etcd, endpoint, ["elect", "boss", "etcdctl"]));
        let their_key = theirs.line().await;
        assert_eq!(theirs.line().await, "etcdctl");

        let listen = ["elect", "--listen", "--prefix", "boss"];
        let mut we_observe = Running::start(tenure(endpoint, listen));
        let mut they_observe = Running::start(etcdctl(&etcd, endpoint, ["elect", "boss", "-l"]));
        for observer in [&mut we_observe, &mut they_observe] {
            assert_eq!(observer.line().await, their_key);
            assert_eq!(observer.line().await, "etcdctl");
        }

        let stand = ["elect", "--prefix", "boss", "tenure"];
        let mut ours = Running::start(tenure(endpoint, stand));
        let waiting = candidates(&client, "boss", 2).await;
        assert_eq!(waiting[0].key, their_key);
        theirs.signal("TERM");
        let our_key = ours.line().await;
        assert_eq!(waiting[1].key, our_key);
        assert_eq!(ours.line().await, "tenure");

        let mut next = Running::start(etcdctl(&etcd, endpoint, ["elect", "boss", "again"]));
        candidates(&client, "boss", 2).await;
        ours.signal("TERM");
        assert_eq!(ours.end().await.0, 0);
        let next_key = next.line().await;
        assert_eq!(next.line().await, "again");
        for observer in [&mut we_observe, &mut they_observe] {
            for expected in [&our_key, "tenure", &next_key, "again"] {
                assert_eq!(observer.line().await, expected);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_command_runs_while_leading_and_its_code_is_ours() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let script = "echo $TENURE_LEADER_KEY; echo $TENURE_LEADER_TERM; exit 7";
        let words = ["elect", "boss", "ann", "--", "sh", "-c", script];
        let mut running = Running::start(tenure(endpoint, words));
        assert!(running.line().await.starts_with("tenure/election/boss/"));
        running.line().await.parse::<i64>().unwrap();
        assert_eq!(running.end().await.0, 7);
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn a_command_is_started_again_when_its_process_leads_again() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let words = ["exec", "--leader", "boss", "--", "sh", "-c", "echo begins; exec cat"];
        let mut command = tenure(endpoint, words);
        command.stdin(std::process::Stdio::piped());
        let mut running = Running::start(command);
        assert_eq!(running.line().await, "begins");
        let leader = Observer::new(&client, "boss").leader().await.unwrap().unwrap();
        client.delete(leader.key).await.unwrap();
        while !running.complaint().await.contains("somebody deleted the key") {}
        assert_eq!(running.line().await, "begins");
        drop(running.stdin.take());
        assert_eq!(running.end().await.0, 0);
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        for (words, says) in [
            (&["elect"][..], "NAME or --prefix is missing"),
            (&["elect", "", "x"], "name must not be empty"),
            (&["elect", "--prefix", "p", "v", "w"], "one VALUE"),
            (&["elect", "--listen", "boss", "value"], "has no VALUE"),
            (&["elect", "--listen", "boss", "--", "true"], "cannot be used with"),
            (&["exec", "--", "true"], "--leader"),
            (&["exec", "--leader", "boss"], "what is to be run?"),
        ] {
            let (code, _, stderr) = run(tenure(endpoint, words.iter().copied())).await;
            assert_eq!(code, 2, "{words:?}: {stderr}");
            assert!(stderr.contains(says), "{words:?}: {stderr}");
        }
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn a_candidate_that_is_told_to_end_leaves_nothing() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let session = Session::open(&client).await.unwrap();
        let election = tenure::Election::at(&session, "boss");
        let leads = election.campaign("me").await.unwrap();
        let running = Running::start(tenure(endpoint, ["elect", "--prefix", "boss", "you"]));
        candidates(&client, "boss", 2).await;
        running.signal("INT");
        assert_eq!(running.end().await.0, 130);
        candidates(&client, "boss", 1).await;
        leads.resign().await.unwrap();
        session.close().await.unwrap();
        nothing_is_left(&client).await;
    })
    .await;
}

#[tokio::test]
async fn inspect_shows_every_kind() {
    on_each_etcd(async |etcd| {
        let (cluster, client) = start(&etcd).await;
        let endpoint = &cluster.endpoints()[0];
        let session = Session::open(&client).await.unwrap();
        let leads = tenure::Election::new(&session, "it").campaign("ann").await.unwrap();
        let lock = tenure::RwLock::new(&session, "it");
        let reads = lock.read().await.unwrap();
        let semaphore = tenure::Semaphore::new(&session, "it", 3);
        let permits = semaphore.acquire(2).await.unwrap();
        let waiting = tokio::spawn(lock.write().into_future());
        eventually(SOON, "a writer waits", async || lock.holders().await.unwrap().len() == 3).await;

        let inspect = async |kind: &str, json: bool| {
            let words =
                ["inspect", "--kind", kind, "it"].into_iter().chain(json.then_some("--json"));
            let (code, text, stderr) = run(tenure(endpoint, words)).await;
            assert_eq!(code, 0, "{stderr}");
            text
        };
        let json = async |kind| {
            serde_json::from_str::<serde_json::Value>(&inspect(kind, true).await).unwrap()
        };
        let elections = json("election").await;
        assert_eq!(elections["leader"]["value"], "ann");
        assert_eq!(elections["leader"]["create_revision"], leads.term().0);
        assert_eq!(elections["candidates"], serde_json::json!([]));
        let text = inspect("election", false).await;
        assert!(text.lines().nth(1).unwrap().starts_with("leads  ann"), "{text}");

        let locks = json("rwlock").await;
        assert_eq!(locks["holders"][0]["mode"], "read");
        assert_eq!(locks["waiters"][0]["mode"], "write");
        assert_eq!(locks["waiters"].as_array().unwrap().len(), 1);
        let text = inspect("rwlock", false).await;
        assert!(text.contains("holds (read)") && text.contains("waits 1 (write)"), "{text}");

        let semaphores = json("semaphore").await;
        assert_eq!(semaphores["holders"][0]["permits"], 2);
        let text = inspect("semaphore", false).await;
        assert!(text.contains("holds (2)"), "{text}");

        let queue = tenure::Queue::new(&session, "it");
        queue.enqueue("first").await.unwrap();
        queue.enqueue("second").await.unwrap();
        let delivery = queue.take_leased().await.unwrap();
        let items = json("queue").await["items"].clone();
        assert_eq!((&items[0]["value"], &items[0]["state"]), (&"second".into(), &"waits".into()));
        assert_eq!((&items[1]["value"], &items[1]["state"]), (&"first".into(), &"runs".into()));
        assert_eq!(items[1]["worker"]["pid"], std::process::id());
        let text = inspect("queue", false).await;
        assert!(text.contains("runs   1") && text.contains("waits  0"), "{text}");
        delivery.ack().await.unwrap();
        let text = inspect("priority-queue", false).await;
        assert_eq!(text, "nothing is in the queue \"it\"\n");

        assert_eq!(inspect("barrier", false).await, "the barrier \"it\" is open\n");
        let held = tenure::Barrier::new(&client, "it").hold(&session).await.unwrap().unwrap();
        assert_eq!(json("barrier").await["held"], true);
        held.release().await.unwrap();
        let meeting = tenure::DoubleBarrier::new(&session, "it", 2);
        let (one, two) =
            tokio::try_join!(meeting.enter().into_future(), meeting.enter().into_future()).unwrap();
        let text = inspect("double-barrier", false).await;
        assert_eq!(text.matches("is in").count(), 2, "{text}");
        assert_eq!(json("double-barrier").await["holders"].as_array().unwrap().len(), 2);
        tokio::try_join!(one.leave().into_future(), two.leave().into_future()).unwrap();
        let latch = tenure::CountDownLatch::new(&client, "it");
        assert!(latch.try_set_count(2).await.unwrap());
        assert_eq!(inspect("latch", false).await, "the latch \"it\" waits for 2 more\n");

        reads.release().await.unwrap();
        waiting.await.unwrap().unwrap().release().await.unwrap();
        permits.release().await.unwrap();
        leads.resign().await.unwrap();
        let text = inspect("rwlock", false).await;
        assert_eq!(text, "nobody holds the lock \"it\"\n");
        session.close().await.unwrap();
    })
    .await;
}
