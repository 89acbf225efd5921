//! What tests of elections do, beside what they test. It wants `support/start.rs` as `start`.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::future::IntoFuture;

use futures::{Stream, StreamExt};
use tenure::{Election, Leader, Leadership, Result};
use tenure_testkit::eventually;
use tokio::{task::JoinHandle, time::timeout};

use crate::start::SOON;

/// Wins at once.
pub(crate) async fn win(election: &Election, value: &'static str) -> Leadership {
    timeout(SOON, election.campaign(value)).await.expect("it is our turn").unwrap()
}

/// A candidate in the background.
pub(crate) type Standing = JoinHandle<Result<Leadership>>;

/// Stands in the background, and returns once the key is among the candidates.
pub(crate) async fn stand(election: &Election, value: &'static str) -> Standing {
    let before = election.candidates().await.unwrap().len();
    let standing = tokio::spawn(election.campaign(value).into_future());
    candidates_are(election, before + 1).await;
    standing
}

/// What a candidate in the background won.
pub(crate) async fn elected(standing: Standing) -> Leadership {
    timeout(SOON, standing).await.expect("it is its turn").unwrap().unwrap()
}

pub(crate) async fn candidates_are(election: &Election, count: usize) {
    let what = format!("{count} stand");
    eventually(SOON, &what, async || election.candidates().await.unwrap().len() == count).await;
}

/// What the leader says of itself, if there is one.
pub(crate) async fn leader_says(election: &Election) -> Option<String> {
    election.leader().await.unwrap().as_ref().map(says)
}

pub(crate) fn says(leader: &Leader) -> String {
    String::from_utf8(leader.value.to_vec()).unwrap()
}

/// What an observer is told next: nobody, or what the leader says.
pub(crate) async fn sees(
    leaders: &mut (impl Stream<Item = Result<Option<Leader>>> + Unpin),
) -> Option<String> {
    let next = timeout(SOON, leaders.next()).await.expect("it is told");
    next.expect("it goes on").unwrap().as_ref().map(says)
}
