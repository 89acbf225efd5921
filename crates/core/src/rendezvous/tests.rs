use proptest::prelude::*;

use super::*;

const READY: &str = "b/ready";

fn kv(key: &str, created: i64, modified: i64, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        create_revision: Revision(created),
        mod_revision: Revision(modified),
        ..KeyValue::default()
    }
}

fn member(name: &str, created: i64) -> KeyValue {
    kv(&called(name), created, created, "")
}

fn called(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("b/waiters/{name}") }
}

fn mark(name: &str) -> String {
    format!("b/round/{name}")
}

fn put(kv: KeyValue) -> Event {
    Event { kind: EventKind::Put, kv, prev_kv: None }
}

fn deleted(key: &str, revision: i64) -> Event {
    Event { kind: EventKind::Delete, kv: kv(&called(key), 0, revision, ""), prev_kv: None }
}

fn seen_by(own: &str, created: i64, parties: usize) -> Rendezvous {
    let keys = Keys { ready: READY.into(), members: "b/waiters/".into(), marks: "b/round/".into() };
    Rendezvous::new(keys, parties, called(own).into(), Revision(created))
}

fn keys(members: &[Member]) -> Vec<(&[u8], i64)> {
    let name = |key: &'_ Bytes| key.len() - 1;
    members.iter().map(|it| (&it.key[name(&it.key)..], it.created.0)).collect()
}

#[test]
fn only_the_last_who_came_has_to_say_that_all_are_there() {
    let all = [member("z", 3), member("a", 5), member("m", 7)];
    for (own, created, missing) in [("z", 3, 0), ("a", 5, 0)] {
        let mut seen = seen_by(own, created, 3);
        seen.handle_listing(Revision(7), &all);
        assert_eq!(seen.standing(), Standing::Waiting { missing });
    }
    let mut last = seen_by("m", 7, 3);
    last.handle_listing(Revision(7), &all);
    let Standing::Complete(members) = last.standing() else { panic!("{last:?}") };
    assert_eq!(keys(&members), [(&b"z"[..], 3), (b"a", 5), (b"m", 7)]);
}

#[test]
fn who_comes_when_all_are_there_is_one_too_many() {
    let mut seen = seen_by("c", 9, 2);
    seen.handle_listing(Revision(9), &[member("a", 5), member("b", 7), member("c", 9)]);
    assert_eq!(seen.standing(), Standing::Full);
    // The others do not count it.
    let mut second = seen_by("b", 7, 2);
    second.handle_listing(Revision(9), &[member("a", 5), member("b", 7), member("c", 9)]);
    let Standing::Complete(members) = second.standing() else { panic!("{second:?}") };
    assert_eq!(keys(&members), [(&b"a"[..], 5), (b"b", 7)]);
    // Nor does it get in by looking late, when some of them are gone.
    let mut late = seen_by("c", 9, 2);
    late.handle_listing(Revision(12), &[member("b", 7), member("c", 9), kv(READY, 10, 10, "7")]);
    assert_eq!(late.standing(), Standing::Waiting { missing: 1 });
}

#[test]
fn nothing_is_decided_before_the_own_key_is_heard_of_and_nothing_in_between_is_missed() {
    let mut seen = seen_by("c", 9, 2);
    seen.handle_listing(Revision(7), &[member("a", 5), member("b", 7)]);
    assert_eq!(seen.standing(), Standing::Waiting { missing: 0 });
    seen.handle_events(&[deleted("a", 8)]);
    assert_eq!(seen.standing(), Standing::Waiting { missing: 1 });
    seen.handle_events(&[put(member("c", 9))]);
    let Standing::Complete(members) = seen.standing() else { panic!("{seen:?}") };
    assert_eq!(keys(&members), [(&b"b"[..], 7), (b"c", 9)]);
    // A key of that name before it is not the own one.
    let mut again = seen_by("c", 9, 2);
    again.handle_listing(Revision(6), &[member("a", 5), member("c", 6)]);
    again.handle_events(&[deleted("c", 8)]);
    assert!(!again.is_gone());
    again.handle_events(&[put(member("c", 9)), put(kv(READY, 10, 10, "9")), deleted(READY, 11)]);
    assert_eq!(again.standing(), Standing::Inside);
}

