//! Processes put items into a queue and take them out to work on them: each that was put in is
//! acknowledged once in the end, one process at a time has it, and what is written of it is written
//! by whoever has it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tenure::{
    Client, Delivery, Error, ErrorKind, EventKind, Json, KeyValue, Queue, Release, Result,
    Revision, Session,
};
use tenure_testkit::Cluster;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    hold,
    journal::{Moment, Name, Tell, Written, failed, say_own},
    judges::{
        chronicle::Chronicle,
        claims::{self, Aftermath},
        outcome::Outcome,
        queue::{self, Acknowledgement, Item},
    },
    random::Random,
    recipe::{Evidence, Recipe, Verdict},
    worker::Worker,
};

const QUEUE: &str = "campaign";
/// Where the library has what is worked on.
const WORK: &str = "tenure/queue-work/";
/// What holders write, under the item.
const WRITTEN: &str = "campaign/written/";
/// When all have ended, all that is left is taken out within this.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It puts an item in.
    Puts {
        item: String,
    },
    Put {
        item: String,
    },
    /// It is surely not in.
    NotPut {
        item: String,
        kind: String,
    },
    /// It has an item in hand.
    Has {
        item: String,
        #[serde(with = "Written")]
        hold: Revision,
        attempt: u32,
    },
    /// It asks for it to be gone.
    Acknowledges {
        item: String,
        #[serde(with = "Written")]
        hold: Revision,
    },
    Acknowledged {
        #[serde(with = "Written")]
        hold: Revision,
    },
}

impl Tell for Event {
    fn moment(&self) -> Option<Moment> {
        let writes = matches!(self, Self::Puts { .. } | Self::Acknowledges { .. });
        writes.then_some(Moment::Writing)
    }
}

pub(crate) struct WorksOffAQueue {
    name: Name,
    queue: Queue,
    random: Random,
    put: u64,
}

impl WorksOffAQueue {
    async fn put(&mut self) {
        self.put += 1;
        let item = format!("{}.{}", self.name, self.put);
        say_own(Event::Puts { item: item.clone() });
        let enqueue = self.queue.enqueue(Json(&item)).into_future();
        let put = match self.random.one_in(20) {
            // Gives up by dropping it.
            true => match timeout(self.random.millis(0..5), enqueue).await {
                Ok(put) => put,
                Err(_) => return,
            },
            false => enqueue.await,
        };
        match put {
            Ok(_) => say_own(Event::Put { item }),
            Err(error) => {
                failed("enqueue", &error);
                if !error.may_have_been_applied() {
                    say_own(Event::NotPut { item, kind: format!("{:?}", error.kind()) });
                }
            }
        }
    }

    async fn take(&mut self) -> Option<Delivery> {
        let take = self.queue.take_leased();
        let span = self.random.millis(1..300);
        let taken = match self.random.within(0..20) {
            0 => timeout(span, take.into_future()).await.ok()?.map(Some),
            1 => take.timeout(span).await.map(Some),
            2..6 => self.queue.try_take_leased().await,
            _ => take.timeout(Duration::from_secs(1)).await.map(Some),
        };
        match taken {
            Ok(taken) => taken,
            Err(error) => {
                failed("take", &error);
                sleep(self.random.millis(1..20)).await;
                None
            }
        }
    }

    async fn work(&mut self, delivery: Delivery) {
        let item: String = delivery.json().expect("names are put in");
        let hold = delivery.fence().create_revision;
        say_own(Event::Has { item: item.clone(), hold, attempt: delivery.attempts() });
        hold::granted(&delivery.fence(), 1);
        let pause = self.random.millis(0..30);
        let writes = self.random.one_in(2);
        let work = async {
            sleep(pause).await;
            if writes {
                let written = delivery.kv().put(format!("{WRITTEN}{item}"), hold.to_string());
                if let Err(error) = written.await {
                    failed("write", &error);
                }
            }
        };
        hold::while_held(hold, &delivery, work).await;
        match self.random.within(0..12) {
            0 => hold::drop_it(hold, delivery),
            1 | 2 => {
                let given_back = async { delivery.nack().await.map(|()| Release::Released) };
                hold::release(hold, given_back).await;
            }
            _ => {
                say_own(Event::Acknowledges { item, hold });
                let acknowledged = async { delivery.ack().await.map(|()| Release::Released) };
                if hold::release(hold, acknowledged).await.is_some() {
                    say_own(Event::Acknowledged { hold });
                }
            }
        }
    }
}

impl Recipe for WorksOffAQueue {
    const TEST: &'static str = "processes_work_off_a_queue_while_members_and_processes_are_hurt";
    const WORKERS: usize = 10;

    fn new(Worker { name, session, random, .. }: Worker) -> Self {
        Self { name, queue: Queue::new(&session, QUEUE), random, put: 0 }
    }

    async fn turn(&mut self) {
        // As much as is acknowledged, so that sometimes there is nothing to take.
        if !self.random.one_in(4) {
            self.put().await;
        }
        if let Some(delivery) = self.take().await {
            self.work(delivery).await;
        }
    }

    type Observer = ();

    async fn observe(_: &Cluster) {}

