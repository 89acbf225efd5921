use std::mem;

use crate::{Event, Revision};

/// Joins the fragments of one wire id, and hands events on at revision borders.
///
/// Holds no more than the events of one revision between two responses.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// Events of the last revision seen, which may go on in the next fragment.
    tail: Vec<Event>,
    /// The last revision seen, repeats included.
    seen: Revision,
}

/// A revision came after a later one.
#[derive(Debug)]
pub(super) struct Backwards;

impl Joiner {
    /// Whether nothing waits for its continuation.
    pub(super) fn is_empty(&self) -> bool {
        self.tail.is_empty()
    }

    /// Takes the events of one response and gives those whose revisions are complete; events
    /// before `next` are repeats and dropped. `fragment` says that more is to come.
    pub(super) fn join(
        &mut self,
        mut events: Vec<Event>,
        fragment: bool,
        next: Revision,
    ) -> Result<Vec<Event>, Backwards> {
        for event in &events {
            if event.kv.mod_revision < self.seen {
                return Err(Backwards);
            }
            self.seen = event.kv.mod_revision;
        }
        events.retain(|event| event.kv.mod_revision >= next);
        if self.tail.is_empty() {
            self.tail = events;
        } else {
            self.tail.append(&mut events);
        }
        if !fragment {
            return Ok(mem::take(&mut self.tail));
        }
        let border = self.tail.partition_point(|event| event.kv.mod_revision < self.seen);
        let tail = self.tail.split_off(border);
        Ok(mem::replace(&mut self.tail, tail))
    }
}
