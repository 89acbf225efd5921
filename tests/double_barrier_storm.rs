//! A storm of faults over a double barrier, in virtual time, on the embedded server: who was in,
//! and who left, is held against what the store has seen.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use tenure::{
    DoubleBarrier, ErrorKind, Event, EventKind, KeyRange, KeyValue, Release, Revision, Session,
};
use tenure_testkit::{Call, Embedded, Fault, TestServer, eventually, virtual_time};
use tokio::time::sleep;

#[path = "support/start.rs"]
mod start;

use start::MINUTE;

const PARTIES: usize = 3;
/// More than there is room for.
const WORKERS: u64 = 5;
const BASE: &str = "tenure/double-barrier/round/";

/// What a storm has of chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

/// What happened in a storm.
#[derive(Default)]
struct Told {
    /// All changes, in order.
    events: RefCell<Vec<Event>>,
    seen: Cell<Revision>,
    /// The keys of those who got in, by when they were created.
    entered: RefCell<Vec<Revision>>,
    /// Who was told that all have left, and at what revision at the latest.
    left: RefCell<Vec<(Revision, Revision)>>,
    over: Cell<bool>,
}

/// One thing that goes wrong for a while.
async fn something_goes_wrong(server: &Embedded, told: &Told, chance: &mut Chance) {
    let calls = [Call::Txn, Call::Txn, Call::Range, Call::Watch];
    let call = calls[chance.below(4) as usize];
    let times = 1 + chance.below(3) as usize;
    let fault = match chance.below(10) {
        0 => Fault::lose_answer(),
        1 => Fault::lose_request(),
        2 => Fault::silence(),
        3 => Fault::ignore(),
        4 | 5 => Fault::delay(chance.millis(4_000)),
        6 => return server.cut_connections(),
        7 => return server.cut_streams(),
        8 => {
            server.silence_streams(true);
            sleep(chance.millis(3_000)).await;
            return server.silence_streams(false);
        }
        _ => {
            // What the witness has seen; of the others some have not.
            let _ = server.compact(told.seen.get());
            return server.cut_streams();
        }
    };
    let fault = server.inject(fault.on(call).times(times));
    sleep(chance.millis(4_000)).await;
    drop(fault);
}

/// Meets the others again and again, and dies now and then.
async fn worker(server: &TestServer, told: &Told, mut chance: Chance) {
    let embedded = server.embedded().unwrap();
    while !told.over.get() {
        let client = server.client().await.unwrap();
        let Ok(session) = Session::builder().ttl(MINUTE).open(&client).await else { continue };
        let barrier = DoubleBarrier::new(&session, "round", PARTIES);
        for _ in 0..1 + chance.below(10) {
            let patience = Duration::from_secs(1) + chance.millis(30_000);
            let member = match barrier.enter().timeout(patience).await {
                Ok(member) => member,
                Err(error) => {
                    let expected = [ErrorKind::Full, ErrorKind::Timeout, ErrorKind::Lost];
                    assert!(expected.contains(&error.kind()), "{error:?}");
                    sleep(chance.millis(2_000)).await;
                    continue;
                }
            };
            let created = member.fence().create_revision;
            told.entered.borrow_mut().push(created);
            sleep(chance.millis(3_000)).await;
            match chance.below(8) {
                0 => assert!(embedded.expire_lease(session.lease()) || !session.is_held()),
                1 => drop(member),
                _ => match member.leave().timeout(patience).await {
                    Ok(Release::Released) => {
                        told.left.borrow_mut().push((created, embedded.revision()));
                    }
                    Ok(Release::AlreadyLost(_)) => {}
                    Err(error) => {
                        let expected = [ErrorKind::Timeout, ErrorKind::Lost];
                        assert!(expected.contains(&error.kind()), "{error:?}");
                    }
                },
            }
        }
        if chance.below(2) == 0 {
            // What fails here is left to the TTL.
            let _ = session.close().await;
        }
    }
}

