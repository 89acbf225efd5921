use std::{
    collections::HashMap,
    future::IntoFuture,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle,
    StreamHandler, fut::wrap_future,
};
use bytes::Bytes;
use futures::StreamExt;
use tenure_core::{
    KeyRange, KeyValue, Revision,
    backoff::Outage,
    wait_queue::{Listed, Listing, Notice, Rule, WaitQueue},
};

use super::{Ahead, Before, Own, WHAT, Waiter, long_way};
use crate::{
    client::{Client, WatchResponse},
    error::{Error, ErrorKind, LossReason, Result},
    runtime::{Running, stop_at_close},
};

/// With more foreign keys ahead than this, everybody would be woken too often by a watch on all.
const LONG: usize = 32;
/// How long the watch stands though nobody of this client is in the queue.
const IDLE: Duration = Duration::from_secs(10);

/// Follows one prefix, and tells the contenders of this client what they have to know.
pub(crate) struct QueueActor {
    client: Client,
    prefix: Bytes,
    /// The cluster that what is known is of.
    cluster_id: Option<u64>,
    queue: WaitQueue,
    /// What the queue says of itself, for those who are about to enter.
    knows_all: Arc<AtomicBool>,
    seats: HashMap<Bytes, Seat>,
    watch: Option<SpawnHandle>,
    /// A listing is on its way.
    listing: bool,
    /// The watch or the listing fails; the next try waits.
    outage: Option<Outage>,
    pausing: bool,
    /// Somebody came since the last look at whether there is still anybody.
    visited: bool,
    closing_time: Option<SpawnHandle>,
    _running: Running,
}

/// A key of ours in the queue.
struct Seat {
    waiter: Weak<dyn Waiter>,
    /// Follows its predecessor, and then itself, in place of the watch on all.
    long_way: Option<SpawnHandle>,
}

/// Somebody is about to enter.
pub(super) struct Expect;

/// A key was put.
pub(super) struct Enter {
    pub(super) own: Own,
    pub(super) before: Before,
    pub(super) waiter: Weak<dyn Waiter>,
}

/// A key is of no interest any more.
pub(super) struct Leave(pub(super) Bytes);

/// Nobody has a use for the queue any more.
pub(super) struct Finish;

impl Message for Expect {
    type Result = ();
}

impl Message for Enter {
    type Result = ();
}

impl Message for Leave {
    type Result = ();
}

impl Message for Finish {
    type Result = ();
}

impl QueueActor {
    pub(super) fn new(
        client: Client,
        prefix: Bytes,
        knows_all: Arc<AtomicBool>,
        running: Running,
    ) -> Self {
        Self {
            knows_all,
            client,
            prefix,
            cluster_id: None,
            queue: WaitQueue::new(),
            seats: HashMap::new(),
            watch: None,
            listing: false,
            outage: None,
            pausing: false,
            visited: false,
            closing_time: None,
            _running: running,
        }
    }