    async fn judge(evidence: Evidence<'_>, (): &()) -> Result<Verdict> {
        let drained = drain(evidence.client).await?;
        let chronicle = Chronicle::<Event>::read(evidence.journals);
        let course = Course::read(evidence).await?;
        let left = Queue::inspect(evidence.client, QUEUE).await?;
        let mut items: BTreeMap<String, Item> = BTreeMap::new();
        tell(&mut items, &chronicle.own, &drained, &course);
        for (hold, item) in &course.granted {
            items.entry(item.clone()).or_default().granted.insert(*hold);
        }
        for item in left {
            items.entry(name(&item.value)).or_default().left = true;
        }
        let mut complaints = chronicle.complaints.clone();
        for claim in &chronicle.claims {
            match course.granted.get(&claim.hold) {
                Some(item) => items.entry(item.clone()).or_default().claims.push(claim.clone()),
                None => complaints.push(format!("{claim} has nothing in etcd")),
            }
        }
        let (wrong, excused) = queue::items(&items, &Aftermath::of(evidence.faults));
        complaints.extend(wrong);
        complaints.extend(course.complaints.iter().cloned());
        let report = [
            format!(
                "{} items were put in, and delivered {} times, the last {} of them after all\n",
                items.len(),
                course.granted.len(),
                drained.len(),
            ),
            claims::report(&excused),
            chronicle.report(),
        ];
        let done = course.over.len();
        Ok(Verdict { complaints, report: report.concat(), done, seen: Vec::new() })
    }
}

/// Takes out all that is left, and tells under which claim.
async fn drain(client: &Client) -> Result<Vec<(String, Revision)>> {
    let session = Session::open(client).await?;
    let queue = Queue::new(&session, QUEUE);
    let mut drained = Vec::new();
    let until = Instant::now() + DRAIN;
    while !queue.items().await?.is_empty() && Instant::now() < until {
        // The workers' leases end by and by.
        match queue.take_leased().timeout(Duration::from_secs(1)).await {
            Ok(delivery) => {
                drained.push((name(delivery.value()), delivery.fence().create_revision));
                delivery.ack().await?;
            }
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            Err(error) => return Err(error),
        }
    }
    session.close().await?;
    Ok(drained)
}

fn name(value: &[u8]) -> String {
    Json::read(value).map_or_else(|_: Error| "?".to_owned(), |Json(name)| name)
}

/// How putting each item in ended, and what became of its acknowledgements: etcd knows where the
/// workers do not.
fn tell(
    items: &mut BTreeMap<String, Item>,
    said: &[(Name, u64, Event)],
    drained: &[(String, Revision)],
    course: &Course,
) {
    let mut asked = BTreeMap::new();
    for (_, _, event) in said {
        let mut put = |item: &String, outcome| {
            items.entry(item.clone()).or_default().put = Some(outcome);
        };
        match event {
            Event::Puts { item } => put(item, Outcome::Unknown),
            Event::Put { item } => put(item, Outcome::Settled(true)),
            Event::NotPut { item, .. } => put(item, Outcome::Refused),
            Event::Has { .. } => {}
            Event::Acknowledges { item, hold } => {
                let there = course.over.contains_key(hold);
                asked.insert(*hold, (item.clone(), Outcome::Settled(there)));
            }
            Event::Acknowledged { hold } => {
                asked.get_mut(hold).expect("it asked before").1 = Outcome::Settled(true);
            }
        }
    }
    let drained =
        drained.iter().map(|(item, hold)| (*hold, (item.clone(), Outcome::Settled(true))));
    for (hold, (item, outcome)) in asked.into_iter().chain(drained) {
        let acknowledgement = Acknowledgement { hold, outcome };
        items.entry(item).or_default().acknowledgements.push(acknowledgement);
    }
}

/// What etcd did with the items.
#[derive(Default)]
struct Course {
    /// Each claim that was granted, and of which item.
    granted: BTreeMap<Revision, String>,
    /// Which of them ended with nothing put back.
    over: BTreeMap<Revision, Revision>,
    complaints: Vec<String>,
}

impl Course {
    async fn read(evidence: Evidence<'_>) -> Result<Self> {
        let mut course = Self::default();
        let mut running: BTreeMap<Vec<u8>, Revision> = BTreeMap::new();
        let mut back: BTreeMap<Revision, usize> = BTreeMap::new();
        for event in evidence.history("").await? {
            let KeyValue { key, value, mod_revision: at, .. } = event.kv;
            let is_put = event.kind == EventKind::Put;
            if let Some(rest) = key.strip_prefix(WRITTEN.as_bytes()).filter(|_| is_put) {
                course.written(&running, rest, &value, at);
            } else if key.starts_with(WORK.as_bytes()) && contains(&key, b"/run/") {
                if is_put {
                    course.granted.insert(at, name(&value));
                    running.insert(key.to_vec(), at);
                } else if let Some(hold) = running.remove(&key[..]) {
                    course.over.insert(hold, at);
                }
            } else if is_put && key.starts_with(b"tenure/queue/") {
                *back.entry(at).or_default() += 1;
            }
        }
        // What was moved back was put in the transaction that ended the claim.
        course.over.retain(|_, at| !back.contains_key(at));
        Ok(course)
    }

    /// Whoever wrote of an item has it at that time.
    fn written(
        &mut self,
        running: &BTreeMap<Vec<u8>, Revision>,
        item: &[u8],
        value: &[u8],
        at: Revision,
    ) {
        let hold = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let hold = Revision(hold.unwrap_or_default());
        let has = running.values().any(|running| *running == hold);
        let item = String::from_utf8_lossy(item);
        if !has || self.granted.get(&hold).is_none_or(|granted| *granted != item) {
            self.complaints.push(format!("item {item} was written of at {at} under {hold}"));
        }
    }
}

fn contains(key: &[u8], part: &[u8]) -> bool {
    key.windows(part.len()).any(|window| window == part)
}