#[test]
fn a_ready_key_that_was_left_behind_lets_nobody_in() {
    let mut seen = seen_by("b", 9, 2);
    seen.handle_listing(Revision(9), &[kv(READY, 3, 6, ""), member("b", 9)]);
    assert_eq!(seen.standing(), Standing::Waiting { missing: 1 });
    // Nor does one that is put again for the round before.
    seen.handle_events(&[put(kv(READY, 3, 12, "6"))]);
    assert_eq!(seen.standing(), Standing::Waiting { missing: 1 });
    seen.handle_events(&[put(kv(READY, 3, 14, ""))]);
    assert_eq!(seen.standing(), Standing::Inside);
}

#[test]
fn a_member_that_is_gone_before_all_were_there_is_replaced() {
    let mut seen = seen_by("b", 7, 2);
    seen.handle_listing(Revision(7), &[member("a", 5), member("b", 7)]);
    seen.handle_events(&[deleted("a", 8)]);
    assert_eq!(seen.standing(), Standing::Waiting { missing: 1 });
    seen.handle_events(&[put(member("c", 10))]);
    assert_eq!(seen.standing(), Standing::Waiting { missing: 0 }, "it is for the last to say");
}

#[test]
fn a_newcomer_waits_for_those_inside_and_does_not_count_among_them() {
    let mut inside = seen_by("a", 3, 2);
    inside.handle_listing(Revision(6), &[member("a", 3), member("b", 5), kv(READY, 6, 6, "")]);
    assert_eq!((inside.standing(), inside.others()), (Standing::Inside, 1));
    let after = [deleted("b", 8), put(member("c", 9))];
    inside.handle_events(&after);
    assert_eq!((inside.standing(), inside.others()), (Standing::Inside, 0));
    let mut newcomer = seen_by("c", 9, 2);
    newcomer.handle_listing(Revision(9), &[member("a", 3), member("c", 9), kv(READY, 6, 6, "")]);
    assert_eq!(newcomer.standing(), Standing::Waiting { missing: 1 });
}

#[test]
fn those_inside_do_not_count_for_the_next_round_though_the_ready_key_is_gone() {
    let inside = [member("a", 5), kv(&mark("a"), 8, 8, "7")];
    let mut next = seen_by("d", 12, 2);
    next.handle_listing(Revision(12), &[&inside[..], &[member("d", 12)]].concat());
    assert_eq!(next.standing(), Standing::Waiting { missing: 1 });
    next.handle_events(&[deleted("a", 13), deleted(&mark("a"), 13)]);
    assert_eq!(next.standing(), Standing::Waiting { missing: 1 });
    // The mark of one that was called so before says nothing of the next.
    let late = [member("a", 9), kv(&mark("a"), 8, 8, "7"), member("d", 12)];
    next.handle_listing(Revision(14), &late);
    assert!(matches!(next.standing(), Standing::Complete(_)));
}

#[test]
fn a_mark_tells_its_member_that_the_round_has_begun() {
    let mut slow = seen_by("a", 3, 2);
    slow.handle_listing(Revision(3), &[member("a", 3)]);
    slow.handle_listing(Revision(9), &[member("a", 3), member("b", 5), kv(&mark("b"), 6, 6, "5")]);
    assert_eq!(slow.standing(), Standing::Waiting { missing: 1 });
    slow.handle_listing(Revision(9), &[member("a", 3), member("b", 5), kv(&mark("a"), 6, 6, "5")]);
    assert_eq!((slow.standing(), slow.others()), (Standing::Inside, 1));
    assert_eq!(slow.round(), Some(Revision(5)));
}

#[test]
fn keys_between_the_two_are_nobody() {
    let mut seen = seen_by("a", 3, 2);
    let other = kv("b/someone", 2, 2, "");
    seen.handle_listing(Revision(3), &[other.clone(), member("a", 3)]);
    seen.handle_events(&[put(other)]);
    assert_eq!(seen.standing(), Standing::Waiting { missing: 1 });
}

#[test]
fn what_was_seen_is_not_seen_twice() {
    let mut seen = seen_by("a", 3, 2);
    seen.handle_listing(Revision(9), &[member("a", 3)]);
    seen.handle_events(&[put(member("b", 5)), deleted("b", 7)]);
    seen.handle_listing(Revision(8), &[]);
    assert_eq!(seen.standing(), Standing::Waiting { missing: 1 });
    seen.handle_events(&[deleted("a", 10)]);
    assert_eq!(seen.standing(), Standing::Gone);
}

