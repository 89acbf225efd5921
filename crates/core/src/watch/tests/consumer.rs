use std::collections::VecDeque;

use super::super::*;
use crate::{Event, Revision};

/// One consumer, and what it has seen so far.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) spec: Spec,
    /// The first revision it is entitled to, once known.
    pub(super) start: Option<i64>,
    pub(super) queue: VecDeque<Item>,
    pub(super) seen: Vec<Event>,
    pub(super) last: i64,
    pub(super) live: bool,
    pub(super) end: Option<End>,
}

impl Consumer {
    pub(super) fn new(spec: Spec) -> Self {
        let start = (spec.start.0 != 0).then_some(spec.start.0);
        let (queue, seen) = (VecDeque::new(), Vec::new());
        Self { spec, start, queue, seen, last: 0, live: false, end: None }
    }

    pub(super) fn take(&mut self, item: Item) {
        assert_eq!(self.end, None, "something after the end");
        match item {
            Item::Created { revision } => {
                assert!(!self.live && self.seen.is_empty());
                self.live = true;
                self.start.get_or_insert(revision.0 + 1);
            }
            Item::Events { events, revision } => {
                assert!(self.live && !events.is_empty());
                assert!(events[0].kv.mod_revision > Revision(self.last), "a revision in two");
                assert_eq!(events[events.len() - 1].kv.mod_revision, revision);
                self.last = revision.0;
                self.seen.extend(events);
            }
            Item::Progress { .. } => assert!(self.live),
            Item::Interrupted => assert!(std::mem::take(&mut self.live)),
            Item::Resumed => assert!(!std::mem::replace(&mut self.live, true)),
            Item::Refused { .. } => assert!(!self.live),
            Item::End(end) => self.end = Some(end),
        }
    }

    /// The queue is within its limit, or holds nothing but one revision.
    pub(super) fn check_queue(&self) {
        let heavy: Vec<_> = self.queue.iter().filter(|item| !item.weight().is_zero()).collect();
        let weight = heavy.iter().fold(Weight::ZERO, |sum, item| sum + item.weight());
        let one_revision = match heavy[..] {
            [Item::Events { events, revision }] => events[0].kv.mod_revision == *revision,
            _ => heavy.len() <= 1,
        };
        assert!(one_revision || weight.is_within(self.spec.limit), "the queue overflows");
    }
}
