//! The deadline of a guard, on clocks that jump or run unevenly.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::StreamExt;
use tenure::{ClaimState, Client, Clock, LossReason, Moment, Mutex};
use tenure_testkit::{Direction, Proxy, eventually, on_each_listener, on_each_server};
use tokio::time::timeout;

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{acquire, open, open_for, seconds};
use start::{SOON, start};

/// A machine that sleeps: its clock, that counts suspend, jumps; timers, that do not, stand still
/// meanwhile and go on after it as if nothing had been.
#[tokio::test]
async fn a_guard_is_lost_at_once_when_the_machine_wakes_from_a_long_sleep() {
    on_each_server(async |server| {
        let (server, _) = start(&server).await;
        let asleep = Arc::new(AtomicU64::new(0));
        let (slept, awake) = (Arc::clone(&asleep), Clock::boot());
        let clock = Clock::from_fn(move || awake.now() + seconds(slept.load(Ordering::SeqCst)));
        let client = server.connect().clock(clock).connect().await.unwrap();
        let guard = acquire(&Mutex::new(&open(&client).await, "m")).await;
        assert!(guard.is_held());

        asleep.store(59, Ordering::SeqCst);
        assert!(!guard.is_held(), "whoever looks first sees it, before any timer fires");
        let refused = guard.kv().put("k", "v").await.unwrap_err();
        assert_eq!(refused.loss_reason(), Some(LossReason::Expired));
        // No renewal is due for 20 s by the timers' own clock.
        let lost = timeout(seconds(2), guard.lost()).await;
        assert_eq!(lost.expect("a wake-up comes each second"), LossReason::Expired);
        assert!(client.get("k").await.unwrap().kv().is_none());
    })
    .await;
}

/// The client's clock at so many parts in a thousand of the true speed.
fn skewed(per_mille: u64) -> Clock {
    let true_clock = Clock::boot();
    let origin = true_clock.now();
    Clock::from_fn(move || {
        let elapsed = true_clock.now().since(origin);
        Moment::default() + elapsed * u32::try_from(per_mille).unwrap() / 1000
    })
}

#[tokio::test]
async fn a_guard_ends_before_its_key_on_a_clock_that_is_off_and_a_network_that_is_slow() {
    on_each_listener(async |server| {
        let (server, direct) = start(&server).await;
        // 1 % of 6 s is well above what the test's own reading of events may add.
        let ttl = seconds(6);
        let runs = [(990, 0), (1010, 0), (990, 3), (1010, 3)];
        let runs = runs.map(|(per_mille, third)| {
            let (server, direct) = (&server, direct.clone());
            async move {
                let proxy = Proxy::start(&server.endpoint()).await.unwrap();
                let client = Client::builder([proxy.endpoint()]).clock(skewed(per_mille));
                let client = client.connect().await.unwrap();
                let session = open_for(&client, ttl).await;
                let guard = acquire(&Mutex::new(&session, format!("m{per_mille}{third}"))).await;
                let mut deletions = direct.watch(guard.key()).without_puts().await.unwrap();
                if third > 0 {
                    // Answers take longer than a renewal may be silent.
                    proxy.delay(ttl / third);
                    let mut states = guard.states();
                    let endangered = async {
                        while let Some(state) = states.next().await {
                            if matches!(state, ClaimState::Jeopardy { .. }) {
                                return;
                            }
                        }
                    };
                    timeout(SOON, endangered).await.expect("renewals are overdue");
                } else {
                    // Over some renewals.
                    for _ in 0..2 {
                        let before = guard.deadline();
                        eventually(SOON, "renewed", async || guard.deadline() > before).await;
                    }
                }
                proxy.blackhole(Direction::Both);
                let gone = async { deletions.next().await.unwrap().unwrap() };
                tokio::select! {
                    biased;
                    reason = guard.lost() => assert_eq!(reason, LossReason::Expired),
                    _ = gone => panic!("the key was gone before the guard knew"),
                    () = tokio::time::sleep(SOON) => panic!("nothing ended"),
                }
                assert!(!guard.is_held());
            }
        });
        futures::future::join_all(runs).await;
    })
    .await;
}