fn is_member(kv: &KeyValue) -> bool {
    kv.key.starts_with(format!("{BASE}waiters/").as_bytes())
}

/// Holds what was told against what the store has seen: the number of rounds.
fn check(told: &Told) -> usize {
    let ready: Bytes = format!("{BASE}ready").into();
    let mut there: BTreeMap<Bytes, Revision> = BTreeMap::new();
    // Of each round, by its last member, who was in it.
    let mut rounds: BTreeMap<Revision, Vec<Revision>> = BTreeMap::new();
    let mut gone: BTreeMap<Revision, Revision> = BTreeMap::new();
    for event in told.events.borrow().iter() {
        let kv = &event.kv;
        match event.kind {
            EventKind::Put if kv.key == ready => {
                let last: i64 = std::str::from_utf8(&kv.value).unwrap().parse().unwrap();
                let last = Revision(last);
                let all = there.values().copied().filter(|created| *created <= last).collect();
                rounds.entry(last).or_insert(all);
            }
            EventKind::Put if is_member(kv) => {
                there.insert(kv.key.clone(), kv.create_revision);
            }
            EventKind::Put => {}
            EventKind::Delete => {
                if let Some(created) = there.remove(&kv.key) {
                    gone.insert(created, kv.mod_revision);
                }
            }
        }
    }
    assert!(rounds.values().all(|all| all.len() == PARTIES), "{rounds:?}");
    let round_of = |created: Revision| {
        let round = rounds.values().find(|all| all.contains(&created));
        round.unwrap_or_else(|| panic!("{created} was in, and in no round"))
    };
    for created in told.entered.borrow().iter() {
        round_of(*created);
    }
    for (created, until) in told.left.borrow().iter() {
        for other in round_of(*created) {
            let left = gone.get(other).is_some_and(|gone| gone <= until);
            assert!(left, "{created} left before {other} did");
        }
    }
    rounds.len()
}

#[test]
fn whatever_goes_wrong_nobody_is_in_without_all_and_nobody_out_before_all() {
    let seeds = std::env::var("TENURE_SEED").map(|seed| seed.parse().unwrap());
    for seed in seeds.map_or(1..4, |seed| seed..seed + 1) {
        println!("TENURE_SEED={seed}");
        virtual_time(async |server| {
            let embedded = server.embedded().unwrap();
            let told = Told::default();
            let mut chance = Chance(seed ^ 0x2545_f491_4f6c_dd1d);
            let client = server.client().await.unwrap();
            let mut witness = client.watch(KeyRange::prefix(BASE)).await.unwrap();
            let workers = (0..WORKERS).map(|number| {
                worker(
                    &server,
                    &told,
                    Chance(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                )
            });
            let weather = async {
                for _ in 0..100 {
                    something_goes_wrong(embedded, &told, &mut chance).await;
                    sleep(chance.millis(2_000)).await;
                }
                told.over.set(true);
            };
            let watching = async {
                loop {
                    let events = witness.next().await.unwrap().unwrap().into_events();
                    if let Some(last) = events.last() {
                        told.seen.set(last.kv.mod_revision);
                    }
                    told.events.borrow_mut().extend(events);
                }
            };
            let all = async { tokio::join!(join_all(workers), weather) };
            tokio::select! {
                _ = all => {}
                () = watching => {}
            }
            let keys = KeyRange::prefix(BASE);
            eventually(3 * MINUTE, "nothing is left", async || {
                client.count(keys.clone()).await.unwrap().count == 0
            })
            .await;
            while let Ok(Some(more)) =
                tokio::time::timeout(Duration::from_secs(10), witness.next()).await
            {
                told.events.borrow_mut().extend(more.unwrap().into_events());
            }
            let rounds = check(&told);
            let (entered, left) = (told.entered.borrow().len(), told.left.borrow().len());
            println!("{rounds} rounds, {entered} got in, {left} left with all the others");
            assert!(rounds > 10 && entered > 2 * rounds && left > rounds);
        });
    }
}
