use super::{Delivery, End, Item, Phase, Registry, Reopen, Response, WatchKey, joiner::Joiner};
use crate::{Moment, Revision};

impl Registry {
    /// The stream said something.
    pub fn handle_response(&mut self, now: Moment, response: Response) {
        let Some(stream) = &mut self.stream else { return };
        stream.heard(now);
        if response.created {
            return self.handle_created(now, response);
        }
        match stream.live.get(&response.id) {
            Some(&key) if response.is_cancel() => self.finish(key, response),
            Some(&key) => self.handle_events(key, response),
            None if response.id == Response::ANY => self.handle_progress(response),
            None => self.handle_stray(response),
        }
    }

    /// A creation is answered. Only the order tells which: a refusal carries no id.
    fn handle_created(&mut self, now: Moment, response: Response) {
        let Some(stream) = &mut self.stream else { return };
        let Some(&(id, key)) = stream.unanswered.front() else {
            return self.give_up(Reopen::Protocol("an answer to no creation"));
        };
        let refused = response.is_cancel();
        if response.id != id && !(refused && response.id == Response::ANY) {
            return self.give_up(Reopen::Protocol("creations answered out of order"));
        }
        if !response.events.is_empty() {
            return self.give_up(Reopen::Protocol("events in the answer to a creation"));
        }
        stream.unanswered.pop_front();
        match key {
            Some(key) if refused => self.handle_refused(key, response),
            Some(key) => self.handle_accepted(now, key, Revision(response.revision)),
            None if refused => {}
            None => stream.cancel(id),
        }
    }

    fn handle_refused(&mut self, key: WatchKey, response: Response) {
        let Some(entry) = self.watches.get_mut(&key) else { return };
        if response.compact_revision != 0 {
            return self.finish(key, response);
        }
        entry.phase = Phase::Refused { stream: self.streams };
        self.deliver(key, Item::Refused { reason: response.reason });
    }

    fn handle_accepted(&mut self, now: Moment, key: WatchKey, revision: Revision) {
        // A watch removed meanwhile has been cancelled then.
        let (Some(stream), Some(entry)) = (&mut self.stream, self.watches.get_mut(&key)) else {
            return;
        };
        let Phase::Creating { id, back } = entry.phase else { return };
        if !back && entry.may_miss_deletion(revision) {
            stream.cancel(id);
            entry.phase = Phase::Waiting { back: true };
            self.waiting.insert(key);
            return;
        }
        let from = entry.request(back).start;
        if from != Revision::NONE && from <= revision {
            stream.catches_up(now, id, from);
        }
        stream.live.insert(id, key);
        entry.phase = Phase::Live { id, joiner: Joiner::default() };
        if entry.known {
            return self.deliver(key, Item::Resumed);
        }
        entry.known = true;
        if entry.spec.start == Revision::NONE {
            // The server registers "now" as exactly this. Go's client resumes one revision
            // earlier, and may repeat an event.
            entry.spec.start = revision.next();
        }
        self.deliver(key, Item::Created { revision });
    }

    /// The server dropped a watch for good.
    fn finish(&mut self, key: WatchKey, response: Response) {
        if let Some(stream) = &mut self.stream {
            stream.live.remove(&response.id);
        }
        self.watches.remove(&key);
        let compacted = Revision(response.compact_revision);
        let end = match compacted {
            Revision::NONE => End::Canceled { reason: response.reason },
            revision => End::Compacted { revision },
        };
        self.deliver(key, Item::End(end));
        self.handle_compacted(compacted);
    }

    /// One watch was told of a compaction: ends the others that were too late for it as well.
    ///
    /// Before 3.4.31 and 3.5.13 etcd forgets to tell them when 128 answers of the stream wait
    /// already, and goes on with such a watch as if nothing were missing (its issue 17529).
    fn handle_compacted(&mut self, revision: Revision) {
        if revision == Revision::NONE {
            return;
        }
        let caught = self.stream.as_mut().map(|stream| stream.caught_before(revision));
        let mut late = caught.unwrap_or_default();
        late.retain(|key| self.watches.get(key).is_some_and(|it| it.spec.start <= revision));
        late.extend(
            self.watches.iter().filter(|(_, it)| it.is_late(revision)).map(|(&key, _)| key),
        );
        for key in late {
            self.end(key, End::Compacted { revision });
        }
    }

    fn handle_events(&mut self, key: WatchKey, response: Response) {
        let (Some(stream), Some(entry)) = (&mut self.stream, self.watches.get_mut(&key)) else {
            return;
        };
        let Phase::Live { id, joiner } = &mut entry.phase else { return };
        if response.events.is_empty() && !response.fragment && joiner.is_empty() {
            let revision = Revision(response.revision);
            entry.spec.start = entry.spec.start.max(revision.next());
            if let Some(item) = entry.progress(revision) {
                self.deliver(key, item);
            }
            return;
        }
        let id = *id;
        let Ok(mut events) = joiner.join(response.events, response.fragment, entry.spec.start)
        else {
            return self.give_up(Reopen::Protocol("revisions out of order"));
        };
        let wanted = entry.admit(&mut events);
        if let Some(wanted) = wanted {
            stream.cancel(id);
            entry.phase = Phase::Paused { wanted };
        }
        if let Some(revision) = events.last().map(|event| event.kv.mod_revision) {
            self.deliver(key, Item::Events { events, revision });
        }
        if wanted.is_some() {
            self.deliver(key, Item::Interrupted);
        }
    }

    /// Progress of the whole stream. It moves no watch: before 3.4.25 and 3.5.8 it may run ahead
    /// of events that are still to come.
    fn handle_progress(&mut self, response: Response) {
        if response.is_cancel() || !response.events.is_empty() {
            return;
        }
        let Some(stream) = &self.stream else { return };
        for &key in stream.live.values() {
            let entry = self.watches.get_mut(&key);
            if let Some(item) = entry.and_then(|it| it.progress(Revision(response.revision))) {
                self.deliveries.push_back(Delivery { key, item });
            }
        }
    }

    /// Something about an id that is no live watch's: mostly what was on its way when we
    /// cancelled it.
    fn handle_stray(&mut self, response: Response) {
        let Some(stream) = &mut self.stream else { return };
        if stream.is_unanswered(response.id) {
            self.give_up(Reopen::Protocol("a watch spoke before it was created"));
        } else if response.is_cancel() {
            stream.confirm_cancel(response.id);
            self.handle_compacted(Revision(response.compact_revision));
        } else if (1..=self.last_id).contains(&response.id) {
            stream.cancel(response.id);
        }
    }
}
