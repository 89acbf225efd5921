//! Sees who leads, through each member.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use tenure::{Client, Leader};
use tenure_testkit::Cluster;
use tokio::task::JoinSet;

use super::ELECTION;
use crate::{
    journal::{Name, now},
    judges::election::Sight,
};

#[derive(Default)]
struct Seen {
    sights: Vec<Sight>,
    /// How often nobody led.
    nobody: usize,
    complaints: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Observer {
    seen: Arc<Mutex<Seen>>,
    _watching: JoinSet<()>,
}

impl Observer {
    /// One for each member, which are called as further workers would be.
    pub(crate) async fn start(cluster: &Cluster, workers: usize) -> Self {
        let mut observer = Self::default();
        for (slot, endpoint) in (workers..).zip(cluster.endpoints()) {
            let client = Client::connect([endpoint]).await.expect("the endpoint is good");
            let name = Name { slot, generation: 0 };
            observer._watching.spawn(watch(client, name, Arc::clone(&observer.seen)));
        }
        observer
    }

    pub(crate) fn sights(&self) -> Vec<Sight> {
        self.seen.lock().unwrap().sights.clone()
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        self.seen.lock().unwrap().complaints.clone()
    }

    pub(crate) fn report(&self) -> String {
        let seen = self.seen.lock().unwrap();
        let terms: BTreeSet<_> = seen.sights.iter().map(|sight| sight.term).collect();
        let (sights, nobody) = (seen.sights.len(), seen.nobody);
        format!("{} terms seen in {sights} sights, nobody {nobody} times\n", terms.len())
    }
}

async fn watch(client: Client, observer: Name, seen: Arc<Mutex<Seen>>) {
    let mut leaders = tenure::Observer::new(&client, ELECTION).observe();
    while let Some(leader) = leaders.next().await {
        let at = now();
        let mut seen = seen.lock().unwrap();
        match leader {
            Ok(Some(leader)) => match name_of(&leader) {
                Some(name) => {
                    let term = leader.term;
                    seen.sights.push(Sight { observer, at, term, leader: name });
                }
                None => seen.complaints.push(format!("{leader:?} has a value of no sense")),
            },
            Ok(None) => seen.nobody += 1,
            Err(error) => seen.complaints.push(format!("{observer} sees no more: {error}")),
        }
    }
}

/// Who a leader says to be: `w<slot>.<generation>`, and whatever it proclaims.
fn name_of(leader: &Leader) -> Option<Name> {
    let value = std::str::from_utf8(&leader.value).ok()?;
    let name = value.split(' ').next()?.strip_prefix('w')?;
    let (slot, generation) = name.split_once('.')?;
    Some(Name { slot: slot.parse().ok()?, generation: generation.parse().ok()? })
}

pub(crate) fn timeline(sights: &[Sight]) -> Vec<(u64, String)> {
    let line = |Sight { observer, at, term, leader }: &Sight| {
        (*at, format!("-- {observer} sees {leader} in term {term}"))
    };
    sights.iter().map(line).collect()
}
