use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A key of the store, from its creation on.
#[derive(Debug)]
struct Life {
    created: i64,
    modified: i64,
    deleted: Option<i64>,
}

impl Life {
    fn is_at(&self, revision: i64) -> bool {
        self.created <= revision && self.deleted.is_none_or(|at| revision < at)
    }
}

/// An answer of the server that is on its way.
#[derive(Debug)]
enum Answer {
    Entered { name: String, before: Option<Listing>, complete: bool },
    Listed(Listing),
    WatchOpened { revision: i64 },
}

/// What was said of a key of ours, and what we said.
#[derive(Debug, Default)]
struct Ours {
    turn: bool,
    rewritten: i64,
    deleted: bool,
    left: bool,
}

/// What the queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lock,
    ReadersAndWriters,
}

impl Kind {
    fn name(self, whose: &str, number: usize) -> String {
        let part = match (self, number % 3) {
            (Self::Lock, _) => "",
            (Self::ReadersAndWriters, 0) => "write/",
            (Self::ReadersAndWriters, _) => "read/",
        };
        format!("{part}{whose}-{number}")
    }

    fn rule(self, name: &str) -> Rule {
        match self {
            Self::ReadersAndWriters if name.starts_with("read/") => Rule::Under("write/".into()),
            _ => Rule::Everybody,
        }
    }

    fn admits<'a>(self, name: &str, older: impl Iterator<Item = &'a String>) -> bool {
        let older: Vec<_> = older.map(|name| key(name)).collect();
        self.rule(name).admits(older.iter(), None)
    }
}

/// A store with one prefix, everything that ever happened to it, a queue that hears of it late,
/// and the rules.
struct World {
    kind: Kind,
    revision: i64,
    lives: BTreeMap<String, Life>,
    /// The events of each revision, from 2 on.
    tale: Vec<Vec<Event>>,
    queue: WaitQueue,
    answers: Vec<Answer>,
    /// The revision up to which the watch has told, if it stands.
    told: Option<i64>,
    /// The keys whose acquire was answered.
    ours: BTreeMap<String, Ours>,
}

