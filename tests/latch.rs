//! Latches: what is counted, once each, and who passes when all is.

use std::{future::IntoFuture, time::Duration};

use futures::{StreamExt, future::join_all};
use tenure::{
    Client, CountDownLatch, ErrorKind, KeyRange, LossReason,
    actor::{AwaitLatch, CountDownBy, LatchActor},
};
use tenure_testkit::{
    Call, Fault, TestServer, eventually, on_each_etcd, on_each_server, virtual_time,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{ended, open_for, seconds};
use start::{MINUTE, SOON, cluster, start};

type Waiting = JoinHandle<tenure::Result<()>>;

/// Waits in the background, and returns once it has looked whether it must.
async fn waits(server: &TestServer, latch: &CountDownLatch) -> Waiting {
    let before = server.calls(Call::Range).await;
    let waiting = tokio::spawn(latch.wait().into_future());
    eventually(SOON, "somebody waits", async || server.calls(Call::Range).await > before).await;
    waiting
}

async fn keys(client: &Client) -> Vec<String> {
    let all = client.get(KeyRange::prefix("tenure/latch/")).await.unwrap().kvs;
    all.into_iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn it_opens_at_zero_for_all_who_wait_and_for_all_who_come_later() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let latch = CountDownLatch::new(&client, "loaded");
        let other = CountDownLatch::new(&server.client().await.unwrap(), "loaded");
        assert_eq!(latch.count().await.unwrap(), 0);
        // Who comes before it is set waits, too.
        let mut waiting = vec![waits(&server, &other).await];
        assert!(latch.try_set_count(3).await.unwrap());
        waiting.push(waits(&server, &latch).await);
        waiting.push(waits(&server, &other).await);
        for missing in [2, 1] {
            assert_eq!(other.count_down().await.unwrap(), missing);
            assert_eq!(latch.count().await.unwrap(), missing);
            assert!(!latch.try_set_count(5).await.unwrap(), "it is under way");
            assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        }
        assert_eq!(latch.count_down().await.unwrap(), 0);
        for waiting in waiting {
            ended(waiting).await.unwrap();
        }
        latch.wait().timeout(SOON).await.unwrap();
        other.wait().timeout(SOON).await.unwrap();
        assert_eq!(other.count_down().await.unwrap(), 0, "less than nothing is nothing");
    })
    .await;
}

#[tokio::test]
async fn of_many_who_count_at_once_each_counts_once_on_whatever_member() {
    let count = async |latches: Vec<CountDownLatch>| {
        let each = 5;
        assert!(latches[0].try_set_count((each * latches.len()) as u64).await.unwrap());
        let counts = latches.iter().flat_map(|latch| (0..each).map(|_| latch.count_down()));
        let mut missing: Vec<_> = join_all(counts.map(IntoFuture::into_future))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        missing.sort_unstable();
        let all: Vec<_> = (0..(each * latches.len()) as u64).collect();
        assert_eq!(missing, all);
        latches[0].wait().timeout(SOON).await.unwrap();
    };
    on_each_server(async |server| {
        let (server, _) = start(&server).await;
        let mut latches = Vec::new();
        for _ in 0..3 {
            latches.push(CountDownLatch::new(&server.client().await.unwrap(), "loaded"));
        }
        count(latches).await;
    })
    .await;
    on_each_etcd(async |etcd| {
        let (cluster, _) = cluster(&etcd, 3).await;
        let mut latches = Vec::new();
        for member in cluster.members() {
            let client = Client::connect([member.endpoint()]).await.unwrap();
            latches.push(CountDownLatch::new(&client, "loaded"));
        }
        count(latches).await;
    })
    .await;
}

