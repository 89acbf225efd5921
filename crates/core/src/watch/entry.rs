use super::{Item, Spec, State, Weight, joiner::Joiner};
use crate::{Event, Revision};

/// All that is known of one watch.
#[derive(Debug)]
pub(super) struct Entry {
    /// As asked, but `start` moves along: it is always the next revision to ask for.
    pub(super) spec: Spec,
    /// Delivered and not yet consumed.
    queued: Weight,
    pub(super) phase: Phase,
    /// Whether the server ever accepted it.
    pub(super) known: bool,
}

/// Where a watch is on its way to the server and back.
#[derive(Debug)]
pub(super) enum Phase {
    /// Among the registry's waiting. `back`: from one revision earlier.
    Waiting { back: bool },
    /// The creation is sent.
    Creating { id: i64, back: bool },
    /// The server has it.
    Live { id: i64, joiner: Joiner },
    /// The consumer is slow. `wanted`: the revision that did not fit.
    Paused { wanted: Weight },
    /// Refused on that stream; what next is for the caller to say.
    Refused { stream: u64 },
    /// To be created again, but not on the stream that refused it.
    Retrying,
}

impl Entry {
    pub(super) fn new(spec: Spec) -> Self {
        Self { spec, queued: Weight::ZERO, phase: Phase::Waiting { back: false }, known: false }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Live { .. } => State::Live,
            Phase::Paused { .. } => State::Paused,
            _ if self.known => State::Resuming,
            _ => State::Connecting,
        }
    }

    /// Its id on the stream, if it has one.
    pub(super) fn id(&self) -> Option<i64> {
        match self.phase {
            Phase::Creating { id, .. } | Phase::Live { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The creation to send now.
    pub(super) fn request(&self, back: bool) -> Spec {
        let mut spec = self.spec.clone();
        if back {
            spec.start = Revision(spec.start.0 - 1);
        }
        spec
    }

    /// Whether a creation answered at this revision may miss a deletion.
    ///
    /// etcd 3.4.23 loses a deletion made at the very revision that is both the compacted one and
    /// the start of a watch. From one revision earlier such a watch is told of the compaction.
    /// Starting there in the first place would be as safe, but a watch whose start is not in the
    /// store yet is served at once, and any other only every 100 ms.
    pub(super) fn may_miss_deletion(&self, revision: Revision) -> bool {
        self.known && self.has_earlier_start() && revision >= self.spec.start
    }

    /// Whether the server would have to say, once it is created again, that what it needs is
    /// compacted away.
    pub(super) fn is_late(&self, compacted: Revision) -> bool {
        let start = self.spec.start;
        let needed = start < compacted || self.known && start == compacted;
        needed && start != Revision::NONE && !matches!(self.phase, Phase::Live { .. })
    }

    /// Whether one revision earlier means anything: nothing happens at revision 1, and 0 is "now".
    pub(super) fn has_earlier_start(&self) -> bool {
        self.spec.start > Revision(1)
    }

    /// Keeps of complete revisions those for which there is room; the weight of the first one
    /// that has none, if any.
    pub(super) fn admit(&mut self, events: &mut Vec<Event>) -> Option<Weight> {
        let mut kept = 0;
        let mut wanted = None;
        for revision in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            let weight = Weight::of(revision);
            if !self.has_room(weight) {
                wanted = Some(weight);
                break;
            }
            self.queued = self.queued + weight;
            kept += revision.len();
        }
        events.truncate(kept);
        if let Some(event) = events.last() {
            self.spec.start = event.kv.mod_revision.next();
        }
        wanted
    }

    /// A progress item, unless it would be untrue or find no room.
    pub(super) fn progress(&mut self, revision: Revision) -> Option<Item> {
        let Phase::Live { joiner, .. } = &self.phase else { return None };
        let item = Item::Progress { revision };
        if !joiner.is_empty() || !self.has_room(item.weight()) {
            return None;
        }
        self.queued = self.queued + item.weight();
        Some(item)
    }

    /// Counts what the consumer took; whether a paused watch may go on now.
    pub(super) fn consumed(&mut self, weight: Weight) -> bool {
        self.queued = self.queued - weight;
        let Phase::Paused { wanted } = self.phase else { return false };
        self.queued.is_within(self.spec.limit.half()) && self.has_room(wanted)
    }

    fn has_room(&self, weight: Weight) -> bool {
        self.queued.is_zero() || (self.queued + weight).is_within(self.spec.limit)
    }
}
