//! The processes, as the campaign sees them.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    journal::{Journal, Moment, Name, ORDERS, Orders},
    random::Random,
};

/// How long to lie in wait for a holder. There is none while the last one is dead, until its lease
/// is over.
const AMBUSH: Duration = Duration::from_secs(5);

/// The moment at which a worker is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// As soon as it has what it asked for.
    Granted,
    /// While it sends a write.
    Writing,
    /// At any time.
    Any,
}

impl From<Moment> for At {
    fn from(moment: Moment) -> Self {
        match moment {
            Moment::Granted => Self::Granted,
            Moment::Writing => Self::Writing,
        }
    }
}

struct Ambush {
    at: At,
    /// None only to know when.
    signal: Option<Signal>,
    hit: oneshot::Sender<usize>,
}

/// One of them.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    /// How often it had what it asked for.
    granted: AtomicU64,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// Closed to end it.
    stdin: Option<ChildStdin>,
    generation: u32,
    ttl_secs: u64,
    /// One fault at a time.
    hurt: bool,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn signal(&self, signal: Signal) {
        // It is a child until it was waited for, so the id is its own.
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("a child can be sent a signal");
    }

    fn hit(&mut self, signal: Signal) {
        self.hurt = true;
        self.signal(signal);
    }
}

pub(crate) struct Crew {
    test: &'static str,
    slots: Arc<[Slot]>,
    ambushes: Arc<Mutex<Vec<Ambush>>>,
    endpoints: Vec<String>,
    random: Mutex<Random>,
    readers: Mutex<Vec<JoinHandle<Journal>>>,
}

impl Crew {
    /// Starts them. They are children of this thread: they die with it.
    pub(crate) fn start(
        test: &'static str,
        size: usize,
        endpoints: Vec<String>,
        random: Random,
    ) -> Self {
        let crew = Self {
            test,
            slots: (0..size).map(|_| Slot::default()).collect(),
            ambushes: Arc::default(),
            endpoints,
            random: Mutex::new(random),
            readers: Mutex::default(),
        };
        (0..size).for_each(|slot| crew.spawn(slot));
        crew
    }

    fn spawn(&self, slot: usize) {
        let mut state = self.slots[slot].state();
        let orders = {
            let mut random = self.random.lock().unwrap();
            Orders {
                test: self.test.to_owned(),
                name: Name { slot, generation: state.generation },
                endpoints: self.endpoints.clone(),
                ttl_secs: random.within(2..5),
                seed: random.next(),
            }
        };
        let mut child = Command::new(env::current_exe().expect("it has a name"))
            .env(ORDERS, serde_json::to_string(&orders).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a worker can be started");
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        state.ttl_secs = orders.ttl_secs;
        state.stdin = child.stdin.take();
        state.child = Some(child);
        state.hurt = false;
        drop(state);
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            // What was read before the pipe broke is enough.
            let _ = BufReader::new(err).read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let (slots, ambushes) = (Arc::clone(&self.slots), Arc::clone(&self.ambushes));
        self.readers.lock().unwrap().push(thread::spawn(move || {
            let mut journal = listen(orders.name, out, |moment| {
                overhear(&slots, &ambushes, orders.name, moment);
            });
            journal.complaints = complaints.join().unwrap();
            journal
        }));
    }

    /// Lies in wait for a worker, and hits the first that comes along; one at random if none does.
    pub(crate) async fn hit(&self, at: At, signal: Signal, random: &mut Random) -> Hit<'_> {
        if at != At::Any
            && let Some(slot) = self.lie_in_wait(at, Some(signal), AMBUSH).await
        {
            return Hit { crew: self, slot, by_chance: false };
        }
        loop {
            let slot = random.within(0..self.slots.len() as u64) as usize;
            let mut state = self.slots[slot].state();
            if !state.hurt {
                state.hit(signal);
                return Hit { crew: self, slot, by_chance: true };
            }
        }
    }