impl World {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            queue: WaitQueue::new(),
            revision: 1,
            lives: BTreeMap::new(),
            tale: Vec::new(),
            answers: Vec::new(),
            told: None,
            ours: BTreeMap::new(),
        }
    }

    // What happens at the server.

    fn commit(&mut self, events: impl FnOnce(&mut Self, i64) -> Vec<Event>) -> i64 {
        self.revision += 1;
        let events = events(self, self.revision);
        self.tale.push(events);
        self.revision
    }

    fn create(&mut self, names: &[String]) -> i64 {
        self.commit(|world, at| {
            let life = || Life { created: at, modified: at, deleted: None };
            world.lives.extend(names.iter().map(|name| (name.clone(), life())));
            names.iter().map(|name| put(name, at, at)).collect()
        })
    }

    fn rewrite(&mut self, name: &str) {
        self.commit(|world, at| {
            let life = world.lives.get_mut(name).expect("it lives");
            life.modified = at;
            vec![put(name, life.created, at)]
        });
    }

    fn delete(&mut self, names: &[String]) -> i64 {
        self.commit(|world, at| {
            for name in names {
                world.lives.get_mut(name).expect("it lives").deleted = Some(at);
            }
            names.iter().map(|name| delete(name, at)).collect()
        })
    }

    fn living(&self) -> Vec<String> {
        let lives = self.lives.iter().filter(|(_, life)| life.deleted.is_none());
        lives.map(|(name, _)| name.clone()).collect()
    }

    fn listing(&self) -> Listing {
        let living = self.lives.iter().filter(|(_, life)| life.deleted.is_none());
        let mut keys: Vec<_> =
            living.map(|(name, life)| listed(name, life.created, life.modified)).collect();
        keys.sort_by_key(Listed::place);
        Listing { revision: Revision(self.revision), keys }
    }

    // What reaches the queue.

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Entered { name, before, complete } => {
                let created = Revision(self.lives[&name].created);
                self.ours.insert(name.clone(), Ours::default());
                let rule = self.kind.rule(&name);
                self.queue.enter(key(&name), created, rule, before, complete);
            }
            Answer::Listed(listing) => {
                self.queue.handle_listing(listing);
            }
            Answer::WatchOpened { revision } => {
                self.told = Some(revision);
                self.queue.watch_opened(Revision(revision));
            }
        }
    }

    fn tell(&mut self, revisions: usize) {
        let Some(told) = self.told else { return };
        let upto = self.revision.min(told + revisions as i64);
        let events = self.tale[told as usize - 1..upto as usize - 1].concat();
        self.told = Some(upto);
        self.queue.handle_events(events);
    }

    fn lose_watch(&mut self) {
        self.told = None;
        self.answers.retain(|answer| !matches!(answer, Answer::WatchOpened { .. }));
        self.queue.watch_lost();
    }

    // The rules.

    fn older<'a>(&'a self, name: &'a str, at: i64) -> impl Iterator<Item = &'a String> {
        let place = (self.lives[name].created, name);
        let others = self.lives.iter().filter(move |(_, life)| life.is_at(at));
        others.filter(move |(other, life)| (life.created, other.as_str()) < place).map(|(o, _)| o)
    }

    /// The first revision at which the key had been created and nobody older was in its way.
    fn first_from(&self, name: &str) -> Option<i64> {
        let admitted = |&at: &i64| self.kind.admits(name, self.older(name, at));
        (self.lives[name].created..=self.revision).find(admitted)
    }

    /// Whether all who hold may do so together.
    fn is_exclusive(&self) -> bool {
        let holds = |ours: &Ours| ours.turn && !ours.left && !ours.deleted;
        let holders = self.ours.iter().filter(|(_, ours)| holds(ours));
        let mut holders: Vec<_> =
            holders.map(|(name, _)| ((self.lives[name].created, name), name)).collect();
        holders.sort_unstable();
        (0..holders.len()).all(|place| {
            let older = holders[..place].iter().map(|(_, name)| *name);
            self.kind.admits(holders[place].1, older)
        })
    }

    fn drain(&mut self) {
        while let Some(notice) = self.queue.poll() {
            let name = String::from_utf8_lossy(notice.key()).into_owned();
            let life = &self.lives[&name];
            let first_from = self.first_from(&name);
            let ours = self.ours.get_mut(&name).expect("only of keys that entered");
            assert!(!ours.left && !ours.deleted, "{notice:?} comes after the last");
            match notice {
                Notice::Turn(_) => {
                    assert!(!mem::replace(&mut ours.turn, true), "{name} is told twice");
                    let at = first_from.expect("somebody is older");
                    assert!(life.is_at(at), "{name} was gone before it was the oldest");
                }
                Notice::Rewritten { mod_revision: Revision(at), .. } => {
                    assert!(at > ours.rewritten && at > life.created && at <= life.modified);
                    ours.rewritten = at;
                }
                Notice::Deleted(_) => {
                    assert!(life.deleted.is_some(), "{name} lives");
                    ours.deleted = true;
                }
            }
            assert!(self.is_exclusive(), "too many have their turn");
        }
    }

    /// Everything that is on its way arrives.
    fn settle(&mut self) {
        for answer in mem::take(&mut self.answers) {
            self.answer(answer);
            self.drain();
        }
        if self.told.is_none() {
            self.answer(Answer::WatchOpened { revision: self.revision });
        }
        self.tell(self.tale.len());
        if self.queue.wants_listing() {
            self.answer(Answer::Listed(self.listing()));
        }
        self.drain();
    }

    /// Once all is said, everybody knows how things are.
    fn audit(&self) {
        let now = self.revision;
        let ours: BTreeSet<_> = self.ours.iter().filter(|(_, o)| !o.left).map(|(n, _)| n).collect();
        assert_eq!(self.queue.is_idle(), ours.iter().all(|name| !self.lives[*name].is_at(now)));
        for name in &ours {
            let (life, said) = (&self.lives[*name], &self.ours[*name]);
            if life.deleted.is_some() {
                assert!(said.deleted, "the deletion of {name} was never told");
                continue;
            }
            assert!(life.modified == life.created || said.rewritten == life.modified);
            let older: Vec<_> = self.older(name, now).collect();
            let admitted = self.kind.admits(name, older.iter().copied());
            assert_eq!(said.turn, admitted, "{name} with {older:?} before it");
            let rule = self.kind.rule(name);
            let waits_for = older.iter().filter(|older| rule.waits_for(older.as_bytes())).count();
            let ahead = if said.turn { 0 } else { waits_for };
            assert_eq!(self.queue.ahead(&key(name)), Some(ahead));
        }
    }

    fn take(&mut self, step: Step) {
        let living = self.living();
        let any = |which: prop::sample::Index| {
            (!living.is_empty()).then(|| living[which.index(living.len())].clone())
        };
        match step {
            Step::OthersCome(count) => {
                let place = self.lives.len();
                let names: Vec<_> =
                    (place..place + count).map(|place| self.kind.name("other", place)).collect();
                self.create(&names);
            }
            Step::WeCome { sees, anew } => {
                let used = if anew { None } else { self.free_name() };
                let name = used.unwrap_or_else(|| self.kind.name("own", self.lives.len()));
                let mut before = self.listing();
                let complete = sees.is_none_or(|sees| {
                    before.keys.truncate(sees);
                    false
                });
                let before = (sees != Some(0)).then_some(before);
                self.create(std::slice::from_ref(&name));
                self.answers.push(Answer::Entered { name, before, complete });
            }
            Step::WeComeAgain(which) => {
                let now = self.listing();
                let lost = self.answers.iter_mut().filter_map(|answer| match answer {
                    Answer::Entered { name, before, complete } if living.contains(name) => {
                        Some((before, complete))
                    }
                    _ => None,
                });
                let mut lost: Vec<_> = lost.collect();
                if !lost.is_empty() {
                    let place = which.index(lost.len());
                    let (before, complete) = &mut lost[place];
                    (**before, **complete) = (Some(now), true);
                }
            }
            Step::Rewrite(which) => {
                if let Some(name) = any(which) {
                    self.rewrite(&name);
                }
            }
            Step::SomebodyDeletes(which) => {
                let names: BTreeSet<_> = which.into_iter().filter_map(any).collect();
                if !names.is_empty() {
                    self.delete(&names.into_iter().collect::<Vec<_>>());
                }
            }
            Step::WeLeave { which, how } => self.we_leave(which, how),
            Step::WatchOpens { says } => {
                self.lose_watch();
                let opened = Answer::WatchOpened { revision: self.revision };
                if says { self.answer(opened) } else { self.answers.push(opened) }
            }
            Step::WatchBreaks => self.lose_watch(),
            Step::WeList => {
                if self.queue.wants_listing() {
                    self.answers.push(Answer::Listed(self.listing()));
                }
            }
            Step::Answer(which) => {
                if !self.answers.is_empty() {
                    let place = which.index(self.answers.len());
                    let answer = self.answers.swap_remove(place);
                    self.answer(answer);
                }
            }
            Step::Tell(revisions) => self.tell(revisions),
        }
    }

    /// A name of ours that may be used again: its key is gone, by our doing, and nothing about it
    /// is under way. The life it had is remembered under another name.
    fn free_name(&mut self) -> Option<String> {
        let left = |(name, ours): &(&String, &Ours)| {
            let awaited = self.answers.iter().any(|answer| match answer {
                Answer::Entered { name: entered, .. } => entered == *name,
                _ => false,
            });
            ours.left && !ours.deleted && !awaited && self.lives[*name].deleted.is_some()
        };
        let name = self.ours.iter().find(left)?.0.clone();
        let life = self.lives.remove(&name).expect("it had one");
        self.lives.insert(format!("{name} before {}", self.revision), life);
        self.ours.remove(&name);
        Some(name)
    }

    fn we_leave(&mut self, which: prop::sample::Index, how: Leaving) {
        let ours = self.ours.iter().filter(|(_, ours)| !ours.left && !ours.deleted);
        let ours: Vec<_> = ours.map(|(name, _)| name.clone()).collect();
        if ours.is_empty() {
            return;
        }
        let name = ours[which.index(ours.len())].clone();
        let is_there = self.lives[&name].deleted.is_none();
        self.ours.get_mut(&name).expect("it is ours").left = true;
        self.queue.leave(&key(&name));
        if is_there && how == Leaving::Deletes {
            self.delete(std::slice::from_ref(&name));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Deletes,
    /// The key stays.
    Uncared,
}

#[derive(Clone, Debug)]
enum Step {
    OthersCome(usize),
    /// An acquire that sees all, or the oldest few, or did not look.
    WeCome {
        sees: Option<usize>,
        /// Under a name that was never used.
        anew: bool,
    },
    /// An unanswered acquire is sent again, and finds its key.
    WeComeAgain(prop::sample::Index),
    Rewrite(prop::sample::Index),
    SomebodyDeletes(Vec<prop::sample::Index>),
    WeLeave {
        which: prop::sample::Index,
        how: Leaving,
    },
    WatchOpens {
        says: bool,
    },
    WatchBreaks,
    WeList,
    Answer(prop::sample::Index),
    Tell(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    let how = prop_oneof![
        6 => Just(Leaving::Deletes),
        1 => Just(Leaving::Uncared),
    ];
    prop_oneof![
        2 => (1..3_usize).prop_map(Step::OthersCome),
        6 => (prop::option::weighted(0.5, 0..3_usize), any::<bool>())
            .prop_map(|(sees, anew)| Step::WeCome { sees, anew }),
        1 => which().prop_map(Step::WeComeAgain),
        2 => which().prop_map(Step::Rewrite),
        4 => prop::collection::vec(which(), 1..4).prop_map(Step::SomebodyDeletes),
        4 => (which(), how).prop_map(|(which, how)| Step::WeLeave { which, how }),
        2 => any::<bool>().prop_map(|says| Step::WatchOpens { says }),
        1 => Just(Step::WatchBreaks),
        2 => Just(Step::WeList),
        9 => which().prop_map(Step::Answer),
        8 => (1..5_usize).prop_map(Step::Tell),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    /// Others come and go, watches break and come back, answers are late and out of order.
    #[test]
    fn a_turn_is_always_true_and_never_forgotten(
        kind in prop::sample::select(vec![Kind::Lock, Kind::ReadersAndWriters]),
        steps in prop::collection::vec(step(), 1..150),
        wakes in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(kind);
        // A caller that polls after each input, or one that lets things pile up.
        let wakes = 1 + wakes.index(3);
        for (count, step) in steps.into_iter().enumerate() {
            world.take(step);
            if count % wakes == 0 {
                world.drain();
            }
        }
        world.settle();
        world.audit();
    }
}

#[test]
fn a_thousand_wait_and_each_release_costs_the_same() {
    let names: Vec<_> = (0..1000).map(|place| format!("own-{place:04}")).collect();
    let mut world = World::new(Kind::Lock);
    world.answer(Answer::WatchOpened { revision: 1 });
    for name in &names {
        let before = world.listing();
        world.create(std::slice::from_ref(name));
        let before = Listing { keys: before.keys.into_iter().take(1).collect(), ..before };
        let complete = before.keys.is_empty();
        let before = Some(before);
        world.answer(Answer::Entered { name: name.clone(), before, complete });
        world.tell(1);
    }
    for name in &names {
        assert_eq!(world.queue.poll(), Some(Notice::Turn(key(name))));
        world.queue.leave(&key(name));
        world.delete(std::slice::from_ref(name));
        world.tell(1);
    }
    assert_eq!(world.queue.poll(), None);
    assert!(world.queue.is_idle());
}
