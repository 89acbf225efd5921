//! Random sequences of requests are answered by servers as by a naive model of etcd.
//!
//! `PROPTEST_CASES` says how many sequences per server, `PROPTEST_RNG_SEED` which.

#[path = "model/draft.rs"]
mod draft;
#[path = "model/generate.rs"]
mod generate;
#[path = "model/generate_txn.rs"]
mod generate_txn;
#[path = "model/landmarks.rs"]
mod landmarks;
#[path = "model/leases.rs"]
mod leases;
#[path = "model/naive.rs"]
mod naive;
#[path = "support/raw.rs"]
mod raw;
#[path = "model/run.rs"]
mod run;
#[path = "model/servers.rs"]
mod servers;
#[path = "model/shrink.rs"]
mod shrink;
#[path = "model/txn.rs"]
mod txn;
#[path = "model/watches.rs"]
mod watches;
#[path = "model/watching.rs"]
mod watching;
#[path = "model/wire.rs"]
mod wire;

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use generate::Sequence;
use proptest::{
    prop_assert_eq,
    test_runner::{Config, RngSeed, TestCaseError, TestCaseResult, TestError, TestRunner},
};
use run::run;
use servers::{Kind, Limits};
use tenure_testkit::find_servers;
use tokio::runtime::Runtime;

#[test]
fn etcd_answers_as_the_model_does() {
    for etcd in find_servers().unwrap() {
        println!("on {etcd}:");
        answers_as_the_model_does(&Kind::Etcd(etcd), 40);
    }
}

#[test]
fn the_embedded_server_answers_as_the_model_does() {
    answers_as_the_model_does(&Kind::Embedded, 200);
}

fn answers_as_the_model_does(kind: &Kind, cases: u32) {
    let runtime = Runtime::new().unwrap();
    on_sequences(cases, |sequence| {
        let answered = runtime.block_on(run(kind, kind.limits(), &sequence));
        answered.map(drop).map_err(TestCaseError::fail)
    });
}

/// What no answer shows is equal too: the order within a revision, and what compaction leaves.
#[test]
fn servers_that_answer_the_same_have_the_same_hash() {
    let etcds = find_servers().unwrap().into_iter().map(Kind::Etcd);
    let kinds: Vec<Kind> = std::iter::once(Kind::Embedded).chain(etcds).collect();
    let limits = kinds.iter().map(Kind::limits).fold(Limits::NONE, Limits::and);
    let runtime = Runtime::new().unwrap();
    on_sequences(10, |sequence| {
        let mut hashes = kinds.iter().map(|kind| runtime.block_on(run(kind, limits, &sequence)));
        let first = hashes.next().expect("there is a server").map_err(TestCaseError::fail)?;
        for (kind, hash) in kinds[1..].iter().zip(hashes) {
            let hash = hash.map_err(TestCaseError::fail)?;
            prop_assert_eq!(&hash, &first, "{:?}, {:?}: {:#?}", kind, kinds[0], sequence);
        }
        Ok(())
    });
}

/// As many sequences as it says, unless the environment does.
fn on_sequences(cases: u32, test: impl Fn(Sequence) -> TestCaseResult) {
    let mut config = Config {
        failure_persistence: None,
        max_shrink_iters: 2000,
        max_shrink_time: 120_000,
        ..Config::default()
    };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if config.rng_seed == RngSeed::Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        config.rng_seed = RngSeed::Fixed(now.as_nanos() as u64);
    }
    let seed = config.rng_seed;
    println!("PROPTEST_CASES={} PROPTEST_RNG_SEED={seed}", config.cases);
    match TestRunner::new(config).run(&generate::sequence(), test) {
        Ok(()) => {}
        Err(TestError::Fail(why, _)) => panic!("{why}\nPROPTEST_RNG_SEED={seed}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}