/// One thing that happens to a barrier.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Comes(u8),
    Goes(u8),
    /// A member looks, and does what is its part.
    Looks(u8),
    /// A member reads everything anew.
    Reads(u8),
    /// The ready key goes with a lease.
    Unready,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (0..6_u8).prop_map(Happens::Comes),
        2 => (0..6_u8).prop_map(Happens::Goes),
        6 => (0..6_u8).prop_map(Happens::Looks),
        1 => (0..6_u8).prop_map(Happens::Reads),
        1 => Just(Happens::Unready),
    ]
}

/// A store, and what each member has seen of it.
#[derive(Default)]
struct World {
    revision: i64,
    log: Vec<Event>,
    now: BTreeMap<String, KeyValue>,
    members: BTreeMap<u8, (Rendezvous, usize)>,
    /// Of each round, the members that there were.
    rounds: BTreeMap<i64, Vec<Member>>,
}

impl World {
    fn put(&mut self, name: &str, value: &str) -> i64 {
        self.revision += 1;
        let key = called(name);
        let created = self.now.get(&key).map_or(self.revision, |kv| kv.create_revision.0);
        let kv = kv(&key, created, self.revision, value);
        self.now.insert(key, kv.clone());
        self.log.push(put(kv));
        self.revision
    }

    fn delete(&mut self, name: &str) {
        if self.now.remove(&called(name)).is_some() {
            self.revision += 1;
            self.log.push(deleted(name, self.revision));
        }
    }

    fn all(&self) -> Vec<KeyValue> {
        self.now.values().cloned().collect()
    }

    /// What the transaction of whoever found the barrier complete does.
    fn announce(&mut self, members: &[Member], known: Revision) {
        let there = |member: &Member| {
            let key = std::str::from_utf8(&member.key).unwrap();
            self.now.get(key).is_some_and(|kv| kv.create_revision == member.created)
        };
        let ready = self.now.get(READY).map_or(Revision::NONE, |kv| kv.mod_revision);
        if members.iter().all(there) && ready == known {
            let round = members.iter().map(|member| member.created.0).max().unwrap();
            self.put(READY, &round.to_string());
            for Member { key, .. } in members {
                let name = std::str::from_utf8(&key["b/waiters/".len()..]).unwrap();
                // In the same transaction.
                self.revision -= 1;
                self.put(&mark(name), &round.to_string());
            }
            self.rounds.insert(round, members.to_vec());
        }
    }

    fn happen(&mut self, what: Happens, parties: usize) {
        match what {
            Happens::Comes(number) if !self.members.contains_key(&number) => {
                let key = format!("m{number}");
                let created = self.put(&key, "");
                let mut seen = seen_by(&key, created, parties);
                seen.handle_listing(Revision(created), &self.all());
                self.members.insert(number, (seen, self.log.len()));
            }
            Happens::Comes(_) => {}
            Happens::Goes(number) => {
                self.members.remove(&number);
                self.delete(&format!("m{number}"));
                self.delete(&mark(&format!("m{number}")));
            }
            Happens::Reads(number) => {
                let (now, all) = (self.revision, self.all());
                if let Some((seen, _)) = self.members.get_mut(&number) {
                    seen.handle_listing(Revision(now), &all);
                }
            }
            Happens::Looks(number) => {
                let Some((mut seen, from)) = self.members.remove(&number) else { return };
                seen.handle_events(&self.log[from..]);
                if let Standing::Complete(members) = seen.standing() {
                    self.announce(&members, seen.ready());
                }
                self.members.insert(number, (seen, self.log.len()));
            }
            Happens::Unready => self.delete(READY),
        }
    }
}

proptest! {
    #[test]
    fn whoever_is_inside_was_there_when_all_were(
        parties in 1..4_usize,
        story in prop::collection::vec(happens(), 0..60),
    ) {
        let mut world = World::default();
        for what in story {
            world.happen(what, parties);
            for (number, (seen, _)) in &world.members {
                let Some(round) = seen.round else { continue };
                let there = &world.rounds[&round.0];
                prop_assert_eq!(there.len(), parties);
                let name = called(&format!("m{number}"));
                prop_assert!(there.iter().any(|member| member.key == name));
            }
        }
        let mut met = std::collections::BTreeSet::new();
        for member in world.rounds.values().flatten() {
            prop_assert!(met.insert(member.created), "{member:?} was in two rounds");
        }
    }
}