#[tokio::test]
async fn one_arrival_counts_once_however_often_it_is_said() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let latch = CountDownLatch::new(&client, "loaded");
        for _ in 0..3 {
            assert!(latch.try_set_count(2).await.unwrap());
            for _ in 0..3 {
                assert_eq!(latch.count_down().arrival("a/b").await.unwrap(), 1);
            }
            assert_eq!(latch.count_down().arrival("c").await.unwrap(), 0);
            assert_eq!(latch.count_down().arrival("c").await.unwrap(), 0);
            // Set again, it is shut, and all may arrive anew.
        }
        assert!(latch.try_set_count(1).await.unwrap());
        let late = latch.wait().timeout(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
        assert_eq!(keys(&client).await, ["tenure/latch/loaded/count", "tenure/latch/loaded/set"]);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_latch_leaves_nothing_and_whoever_waits_is_told() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let latch = CountDownLatch::at(&client, "tenure/latch/raw");
        assert!(!latch.delete().await.unwrap());
        for open in [false, true] {
            assert!(latch.try_set_count(2).await.unwrap());
            latch.count_down().await.unwrap();
            let waiting = waits(&server, &latch).await;
            if open {
                latch.count_down().await.unwrap();
                ended(waiting).await.unwrap();
                assert!(latch.delete().await.unwrap());
            } else {
                assert!(latch.delete().await.unwrap());
                let lost = ended(waiting).await.unwrap_err();
                assert_eq!(lost.loss_reason(), Some(LossReason::KeyDeleted), "{lost}");
            }
            assert!(keys(&client).await.is_empty());
            assert!(!latch.delete().await.unwrap());
            assert_eq!(latch.count().await.unwrap(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn waiting_ends_with_the_timeout_or_the_session() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let latch = CountDownLatch::new(&client, "loaded");
        let short = Duration::from_millis(20);
        assert_eq!(latch.wait().timeout(short).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(latch.try_set_count(1).await.unwrap());
        assert_eq!(latch.wait().timeout(short).await.unwrap_err().kind(), ErrorKind::Timeout);
        // It hears of its end at the next renewal.
        let doomed = open_for(&server.client().await.unwrap(), seconds(3)).await;
        let waiting = tokio::spawn(latch.wait().session(&doomed).into_future());
        client.lease_revoke(doomed.lease()).await.unwrap();
        assert_eq!(ended(waiting).await.unwrap_err().loss_reason(), Some(LossReason::Revoked));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    on_each_server(async |server| {
        let (server, client) = start(&server).await;
        let good = CountDownLatch::new(&client, "loaded");
        let before = server.kv_calls().await;
        let mut errors = vec![
            good.try_set_count(0).await.unwrap_err(),
            good.count_down().arrival("").await.unwrap_err(),
            good.count_down().arrival("a\0").await.unwrap_err(),
        ];
        for bad in [
            CountDownLatch::new(&client, ""),
            CountDownLatch::new(&client, "\0"),
            CountDownLatch::at(&client, ""),
        ] {
            errors.extend([
                bad.try_set_count(1).await.unwrap_err(),
                bad.count_down().await.unwrap_err(),
                bad.count().await.unwrap_err(),
                bad.wait().await.unwrap_err(),
                bad.delete().await.unwrap_err(),
            ]);
        }
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::InvalidInput), "{errors:?}");
        assert_eq!(server.kv_calls().await, before);
        // And what is there must be a number.
        assert!(good.try_set_count(1).await.unwrap());
        client.put("tenure/latch/loaded/count", "many").await.unwrap();
        assert_eq!(good.count().await.unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(good.count_down().await.unwrap_err().kind(), ErrorKind::Protocol);
    })
    .await;
}

#[tokio::test]
async fn counting_wakes_nobody_who_waits() {
    on_each_server(async |server| {
        let (_server, client) = start(&server).await;
        let latch = CountDownLatch::new(&client, "loaded");
        assert!(latch.try_set_count(5).await.unwrap());
        // What whoever waits is told of.
        let prefix = "tenure/latch/loaded/";
        let mut told = client
            .watch(KeyRange::span(format!("{prefix}open"), format!("{prefix}~")))
            .await
            .unwrap();
        for _ in 0..5 {
            latch.count_down().await.unwrap();
        }
        let told = timeout(SOON, told.next()).await.expect("it is told").unwrap().unwrap();
        assert_eq!(told.events().len(), 1);
        assert_eq!(told.events()[0].kv.key, format!("{prefix}open"));
    })
    .await;
}

#[test]
fn what_is_lost_on_the_way_counts_once() {
    for fault in [Fault::lose_answer(), Fault::silence(), Fault::lose_request(), Fault::ignore()] {
        for times in 1..=3 {
            let fault = fault.clone().on(Call::Txn).times(times);
            virtual_time(async |server| {
                let embedded = server.embedded().unwrap();
                let client = server.client().await.unwrap();
                let latch = CountDownLatch::new(&client, "loaded");
                // Made anew, and set again.
                for _ in 0..2 {
                    let lost = embedded.inject(fault.clone());
                    assert!(latch.try_set_count(2).await.unwrap());
                    assert!(lost.is_spent());
                    assert_eq!(latch.count().await.unwrap(), 2);
                    for missing in [1, 0] {
                        let lost = embedded.inject(fault.clone());
                        assert_eq!(latch.count_down().await.unwrap(), missing);
                        assert!(lost.is_spent());
                        assert_eq!(latch.count().await.unwrap(), missing);
                    }
                    latch.wait().await.unwrap();
                }
                let lost = embedded.inject(fault);
                assert!(latch.delete().await.unwrap());
                assert!(lost.is_spent());
                assert!(keys(&client).await.is_empty());
            });
        }
    }
}

#[test]
fn a_copy_that_comes_late_makes_no_latch_and_counts_for_no_later_one() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let client = server.client().await.unwrap();
        let latch = CountDownLatch::new(&client, "loaded");
        // A copy that is carried out when the latch is deleted again.
        let late = embedded.inject(Fault::delay(seconds(5)).on(Call::Txn).times(1));
        assert!(latch.try_set_count(1).await.unwrap());
        assert!(late.is_spent() && latch.delete().await.unwrap());
        sleep(MINUTE).await;
        assert!(keys(&client).await.is_empty());
        assert!(latch.try_set_count(3).await.unwrap());
        let late = embedded.inject(Fault::delay(seconds(5)).on(Call::Txn).times(1));
        // The read is a transaction, too: it is late, and asked for again.
        assert_eq!(latch.count_down().await.unwrap(), 2);
        assert!(late.is_spent());
        sleep(MINUTE).await;
        assert_eq!(latch.count().await.unwrap(), 2);
        assert!(client.leases().await.unwrap().leases.is_empty());
    });
}

