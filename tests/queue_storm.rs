//! A storm of faults over a queue, in virtual time, on the embedded server.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use bytes::Bytes;
use futures::future::join_all;
use tenure::{Delivery, ErrorKind, Fence, Queue, Session};
use tenure_testkit::{TestServer, virtual_time};
use tokio::time::{Instant, sleep};

#[path = "support/start.rs"]
mod start;
#[path = "support/weather.rs"]
mod weather;

use start::MINUTE;
use weather::{Chance, Link, Storm, seconds, something_goes_wrong};

/// What is known of all items.
#[derive(Default)]
struct Books {
    put: HashSet<Bytes>,
    /// Whether they were put, nobody can say.
    maybe_put: HashSet<Bytes>,
    acknowledged: HashSet<Bytes>,
    /// Whether they were acknowledged, nobody can say.
    maybe_acknowledged: HashSet<Bytes>,
    /// Who works on them, and the last who did.
    at_work: HashMap<Bytes, usize>,
    fences: HashMap<Bytes, Fence>,
}

struct Scene<'a> {
    books: RefCell<Books>,
    /// What each of the workers has in hand.
    hands: RefCell<Vec<Option<Delivery>>>,
    storm: Storm,
    queues: &'a [Queue],
    end: Instant,
    seed: u64,
}

impl Scene<'_> {
    fn chance(&self, place: usize) -> Chance {
        Chance(self.seed ^ (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    async fn produce(&self, place: usize) {
        let mut chance = self.chance(place + 100);
        let mut number = 0;
        while Instant::now() < self.end {
            sleep(chance.millis(3_000)).await;
            number += 1;
            let value = Bytes::from(format!("{place}/{number}"));
            match self.queues[place].enqueue(value.clone()).await {
                Ok(_) => self.books.borrow_mut().put.insert(value),
                Err(error) if error.kind() == ErrorKind::Lost => continue,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
                    self.books.borrow_mut().maybe_put.insert(value)
                }
            };
        }
    }

    /// Checks that nobody else has it, and that it was not done before.
    fn comes_to(&self, place: usize, delivery: Delivery) -> Bytes {
        let (value, fence) = (delivery.value().clone(), delivery.fence());
        let mut books = self.books.borrow_mut();
        assert!(!books.acknowledged.contains(&value), "{value:?} was done");
        let before = books.fences.insert(value.clone(), fence.clone());
        assert!(before.is_none_or(|before| before < fence), "{value:?}");
        let other = books.at_work.insert(value.clone(), place);
        let mut hands = self.hands.borrow_mut();
        let other = other.and_then(|other| hands[other].as_ref());
        let has_it = other.is_some_and(|other| other.value() == &value && other.is_held());
        assert!(!has_it || self.storm != Storm::OfFaults, "two have {value:?}");
        hands[place] = Some(delivery);
        value
    }

    async fn work(&self, place: usize) {
        let mut chance = self.chance(place);
        while Instant::now() < self.end {
            let patience = seconds(1) + chance.millis(30_000);
            let taken = self.queues[place].take_leased().timeout(patience).await;
            let value = match taken {
                Ok(delivery) => self.comes_to(place, delivery),
                Err(error) => {
                    let expected = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Lost);
                    assert!(expected, "{error}");
                    continue;
                }
            };
            sleep(chance.millis(3_000)).await;
            let Some(delivery) = self.hands.borrow_mut()[place].take() else { continue };
            match chance.below(5) {
                0 => drop(delivery),
                // That of a session that was lost meanwhile goes back with it.
                1 => drop(delivery.nack().await),
                _ => {
                    let done = delivery.ack().await;
                    let mut books = self.books.borrow_mut();
                    let news = match done {
                        Ok(()) => books.acknowledged.insert(value),
                        Err(_) => {
                            books.maybe_acknowledged.insert(value);
                            true
                        }
                    };
                    assert!(news, "it is done twice");
                }
            }
        }
    }
}

async fn weather(server: &TestServer, storm: Storm, seed: u64) {
    let end = Instant::now() + 2 * MINUTE;
    let (mut queues, mut links) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        links.push(Link::to(server.embedded().unwrap()));
        let client = server.connect().connector(links[links.len() - 1].clone());
        let client = client.connect().await.unwrap();
        let session = Session::builder().ttl(seconds(10)).reenter().open(&client).await.unwrap();
        queues.extend([Queue::new(&session, "jobs"), Queue::new(&session, "jobs")]);
    }
    let hands = RefCell::new((0..queues.len()).map(|_| None).collect());
    let books = RefCell::default();
    let scene = Scene { books, hands, storm, queues: &queues, end, seed };
    let hurt = async {
        let mut chance = scene.chance(1000);
        while Instant::now() < end {
            sleep(chance.millis(2_000)).await;
            something_goes_wrong(server.embedded().unwrap(), &links, storm, &mut chance).await;
        }
    };
    let produced = join_all((0..queues.len()).step_by(2).map(|place| scene.produce(place)));
    let worked = join_all((0..queues.len()).map(|place| scene.work(place)));
    futures::join!(produced, worked, hurt);

    let session = Session::open(&server.client().await.unwrap()).await.unwrap();
    let queue = Queue::new(&session, "jobs");
    while let Ok(delivery) = queue.take_leased().timeout(MINUTE).await {
        let value = scene.comes_to(0, delivery);
        let delivery = scene.hands.borrow_mut()[0].take().expect("it has just come");
        delivery.ack().await.unwrap();
        scene.books.borrow_mut().acknowledged.insert(value);
    }
    assert!(queue.items().await.unwrap().is_empty());
    let books = scene.books.borrow();
    let (put, done) = (books.put.len(), books.acknowledged.len());
    println!("TENURE_SEED={seed}, {storm:?}: {put} put, {done} done for sure");
    assert!(put > 20, "{put}");
    let known = |value: &Bytes| {
        books.acknowledged.contains(value) || books.maybe_acknowledged.contains(value)
    };
    let lost: Vec<_> = books.put.iter().filter(|value| !known(value)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let invented =
        |value: &&Bytes| !books.put.contains(*value) && !books.maybe_put.contains(*value);
    assert!(books.acknowledged.iter().find(invented).is_none());
}

#[test]
fn in_a_storm_of_faults_no_item_is_lost_or_with_two_workers_or_done_twice() {
    let seeds = std::env::var("TENURE_SEED").map(|seed| seed.parse().unwrap());
    for seed in seeds.map_or(1..4, |seed| seed..seed + 1) {
        for storm in [Storm::OfFaults, Storm::OfFaultsAndRevocations] {
            println!("TENURE_SEED={seed}, {storm:?}");
            virtual_time(async |server| weather(&server, storm, seed).await);
        }
    }
}
