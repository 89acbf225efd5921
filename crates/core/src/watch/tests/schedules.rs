use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};

use super::super::*;
use super::{model::key, world::World};
use crate::Revision;

#[derive(Clone, Debug)]
enum Step {
    Write(BTreeMap<u8, bool>),
    Compact(u8),
    Add { range: u8, start: u8, fragment: bool, no_delete: bool, limit: u8 },
    Remove(usize),
    Serve(usize),
    Sync { which: usize, span: usize, size: usize },
    Receive(usize),
    Consume { which: usize, items: usize },
    Notify(usize),
    AskProgress,
    Refuse,
    Cut,
    Open,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let writes = btree_map(0..4u8, any::<bool>(), 1..4);
    let add = (0..6u8, 0..5u8, any::<bool>(), any::<bool>(), 0..12u8);
    prop_oneof![
        8 => writes.prop_map(Step::Write),
        1 => any::<u8>().prop_map(Step::Compact),
        3 => add.prop_map(|(range, start, fragment, no_delete, limit)| {
            Step::Add { range, start, fragment, no_delete, limit }
        }),
        1 => (0..8usize).prop_map(Step::Remove),
        6 => (1..6usize).prop_map(Step::Serve),
        8 => (0..8usize, 1..8usize, 1..4usize)
            .prop_map(|(which, span, size)| Step::Sync { which, span, size }),
        8 => (1..6usize).prop_map(Step::Receive),
        4 => (0..8usize, 1..4usize).prop_map(|(which, items)| Step::Consume { which, items }),
        1 => (0..8usize).prop_map(Step::Notify),
        1 => Just(Step::AskProgress),
        1 => Just(Step::Refuse),
        1 => Just(Step::Cut),
        3 => Just(Step::Open),
        2 => (1..4000u64).prop_map(Step::Wait),
    ]
}

fn apply(world: &mut World, step: Step) {
    let nth = |world: &World, which| world.consumers.keys().nth(which).copied();
    match step {
        Step::Write(ops) => world.store.write(&ops),
        Step::Compact(part) => world.store.compact(world.store.revision * i64::from(part) / 255),
        Step::Add { range, start, fragment, no_delete, limit } => {
            let (first, range_end) = match range {
                0..4 => (range, Bytes::new()),
                4 => (1, key(3)),
                _ => (0, Bytes::from_static(b"l")),
            };
            let revision = match start {
                // The defect also hits a first creation, which begins where its user asked for.
                _ if world.store.defect => 0,
                0 | 1 => 0,
                2 => (world.store.revision / 2).max(1),
                3 => world.store.revision + 1,
                _ => world.store.revision + 4,
            };
            let limit = usize::from(limit);
            world.add(Spec {
                key: key(first),
                range_end,
                start: Revision(revision),
                fragment,
                no_delete,
                limit: Weight { events: limit, bytes: 8 * limit },
                ..Spec::default()
            });
        }
        Step::Remove(which) => {
            if let Some(key) = nth(world, which) {
                world.remove(key);
            }
        }
        Step::Serve(messages) => world.serve(messages),
        Step::Receive(messages) => world.receive(messages),
        Step::Consume { which, items } => {
            if let Some(key) = nth(world, which) {
                world.consume(key, items);
            }
        }
        Step::Sync { which, span, size } => {
            let Some(conn) = &mut world.conn else { return };
            if let Some(&id) = conn.ids().get(which) {
                conn.sync(&world.store, id, span, size);
            }
        }
        Step::Notify(which) => {
            let Some(conn) = &mut world.conn else { return };
            if let Some(&id) = conn.ids().get(which) {
                conn.notify(&world.store, id);
            }
        }
        Step::AskProgress => world.registry.request_progress(),
        Step::Refuse => {
            if let Some(conn) = &mut world.conn {
                conn.refuse = true;
            }
        }
        Step::Cut => world.cut(),
        Step::Open if world.conn.is_none() => world.open(),
        Step::Open => {}
        Step::Wait(millis) => world.wait(Duration::from_millis(millis)),
    }
}

fn run(defect: bool, steps: Vec<Step>) -> World {
    run_in(World::new(defect), steps)
}

fn run_in(mut world: World, steps: Vec<Step>) -> World {
    world.open();
    for step in steps {
        apply(&mut world, step);
    }
    world.settle();
    world.check();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_watch_sees_its_events_once_and_in_order_whatever_happens(
        steps in vec(step(), 1..200)
    ) {
        run(false, steps);
    }

    #[test]
    fn no_delete_is_lost_to_a_server_that_misses_those_at_the_compacted_revision(
        steps in vec(step(), 1..200)
    ) {
        run(true, steps);
    }

    #[test]
    fn no_gap_is_left_by_a_server_that_tells_only_one_watch_of_a_compaction(
        steps in vec(step(), 1..200)
    ) {
        let mut world = World::new(false);
        world.store.forgetful = true;
        // A notice does not lie around for longer than a new watch counts as one.
        let short = |step| match step {
            Step::Wait(millis) => Step::Wait(millis % 20),
            step => step,
        };
        run_in(world, steps.into_iter().map(short).collect());
    }
}