    fn range(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    /// Opens the standing watch, unless there is one.
    fn stand(&mut self, ctx: &mut Context<Self>) {
        if self.watch.is_none() && !self.pausing {
            let watch = self.client.watch(self.range()).require_leader().created_notify().open();
            self.watch = Some(ctx.add_stream(watch));
        }
    }

    fn give_up_watch(&mut self, ctx: &mut Context<Self>) {
        if let Some(watch) = self.watch.take() {
            ctx.cancel_future(watch);
        }
        self.queue.watch_lost();
        self.knows_all.store(false, Ordering::Release);
    }

    /// Sees to what the queue wants, and passes on what it says.
    fn drive(&mut self, ctx: &mut Context<Self>) {
        if self.queue.wants_listing() && !self.listing && !self.pausing {
            self.list(ctx);
        }
        self.knows_all.store(self.queue.knows_all(), Ordering::Release);
        while let Some(notice) = self.queue.poll() {
            match notice {
                Notice::Turn(key) => self.tell(&key, |waiter| waiter.turn(&key)),
                Notice::Deleted(key) => {
                    let seat = self.seats.remove(&key);
                    if let Some(waiter) = seat.and_then(|seat| seat.waiter.upgrade()) {
                        waiter.deleted(&key);
                    }
                }
                Notice::Rewritten { key, mod_revision } => {
                    self.tell(&key, |waiter| waiter.rewritten(&key, mod_revision));
                }
            }
        }
    }

    fn tell(&self, key: &Bytes, say: impl FnOnce(&dyn Waiter)) {
        if let Some(waiter) = self.seats.get(key).and_then(|seat| seat.waiter.upgrade()) {
            say(&*waiter);
        }
    }

    /// Tells those who want to know how many are ahead of them.
    fn count_ahead(&self) {
        for (key, seat) in &self.seats {
            if let Some(waiter) = seat.waiter.upgrade()
                && waiter.is_observed()
                && let Some(ahead) = self.queue.ahead(key)
            {
                waiter.ahead(key, ahead);
            }
        }
    }

    fn list(&mut self, ctx: &mut Context<Self>) {
        self.listing = true;
        let get = self.client.get(self.range()).keys_only();
        ctx.spawn(wrap_future(get.into_future()).map(|answer, actor: &mut Self, ctx| {
            actor.listing = false;
            match answer {
                Ok(answer) => {
                    actor.outage = None;
                    actor.queue.handle_listing(listing(&answer.kvs, answer.header.revision));
                }
                Err(error) => actor.trouble(&error, ctx),
            }
            actor.drive(ctx);
            actor.count_ahead();
        }));
    }

    /// The watch or a listing failed: try again after a pause, unless it is for good.
    fn trouble(&mut self, error: &Error, ctx: &mut Context<Self>) {
        if self.outage.is_none() {
            tracing::warn!(prefix = ?self.prefix, %error, "a queue cannot be followed");
        }
        let for_good = matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::Unauthenticated | ErrorKind::Closed
        );
        if for_good {
            for seat in self.seats.values() {
                if let Some(waiter) = seat.waiter.upgrade() {
                    waiter.failed(error.clone());
                }
            }
        }
        let now = self.client.now();
        let pause = self.outage.get_or_insert_with(|| Outage::new(now)).pause(now);
        self.rest(pause, ctx);
    }

    fn rest(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.pausing, true) {
            return;
        }
        ctx.run_later(pause, |actor, ctx| {
            actor.pausing = false;
            if !actor.queue.is_idle() {
                actor.stand(ctx);
            }
            actor.drive(ctx);
        });
    }

    /// Revisions of another cluster mean nothing: begins anew if the cluster was replaced.
    fn is_of(&mut self, cluster_id: u64, ctx: &mut Context<Self>) {
        let known = self.cluster_id.replace(cluster_id);
        if known.is_none_or(|known| known == cluster_id) {
            return;
        }
        tracing::warn!(prefix = ?self.prefix, "another cluster answers");
        self.give_up_watch(ctx);
        self.queue = WaitQueue::new();
        for (_, seat) in self.seats.drain() {
            if let Some(handle) = seat.long_way {
                ctx.cancel_future(handle);
            }
            if let Some(waiter) = seat.waiter.upgrade() {
                waiter.failed(Error::lost(WHAT, LossReason::ClusterChanged));
            }
        }
    }

    /// Whether a newcomer should rather follow its predecessor than everybody.
    fn is_far_back(&self, own: &Own, before: &Before) -> bool {
        // What only is kept an eye on goes with the key that waits.
        let accompanies =
            || own.rule == Rule::Nobody && self.seats.values().any(|seat| seat.long_way.is_some());
        // Who has to follow everybody for another key of ours does so for this one, too.
        own.one_by_one || self.queue.is_idle() && (before.count > LONG as u64 || accompanies())
    }

    fn take_the_long_way(&mut self, own: Own, before: Before, ctx: &mut Context<Self>) {
        self.give_up_watch(ctx);
        let (key, created) = (own.key.clone(), own.created);
        let stage = match before.ahead {
            _ if before.admits(&own) => long_way::Stage::Hold(created),
            Ahead::Key(ref key) => long_way::Stage::Behind(key.clone(), created),
            _ => long_way::Stage::Look,
        };
        if let long_way::Stage::Hold(_) = stage {
            self.tell(&key, |waiter| waiter.turn(&key));
        }
        let (client, prefix) = (self.client.clone(), self.prefix.clone());
        let steps = long_way::Walk::new(client, prefix, own).steps(stage);
        let told = key.clone();
        let handle = ctx.add_stream(steps.map(move |step| Walked { key: told.clone(), step }));
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.long_way = Some(handle);
        }
    }

    /// Stops watching if nobody comes for a while: a queue of others need not wake this process.
    fn close_later(&mut self, ctx: &mut Context<Self>) {
        self.visited = false;
        self.closing_time = Some(ctx.run_later(IDLE, |actor, ctx| {
            actor.closing_time = None;
            if actor.visited && actor.queue.is_idle() {
                actor.close_later(ctx);
            } else if actor.queue.is_idle() {
                actor.give_up_watch(ctx);
            }
        }));
    }
}