    /// Ends when things flow again, so that every worker could have had something; or after a
    /// while.
    pub(crate) async fn flowing(&self) {
        let granted = || self.granted().iter().sum::<u64>();
        let enough = granted() + self.slots.len() as u64;
        let flows = async {
            while granted() < enough {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // Members are hurt, too; whatever does not flow by now shall be hurt as it is.
        let _ = timeout(AMBUSH, flows).await;
    }

    /// Ends when a worker sends a write, or after a while.
    pub(crate) async fn writing(&self) {
        self.lie_in_wait(At::Writing, None, Duration::from_secs(1)).await;
    }

    async fn lie_in_wait(
        &self,
        at: At,
        signal: Option<Signal>,
        patience: Duration,
    ) -> Option<usize> {
        let (hit, mut waiting) = oneshot::channel();
        self.ambushes.lock().unwrap().push(Ambush { at, signal, hit });
        match timeout(patience, &mut waiting).await {
            Ok(slot) => slot.ok(),
            Err(_) => {
                // Forgotten, unless it hits this very moment.
                waiting.close();
                waiting.try_recv().ok()
            }
        }
    }

    /// How often each had what it asked for.
    pub(crate) fn granted(&self) -> Vec<u64> {
        self.slots.iter().map(|slot| slot.granted.load(Ordering::Relaxed)).collect()
    }

    /// Which of them have ended by themselves.
    pub(crate) fn ended(&self) -> Vec<String> {
        let ended = |(slot, it): (usize, &Slot)| {
            let mut state = it.state();
            let generation = state.generation;
            let status = state.child.as_mut()?.try_wait().expect("a child can be waited for")?;
            Some(format!("{} ended with {status}", Name { slot, generation }))
        };
        self.slots.iter().enumerate().filter_map(ended).collect()
    }

    /// How many have not ended.
    pub(crate) fn running(&self) -> usize {
        self.slots.len() - self.ended().len()
    }

    /// Lets them end.
    pub(crate) fn dismiss(&self) {
        for slot in self.slots.iter() {
            slot.state().stdin = None;
        }
    }

    /// All that they said. Those that still run are killed.
    pub(crate) fn into_journals(self) -> Vec<Journal> {
        self.kill();
        let readers = std::mem::take(&mut *self.readers.lock().unwrap());
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    }

    fn kill(&self) {
        for slot in self.slots.iter() {
            if let Some(mut child) = slot.state().child.take() {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A worker that is hit.
pub(crate) struct Hit<'a> {
    crew: &'a Crew,
    slot: usize,
    /// Not in the ambush.
    pub(crate) by_chance: bool,
}

impl Hit<'_> {
    /// The TTL of its session.
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_secs(self.crew.slots[self.slot].state().ttl_secs)
    }

    /// It goes on.
    pub(crate) fn resume(self) {
        let mut state = self.crew.slots[self.slot].state();
        state.signal(Signal::CONT);
        state.hurt = false;
    }

    /// It is dead; another one takes its place.
    pub(crate) fn replace(self) {
        let mut state = self.crew.slots[self.slot].state();
        state.child.take().expect("it was started").wait().expect("a child can be waited for");
        state.generation += 1;
        drop(state);
        self.crew.spawn(self.slot);
    }
}

/// What is read of a line at once.
#[derive(Deserialize)]
struct Heading {
    at: u64,
    moment: Option<Moment>,
}

/// Reads what a worker says, until it ends.
fn listen(name: Name, out: impl Read, mut heard: impl FnMut(Moment)) -> Journal {
    let mut journal =
        Journal { name, lines: Vec::new(), torn: false, nonsense: None, complaints: String::new() };
    let mut out = BufReader::new(out);
    let mut line = Vec::new();
    while out.read_until(b'\n', &mut line).expect("a pipe can be read") > 0 {
        match serde_json::from_slice::<Heading>(&line) {
            Ok(Heading { at, moment }) => {
                moment.into_iter().for_each(&mut heard);
                journal.lines.push((at, String::from_utf8_lossy(line.trim_ascii()).into_owned()));
            }
            Err(_) if !line.ends_with(b"\n") => journal.torn = true,
            Err(_) => journal.nonsense = Some(String::from_utf8_lossy(&line).into_owned()),
        }
        line.clear();
    }
    journal
}

/// Hits the worker that is there, if one lies in wait for it.
fn overhear(slots: &[Slot], ambushes: &Mutex<Vec<Ambush>>, name: Name, moment: Moment) {
    let slot = &slots[name.slot];
    if moment == Moment::Granted {
        slot.granted.fetch_add(1, Ordering::Relaxed);
    }
    let mut ambushes = ambushes.lock().unwrap();
    ambushes.retain(|ambush| !ambush.hit.is_closed());
    let Some(place) = ambushes.iter().position(|ambush| ambush.at == At::from(moment)) else {
        return;
    };
    let mut state = slot.state();
    // What a worker said before it was hit is heard later.
    if state.hurt || state.generation != name.generation || state.stdin.is_none() {
        return;
    }
    let Ambush { signal, hit, .. } = ambushes.swap_remove(place);
    if let (Ok(()), Some(signal)) = (hit.send(name.slot), signal) {
        state.hit(signal);
    }
}