#[test]
fn a_long_wait_outlives_compactions_even_of_the_opening() {
    virtual_time(async |server| {
        let embedded = server.embedded().unwrap();
        let client = server.client().await.unwrap();
        let latch = CountDownLatch::new(&client, "loaded");
        for set_again in [false, true] {
            assert!(latch.try_set_count(1).await.unwrap());
            let waiting = waits(&server, &latch).await;
            sleep(MINUTE).await;
            embedded.silence_streams(true);
            latch.count_down().await.unwrap();
            if set_again {
                // It was open for a moment.
                assert!(latch.try_set_count(1).await.unwrap());
            }
            client.put("k", "v").await.unwrap();
            embedded.compact(embedded.revision()).unwrap();
            embedded.cut_streams();
            embedded.silence_streams(false);
            ended(waiting).await.unwrap();
        }
    });
}

#[test]
fn a_latch_is_counted_down_and_awaited_by_messages() {
    use actix::Actor;
    actix::System::new().block_on(on_each_server(async |server| {
        let (server, _) = start(&server).await;
        let client = server.connect().current_arbiter().connect().await.unwrap();
        let latch = CountDownLatch::new(&client, "loaded");
        assert!(latch.try_set_count(2).await.unwrap());
        let actor = LatchActor::new(latch).start();
        let short = AwaitLatch::new().timeout(Duration::from_millis(20));
        assert_eq!(actor.send(short).await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        let waiting = actix::spawn(actor.send(AwaitLatch::new()));
        for _ in 0..2 {
            assert_eq!(actor.send(CountDownBy::arrival("a")).await.unwrap().unwrap(), 1);
        }
        assert_eq!(actor.send(CountDownBy::one()).await.unwrap().unwrap(), 0);
        ended(waiting).await.unwrap().unwrap();
    }));
}
