//! Recipes under faults: for each, processes use it while members of the cluster and they
//! themselves are killed, frozen and cut off, and in the end all that was done and believed is
//! right.
//!
//! `TENURE_CAMPAIGN_SECS` is how long it lasts for each recipe, 10 by default;
//! `TENURE_CAMPAIGN_SEED` repeats its faults, though not what comes of them. `TENURE_CAMPAIGN_KEEP`
//! writes down all that was said, as a failure does.
//!
//! This binary has a `main` of its own, because it is each of the processes, too. The judges' own
//! cases come first.

#[path = "campaign/asking.rs"]
mod asking;
#[path = "campaign/counting.rs"]
mod counting;
#[path = "campaign/crew.rs"]
mod crew;
#[path = "campaign/faults.rs"]
mod faults;
#[path = "campaign/hold.rs"]
mod hold;
#[path = "campaign/journal.rs"]
mod journal;
#[path = "campaign/judges/mod.rs"]
mod judges;
#[path = "campaign/libtest.rs"]
mod libtest;
#[path = "campaign/random.rs"]
mod random;
#[path = "campaign/recipe.rs"]
mod recipe;
#[path = "campaign/recipes/mod.rs"]
mod recipes;
#[path = "campaign/run.rs"]
mod run;
#[path = "campaign/worker.rs"]
mod worker;

use std::{env, process::ExitCode};

use futures::future::LocalBoxFuture;
use tenure_testkit::{EtcdBinary, on_each_etcd};

use self::{
    journal::{ORDERS, Orders},
    libtest::Asked,
    recipe::Recipe,
};

/// The campaign of a recipe, and the work of its processes.
#[derive(Clone, Copy)]
struct Campaign {
    test: &'static str,
    run: fn(EtcdBinary) -> LocalBoxFuture<'static, ()>,
    work: fn(Orders) -> ExitCode,
}

impl Campaign {
    const fn of<R: Recipe>() -> Self {
        Self {
            test: R::TEST,
            run: |etcd| Box::pin(run::campaign::<R>(etcd)),
            work: worker::run::<R>,
        }
    }
}

const CAMPAIGNS: &[Campaign] = &[
    Campaign::of::<recipes::CountsUnderAMutex>(),
    Campaign::of::<recipes::LeadersCount>(),
    Campaign::of::<recipes::CountsUnderAnRwLock>(),
    Campaign::of::<recipes::SharesPermits>(),
    Campaign::of::<recipes::MeetsAtABarrier>(),
    Campaign::of::<recipes::WorksOffAQueue>(),
    Campaign::of::<recipes::MovesMoney>(),
];

fn main() -> ExitCode {
    match env::var(ORDERS) {
        Ok(orders) => work(&orders),
        Err(_) => test(&Asked::by_arguments()),
    }
}

fn work(orders: &str) -> ExitCode {
    let orders: Orders = serde_json::from_str(orders).expect("the campaign wrote it");
    let campaign = CAMPAIGNS.iter().find(|campaign| campaign.test == orders.test);
    (campaign.expect("it is one of them").work)(orders)
}

/// One test after the other. A panic ends the program, and so fails the test.
fn test(asked: &Asked) -> ExitCode {
    let cases: Vec<_> = judges::all_cases().filter(|(name, _)| asked.wants(name)).collect();
    let campaigns: Vec<_> = CAMPAIGNS.iter().filter(|it| asked.wants(it.test)).collect();
    let names = cases.iter().map(|(name, _)| *name).chain(campaigns.iter().map(|it| it.test));
    if asked.list {
        asked.print_list(names);
        return ExitCode::SUCCESS;
    }
    let count = names.count();
    println!("\nrunning {count} test{}", if count == 1 { "" } else { "s" });
    for (name, case) in cases {
        case();
        println!("test {name} ... ok");
    }
    for Campaign { test, run, .. } in campaigns {
        println!("test {test} ...");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(on_each_etcd(run));
        println!("test {test} ... ok");
    }
    println!("\ntest result: ok. {count} passed; 0 failed\n");
    ExitCode::SUCCESS
}
