//! A storm of faults over a lock, in virtual time, on the embedded server.

use std::cell::RefCell;

use futures::future::join_all;
use tenure::{
    Client, ErrorKind, Fence, KeyRange, Mutex, MutexGuard, Order, Revision, Session, SortBy,
};
use tenure_testkit::{TestServer, eventually, virtual_time};
use tokio::time::{Instant, sleep};

#[path = "support/start.rs"]
mod start;
#[path = "support/weather.rs"]
mod weather;

use start::MINUTE;
use weather::{Chance, Link, Storm, seconds, something_goes_wrong};

/// What whoever got the lock wrote: the fences, and when they were written.
async fn written(client: &Client) -> Vec<(Fence, Revision)> {
    let read = client.get(KeyRange::prefix("log/")).sort(SortBy::ModRevision, Order::Ascending);
    let read = read.await.unwrap().kvs;
    let fence = |value: &[u8]| std::str::from_utf8(value).unwrap().parse().unwrap();
    read.iter().map(|kv| (fence(&kv.value), kv.mod_revision)).collect()
}

async fn weather(server: &TestServer, storm: Storm, seed: u64) {
    let end = Instant::now() + 3 * MINUTE;
    let (mut contenders, mut links) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        links.push(Link::to(server.embedded().unwrap()));
        let client = server.connect().connector(links[links.len() - 1].clone());
        let client = client.connect().await.unwrap();
        let session = Session::builder().ttl(seconds(10)).reenter().open(&client).await.unwrap();
        contenders.extend([Mutex::new(&session, "jobs"), Mutex::new(&session, "jobs")]);
    }
    let guards: RefCell<Vec<Option<MutexGuard>>> = RefCell::default();
    guards.borrow_mut().resize_with(contenders.len(), || None);
    let held = |place: usize| guards.borrow()[place].as_ref().is_some_and(|guard| guard.is_held());
    let contend = async |place: usize| {
        let mut chance = Chance(seed ^ (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut confirmed = 0;
        while Instant::now() < end {
            let patience = seconds(1) + chance.millis(30_000);
            match contenders[place].acquire().timeout(patience).await {
                Ok(guard) => drop(guards.borrow_mut()[place].insert(guard)),
                Err(error) => {
                    let expected = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Lost);
                    assert!(expected, "{error}");
                    continue;
                }
            }
            let believe = (0..contenders.len()).filter(|place| held(*place)).count();
            assert!(believe <= 1 || storm != Storm::OfFaults, "{believe} hold it");
            for write in 0..3 {
                sleep(chance.millis(700)).await;
                let put = guards.borrow()[place].as_ref().map(|guard| {
                    let key = format!("log/{place}/{}/{write}", guard.fence().create_revision);
                    guard.kv().put(key, guard.fence().to_string()).into_future()
                });
                match put.expect("nobody else takes it").await {
                    Ok(_) => confirmed += 1,
                    Err(error) if error.kind() == ErrorKind::Lost => break,
                    // It may come through, or not.
                    Err(error) => {
                        assert!(error.is_retryable() || error.may_have_been_applied(), "{error}")
                    }
                }
            }
            let guard = guards.borrow_mut()[place].take().expect("nobody else takes it");
            match chance.below(3) {
                0 => drop(guard),
                // That of a session that was lost meanwhile is given up with it.
                _ => drop(guard.release().await),
            }
        }
        confirmed
    };
    let hurt = async {
        let mut chance = Chance(seed ^ 0x2545_f491_4f6c_dd1d);
        while Instant::now() < end {
            sleep(chance.millis(2_000)).await;
            something_goes_wrong(server.embedded().unwrap(), &links, storm, &mut chance).await;
        }
    };
    let (confirmed, ()) = futures::join!(join_all((0..contenders.len()).map(contend)), hurt);

    let client = server.client().await.unwrap();
    let confirmed: usize = confirmed.iter().sum();
    let written = written(&client).await;
    println!("TENURE_SEED={seed}, {storm:?}: {} written, {confirmed} known to be", written.len());
    assert!(confirmed <= written.len() && confirmed > 20, "{confirmed} of {}", written.len());
    let in_order = written.windows(2).all(|pair| pair[0].0 <= pair[1].0);
    assert!(in_order, "who held it before writes after who held it later: {written:#?}");
    eventually(MINUTE, "nothing is left behind", async || {
        client.count(KeyRange::prefix("tenure/mutex/")).await.unwrap().count == 0
    })
    .await;
}

#[test]
fn in_a_storm_of_faults_one_holds_it_at_a_time_and_nobody_writes_after_the_next() {
    let seeds = std::env::var("TENURE_SEED").map(|seed| seed.parse().unwrap());
    for seed in seeds.map_or(1..4, |seed| seed..seed + 1) {
        for storm in [Storm::OfFaults, Storm::OfFaultsAndRevocations] {
            println!("TENURE_SEED={seed}, {storm:?}");
            virtual_time(async |server| weather(&server, storm, seed).await);
        }
    }
}
