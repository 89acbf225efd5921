//! A thousand watches on one stream, while keys change, connections break and the server dies.

use std::{
    collections::BTreeMap,
    env,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::join_all};
use tenure::{
    Client, Delete, ErrorKind, Event, EventKind, GetResponse, KeyRange, KeyValue, Op, Put,
    Revision, Txn, WatchStream,
};
use tenure_testkit::{Cluster, EtcdBinary, Proxy, eventually, on_each_etcd};
use tokio::{task::JoinHandle, time::sleep};

/// Long for anything that should happen; only a failure takes it.
const SOON: Duration = Duration::from_secs(60);

const WATCHES: usize = 1000;
const GROUPS: u64 = 10;
const KEYS: u64 = 20;
const KILLS: usize = 3;

const STREAMS: &str = "etcd_debugging_mvcc_watch_stream_total";
const STARTED: &str = concat!(
    r#"grpc_server_started_total{grpc_method="Watch","#,
    r#"grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}"#,
);

/// SplitMix64.
#[derive(Clone)]
struct Random(u64);

impl Random {
    /// From `TENURE_SEED`, else from the time.
    fn seeded() -> Self {
        let given = env::var("TENURE_SEED").ok().map(|seed| seed.parse().expect("a number"));
        let seed = given.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
        });
        println!("TENURE_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

fn key(group: u64, number: u64) -> String {
    format!("g{group}/k{number:02}")
}

/// Each key three times, and ranges of all kinds that hold some of them.
fn range(place: usize, random: &mut Random) -> KeyRange {
    let place = place as u64;
    let all = GROUPS * KEYS;
    match place {
        _ if place < 3 * all => KeyRange::key(key(place % GROUPS, place / GROUPS % KEYS)),
        _ if place % 8 < 5 => KeyRange::prefix(format!("g{}/", place % GROUPS)),
        _ if place % 8 < 7 => {
            let group = random.within(0..GROUPS);
            let from = random.within(0..KEYS);
            KeyRange::span(key(group, from), key(group, from + random.within(1..KEYS)))
        }
        _ if place % 16 < 8 => KeyRange::starting_at(key(random.within(7..GROUPS), 0)),
        _ => KeyRange::prefix("g"),
    }
}

/// One member, a client whose connection is hurt, and writers that go on until they are stopped.
struct Storm {
    cluster: Arc<Cluster>,
    proxy: Proxy,
    client: Client,
    direct: Client,
    random: Random,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

impl Storm {
    async fn new(etcd: &EtcdBinary) -> Self {
        let cluster = Arc::new(Cluster::builder(etcd).fast(true).start().await.unwrap());
        let proxy = Proxy::start(&cluster.endpoints()[0]).await.unwrap();
        let client = Client::connect([proxy.endpoint()]).await.unwrap();
        let direct = Client::connect(cluster.endpoints()).await.unwrap();
        let (random, stop) = (Random::seeded(), Arc::default());
        Self { cluster, proxy, client, direct, random, stop, writers: Vec::new() }
    }

    fn write(&mut self) {
        for _ in 0..4 {
            let (client, random) = (self.direct.clone(), self.random.fork());
            self.writers.push(tokio::spawn(write(client, random, Arc::clone(&self.stop))));
        }
    }

    /// Stops the writers, and changes every key once more. The last revision.
    async fn calm(&mut self) -> Revision {
        self.proxy.pass();
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.await.unwrap();
        }
        let mut last = Revision::NONE;
        for half in [0..KEYS / 2, KEYS / 2..KEYS] {
            let keys = half.flat_map(|number| (0..GROUPS).map(move |group| key(group, number)));
            let puts = keys.map(|key| Put::new(key, "end"));
            last = self.direct.txn().and_then(puts).await.unwrap().header.revision;
        }
        last
    }

    /// Breaks connections, and sees that all watches stay on one stream.
    async fn rage(&mut self) {
        let cluster = Arc::clone(&self.cluster);
        let two_streams = async move {
            // A server under load may notice late that a stream is gone.
            let mut in_a_row = 0;
            while in_a_row < 20 {
                let streams = cluster.member(0).metric(STREAMS).await;
                in_a_row = if streams > Some(1.0) { in_a_row + 1 } else { 0 };
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = two_streams => panic!("the watches are on more than one stream"),
            () = self.break_connections() => {}
        }
    }

    async fn break_connections(&mut self) {
        for _ in 0..self.random.within(3..6) {
            sleep(Duration::from_millis(self.random.within(100..600))).await;
            match self.random.within(0..3) {
                0 => self.proxy.reset(),
                // In the middle of a message.
                _ => self.proxy.cut_after(self.random.within(1..200_000)),
            }
        }
    }

    async fn kill_and_restart(&mut self) {
        self.cluster.kill(0).unwrap();
        sleep(Duration::from_millis(self.random.within(0..300))).await;
        self.cluster.restart(0).await.unwrap();
    }

    async fn metric(&self, name: &str) -> f64 {
        self.cluster.member(0).metric(name).await.unwrap_or(0.0)
    }
}

/// Puts, deletions and transactions. What fails, because the server is dead, is no matter: the
/// truth is what is stored.
async fn write(client: Client, mut random: Random, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let (group, number) = (random.within(0..GROUPS), random.within(0..KEYS));
        let value = random.next().to_string();
        let op: Op = match random.within(0..10) {
            0..5 => Put::new(key(group, number), value).into(),
            5..7 => Delete::new(key(group, number)).into(),
            7 => Delete::new(KeyRange::prefix(key(group, number / 10))).into(),
            _ => {
                let ops = (0..random.within(2..10)).map(|step| {
                    // No key twice.
                    let key = key((group + step) % GROUPS, number);
                    match random.within(0..4) {
                        0 => Op::from(Delete::new(key)),
                        _ => Op::from(Put::new(key, value.clone())),
                    }
                });
                Txn::new().and_then(ops).into()
            }
        };
        let _ = client.execute(op).await;
        sleep(Duration::from_millis(5)).await;
    }
}

/// What one watch was told.
struct Follower {
    range: KeyRange,
    /// The revision after which it began.
    after: Revision,
    log: Arc<Mutex<Vec<Event>>>,
    task: JoinHandle<()>,
}

impl Follower {
    async fn start(client: Client, range: KeyRange, from: Option<Revision>) -> Self {
        let request = client.watch(range.clone());
        let request = match from {
            Some(from) => request.start_revision(from),
            None => request,
        };
        let watch = request.timeout(SOON).await.unwrap();
        let created = watch.created_revision().unwrap();
        let after = from.map_or(created, |from| Revision(from.0 - 1));
        let log = Arc::default();
        let task = tokio::spawn(follow(watch, Arc::clone(&log)));
        Self { range, after, log, task }
    }

    fn expected<'a>(&'a self, truth: &'a [Event]) -> impl Iterator<Item = &'a Event> {
        let wanted = |event: &&Event| {
            event.kv.mod_revision > self.after && self.range.contains(&event.kv.key)
        };
        truth.iter().filter(wanted)
    }

    fn has_seen(&self, revision: Revision) -> bool {
        let log = self.log.lock().unwrap();
        log.last().is_some_and(|event| event.kv.mod_revision >= revision)
    }
}

async fn follow(mut watch: WatchStream, log: Arc<Mutex<Vec<Event>>>) {
    let mut last = Revision::NONE;
    while let Some(told) = watch.try_next().await.expect("it survives") {
        let events = told.into_events();
        let first = events[0].kv.mod_revision;
        assert!(first > last, "revision {first} was told before, or is torn apart");
        last = events[events.len() - 1].kv.mod_revision;
        log.lock().unwrap().extend(events);
    }
}

/// All that ever happened.
async fn truth(client: &Client, last: Revision) -> Vec<Event> {
    let mut watch = client.watch(KeyRange::all()).start_revision(Revision(1)).open();
    let mut truth = Vec::new();
    while truth.last().is_none_or(|event: &Event| event.kv.mod_revision < last) {
        truth.extend(watch.try_next().await.unwrap().unwrap().into_events());
    }
    truth
}

#[tokio::test]
async fn every_watch_is_told_every_revision_of_its_keys_once_in_order_and_whole() {
    on_each_etcd(async |etcd| {
        let mut storm = Storm::new(&etcd).await;
        let mut random = storm.random.fork();
        let mut follower = |place: usize, client: &Client| {
            // From now on, from the beginning, or from what is still to come.
            let from = [None, None, Some(1), Some(500)][place % 4].map(Revision);
            Follower::start(client.clone(), range(place, &mut random), from)
        };
        let early = (0..WATCHES - 100).map(|place| follower(place, &storm.client));
        let mut followers = join_all(early.collect::<Vec<_>>()).await;
        storm.write();
        for round in 0..KILLS {
            let places = WATCHES - 100 + round * 33..;
            let late = places.take(if round + 1 < KILLS { 33 } else { 34 });
            let late = late.map(|place| follower(place, &storm.client)).collect::<Vec<_>>();
            let late = tokio::spawn(join_all(late));
            storm.rage().await;
            storm.kill_and_restart().await;
            followers.extend(late.await.unwrap());
        }
        storm.rage().await;
        let last = storm.calm().await;
        let truth = truth(&storm.direct, last).await;
        assert_eq!(followers.len(), WATCHES);
        eventually(SOON, "every watch has caught up", async || {
            followers.iter().all(|follower| {
                let end = follower.expected(&truth).last().unwrap().kv.mod_revision;
                follower.task.is_finished() || follower.has_seen(end)
            })
        })
        .await;
        let mut events = 0;
        for follower in followers {
            assert!(!follower.task.is_finished(), "{:?}", follower.task.await);
            follower.task.abort();
            let log = follower.log.lock().unwrap();
            let same = log.iter().eq(follower.expected(&truth));
            assert!(same, "the watch of {:?} differs from the truth", follower.range);
            events += log.len();
        }
        // The other one was the truth's.
        let one = async || storm.metric(STREAMS).await == 1.0;
        eventually(SOON, "all of them are on one stream", one).await;
        let (started, accepted) = (storm.metric(STARTED).await, storm.proxy.accepted());
        println!(
            "{} events of {} revisions told {events} times, over {accepted} connections; \
             {started} streams since the last restart",
            truth.len(),
            last.0,
        );
    })
    .await;
}

/// The keys of a range, rebuilt from a list and the changes after it.
#[derive(Default)]
struct Copy {
    keys: BTreeMap<Bytes, KeyValue>,
    revision: Revision,
    lists: usize,
}

impl Copy {
    fn list(&mut self, list: GetResponse) {
        assert!(list.header.revision >= self.revision, "time goes on");
        self.revision = list.header.revision;
        self.keys = list.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        self.lists += 1;
    }

    /// A key's version tells whether anything before was left out or told twice.
    fn apply(&mut self, Event { kind, kv, .. }: Event) {
        if kv.mod_revision <= self.revision {
            return;
        }
        let old = self.keys.remove(&kv.key);
        let whole = match (kind, &old) {
            (EventKind::Delete, Some(_)) => true,
            (EventKind::Delete, None) => false,
            (EventKind::Put, None) => kv.version == 1,
            (EventKind::Put, Some(old)) => {
                kv.version == old.version + 1 && kv.create_revision == old.create_revision
            }
        };
        assert!(whole, "something is missing between {old:?} and {kind:?} {kv:?}");
        if kind == EventKind::Put {
            self.keys.insert(kv.key.clone(), kv);
        }
    }
}

/// Keeps a copy, and begins anew after each compaction that it was too late for.
async fn copy(client: Client, range: KeyRange, copy: Arc<Mutex<Copy>>) {
    loop {
        let Ok(list) = client.get(range.clone()).timeout(SOON).await else { continue };
        let from = list.header.revision;
        copy.lock().unwrap().list(list);
        // Not from the revision after it: etcd 3.4.23 would lose a deletion made there if that
        // is compacted by then. What the list holds already is left out.
        let mut watch = client.watch(range.clone()).start_revision(from).open();
        let end = loop {
            match watch.next().await.expect("it says why it ends") {
                Err(end) => break end,
                Ok(told) => {
                    let events = told.into_events();
                    let mut copy = copy.lock().unwrap();
                    let last = events.last().map_or(from, |event| event.kv.mod_revision);
                    events.into_iter().for_each(|event| copy.apply(event));
                    copy.revision = copy.revision.max(last);
                }
            }
        };
        assert_eq!(end.kind(), ErrorKind::Compacted, "{end}");
    }
}

/// Compacts what is a second or two old.
///
/// Not what is newer: etcd before 3.4.31 and 3.5.13 loses the events of a watch that it is late to
/// tell of them when they are compacted by then (its issue 17529), whoever the client is.
async fn compact(client: Client, mut random: Random, stop: Arc<AtomicBool>) {
    let mut revision = None;
    while !stop.load(Ordering::Relaxed) {
        if let Some(revision) = revision {
            // In vain if the server is dead.
            let _ = client.compact(revision).await;
        }
        revision = client.count("k").await.ok().map(|now| now.header.revision);
        sleep(Duration::from_millis(random.within(1_000..2_000))).await;
    }
}

#[tokio::test]
async fn under_compactions_a_watch_is_exact_or_ends_and_a_new_list_closes_the_gap() {
    on_each_etcd(async |etcd| {
        let mut storm = Storm::new(&etcd).await;
        let mut random = storm.random.fork();
        let copies: Vec<_> = (0..WATCHES)
            .map(|place| {
                let (range, state) = (range(place, &mut random), Arc::<Mutex<Copy>>::default());
                let copying = copy(storm.client.clone(), range.clone(), Arc::clone(&state));
                (range, state, tokio::spawn(copying))
            })
            .collect();
        storm.write();
        let (direct, stop) = (storm.direct.clone(), Arc::clone(&storm.stop));
        storm.writers.push(tokio::spawn(compact(direct, storm.random.fork(), stop)));
        for _ in 0..KILLS {
            storm.rage().await;
            // Away for longer than the history is kept.
            storm.proxy.refuse();
            storm.proxy.reset();
            let now = storm.direct.count("k").timeout(SOON).await.unwrap().header.revision;
            eventually(SOON, "the history moves on", async || {
                let later = storm.direct.count("k").await;
                later.is_ok_and(|later| later.header.revision.0 > now.0 + 100)
            })
            .await;
            storm.direct.compact(Revision(now.0 + 50)).await.unwrap();
            storm.proxy.pass();
            storm.kill_and_restart().await;
        }
        let last = storm.calm().await;
        eventually(SOON, "every copy has caught up", async || {
            copies.iter().all(|(range, state, task)| {
                let ends = (0..GROUPS).flat_map(|group| (0..KEYS).map(move |n| key(group, n)));
                let mut ends = ends.filter(|key| range.contains(key.as_bytes()));
                let keys = &state.lock().unwrap().keys;
                task.is_finished()
                    || ends.all(|key| keys.get(key.as_bytes()).is_some_and(|kv| kv.value == "end"))
            })
        })
        .await;
        let truth = storm.direct.get(KeyRange::all()).revision(last).await.unwrap().kvs;
        let mut lists = 0;
        for (range, state, task) in copies {
            assert!(!task.is_finished(), "{:?}", task.await);
            task.abort();
            let copy = state.lock().unwrap();
            let there = truth.iter().filter(|kv| range.contains(&kv.key));
            assert!(copy.keys.values().eq(there), "the copy of {range:?} differs from the truth");
            lists += copy.lists;
        }
        assert!(lists > KILLS * WATCHES, "hardly a watch was too late for a compaction");
        let one = async || storm.metric(STREAMS).await == 1.0;
        eventually(SOON, "all of them are on one stream", one).await;
        println!("{last} revisions, {lists} lists by {WATCHES} copies");
    })
    .await;
}