/// What was read at a revision.
pub(crate) fn listing(kvs: &[KeyValue], revision: Revision) -> Listing {
    Listing { revision, keys: kvs.iter().map(Listed::from).collect() }
}

impl Actor for QueueActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        stop_at_close(self.client.closing(), ctx);
    }
}

impl Drop for QueueActor {
    fn drop(&mut self) {
        let error = self.client.gone(WHAT);
        for seat in self.seats.values() {
            if let Some(waiter) = seat.waiter.upgrade() {
                waiter.failed(error.clone());
            }
        }
    }
}

impl Handler<Expect> for QueueActor {
    type Result = ();

    fn handle(&mut self, _: Expect, ctx: &mut Context<Self>) {
        self.visited = true;
        self.stand(ctx);
    }
}

impl Handler<Enter> for QueueActor {
    type Result = ();

    fn handle(&mut self, enter: Enter, ctx: &mut Context<Self>) {
        let Enter { own, before, waiter } = enter;
        self.is_of(before.cluster_id, ctx);
        let far = self.is_far_back(&own, &before);
        self.seats.insert(own.key.clone(), Seat { waiter, long_way: None });
        if far {
            self.take_the_long_way(own, before, ctx);
            return;
        }
        self.stand(ctx);
        let at_once = before.admits(&own);
        let Before { listing, complete, .. } = before;
        let Own { key, created, rule, .. } = own;
        self.queue.enter(key.clone(), created, rule, listing, complete);
        if at_once {
            self.tell(&key, |waiter| waiter.turn(&key));
        }
        self.drive(ctx);
        self.count_ahead();
    }
}

impl Handler<Leave> for QueueActor {
    type Result = ();

    fn handle(&mut self, Leave(key): Leave, ctx: &mut Context<Self>) {
        if let Some(handle) = self.seats.remove(&key).and_then(|seat| seat.long_way) {
            ctx.cancel_future(handle);
        }
        self.queue.leave(&key);
        if self.queue.is_idle() && self.queue.len() > LONG {
            self.give_up_watch(ctx);
        } else if self.queue.is_idle() && self.closing_time.is_none() {
            self.close_later(ctx);
        }
    }
}

impl Handler<Finish> for QueueActor {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl StreamHandler<Result<WatchResponse>> for QueueActor {
    fn handle(&mut self, told: Result<WatchResponse>, ctx: &mut Context<Self>) {
        match told {
            Ok(WatchResponse::Created { revision }) => {
                self.outage = None;
                self.queue.watch_opened(revision);
            }
            Ok(WatchResponse::Events { events, .. }) => self.queue.handle_events(events),
            Ok(_) => {}
            Err(error) => {
                self.watch = None;
                self.queue.watch_lost();
                if error.kind() == ErrorKind::Compacted {
                    // What was missed is learnt from a listing.
                    self.stand(ctx);
                } else {
                    self.trouble(&error, ctx);
                }
            }
        }
        self.drive(ctx);
        self.count_ahead();
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // The error before it said so; the actor goes on.
    }
}

/// What came of following one predecessor after the other.
struct Walked {
    key: Bytes,
    step: long_way::Step,
}

impl StreamHandler<Walked> for QueueActor {
    fn handle(&mut self, Walked { key, step }: Walked, _: &mut Context<Self>) {
        self.tell(&key, |waiter| match step {
            long_way::Step::Turn => waiter.turn(&key),
            long_way::Step::Deleted => waiter.deleted(&key),
            long_way::Step::Rewritten(revision) => waiter.rewritten(&key, revision),
            long_way::Step::Failed(error) => waiter.failed(error),
        });
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // Other seats go on.
    }
}
