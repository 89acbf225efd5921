//! Elections: won and given up over and over.
//!
//! `election` has one candidate. `succession` has `--tasks` of them, and measures from when a leader
//! begins to resign until the next one knows that it leads, while two others write as fast as they
//! can. The peer uses etcd's own election service, which does what Go's recipe does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tenure::{Election, Session};

use crate::{
    Order,
    locks::{Spent, Window, name_of},
    measure::Outcome,
    peers,
    processes::start_writers,
};

/// How a peer's user stands in an election.
enum Candidate {
    Tenure(Election),
    /// The server's service, and the lease that owns the key.
    EtcdClient(Box<etcd_client::ElectionClient>, String, i64),
}

/// When the last leader began to resign.
type Resigned = Arc<Mutex<Option<Instant>>>;

impl Candidate {
    /// Leads once; tells when it began to, and resigns after having said so.
    async fn term(&mut self, resigned: &Resigned) -> anyhow::Result<Option<Duration>> {
        let vacant = |resigned: &Resigned| {
            let mut since = resigned.lock().unwrap_or_else(PoisonError::into_inner);
            since.replace(Instant::now()).map(|since| since.elapsed())
        };
        match self {
            Self::Tenure(election) => {
                let leadership = election.campaign("bench").await?;
                let vacancy = vacant(resigned);
                leadership.resign().await?;
                Ok(vacancy)
            }
            Self::EtcdClient(client, name, lease) => {
                let answer = client.campaign(name.as_str(), "bench", *lease).await?;
                let vacancy = vacant(resigned);
                let leader = answer.leader().cloned();
                let options =
                    leader.map(|leader| etcd_client::ResignOptions::new().with_leader(leader));
                client.resign(options).await?;
                Ok(vacancy)
            }
        }
    }
}

async fn candidates(order: &Order) -> anyhow::Result<Vec<Candidate>> {
    let name = name_of(order);
    let mut candidates = Vec::with_capacity(order.tasks);
    match order.peer.as_str() {
        "tenure" => {
            let client = peers::tenure(order).await?;
            for _ in 0..order.tasks {
                let session = Session::open(&client).await?;
                candidates.push(Candidate::Tenure(Election::new(&session, &name)));
            }
        }
        "etcd-client" => {
            let mut client = peers::etcd_client(order).await?;
            for _ in 0..order.tasks {
                let lease = client.lease_grant(300, None).await?.id();
                let service = Box::new(client.election_client());
                candidates.push(Candidate::EtcdClient(service, name.clone(), lease));
            }
        }
        _ => return peers::none_such(order),
    }
    Ok(candidates)
}

pub async fn run(order: &Order) -> anyhow::Result<()> {
    let writers = match order.work.as_str() {
        "succession" => Some(start_writers(order).await?),
        _ => None,
    };
    let candidates = candidates(order).await?;
    let window = Window::of(order.time);
    let (vacancies, spent) =
        tokio::try_join!(stand(candidates, window), Spent::during(order, window))?;
    let outcome = Outcome::new(vacancies, order.time, spent.cpu);
    let outcome = match writers {
        Some(writers) => outcome.with("writes_s", writers.finish().await?),
        None => spent.add_to(outcome),
    };
    outcome.report(order);
    Ok(())
}

/// Has every candidate lead again and again until the window ends; tells how long nobody led.
async fn stand(candidates: Vec<Candidate>, window: Window) -> anyhow::Result<Vec<Duration>> {
    let resigned = Resigned::default();
    let terms = candidates.into_iter().map(|mut candidate| {
        let resigned = Arc::clone(&resigned);
        tokio::spawn(async move {
            let mut vacancies = Vec::new();
            loop {
                let vacancy = candidate.term(&resigned).await?;
                if window.is_over() {
                    return anyhow::Ok(vacancies);
                }
                vacancies.extend(vacancy.filter(|_| window.is_open()));
            }
        })
    });
    let mut vacancies = Vec::new();
    for task in terms.collect::<Vec<_>>() {
        vacancies.extend(task.await??);
    }
    Ok(vacancies)
}
