use std::{collections::HashMap, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, StreamHandler, fut::wrap_future,
};
use tenure_core::{
    EtcdError,
    watch::{Delivery, End, Item, WatchKey, Weight},
};
use tokio::sync::oneshot;

use super::{
    WatchRequest,
    lane::{Heard, Lane},
    queue::Feed,
};
use crate::{
    error::Error,
    ops::CallOptions,
    runtime::{Closing, Running, stop_at_close},
    transport::Transport,
};

/// The longest sleep: timers stand still in suspend, silence does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How often a refused watch is tried again with a fresh token.
const RETRIES: u8 = 2;

/// Runs all watches of a client over one stream, two where some require a leader.
pub(crate) struct WatchActor {
    transport: Transport,
    closing: Closing,
    _running: Running,
    lanes: [Lane; 2],
    subscribers: HashMap<u64, Subscriber>,
}

struct Subscriber {
    lane: usize,
    key: WatchKey,
    feed: Feed,
    interruptions: bool,
    retries: u8,
}

/// Start a watch.
pub(super) struct Subscribe {
    pub(super) id: u64,
    pub(super) request: WatchRequest,
    pub(super) feed: Feed,
}

/// The stream was dropped.
pub(super) struct Unsubscribe(pub(super) u64);

/// The subscriber took this much.
pub(super) struct Consumed {
    pub(super) id: u64,
    pub(super) weight: Weight,
}

/// Ask the server how far it is.
pub(super) struct RequestProgress;

/// Say why no server has accepted a watch so far, if that is known.
pub(super) struct WhyNot {
    pub(super) id: u64,
    pub(super) reply: oneshot::Sender<Option<Error>>,
}

impl Message for Subscribe {
    type Result = ();
}

impl Message for Unsubscribe {
    type Result = ();
}

impl Message for Consumed {
    type Result = ();
}

impl Message for RequestProgress {
    type Result = ();
}

impl Message for WhyNot {
    type Result = ();
}

impl WatchActor {
    pub(crate) fn new(transport: Transport, closing: Closing, running: Running) -> Self {
        let lanes = [
            Lane::new(transport.clone(), CallOptions::new()),
            Lane::new(transport.clone(), CallOptions::new().require_leader()),
        ];
        Self { transport, closing, _running: running, lanes, subscribers: HashMap::new() }
    }

    /// Carries out what a lane's registry wants, until it wants nothing more.
    fn drive(&mut self, place: usize, ctx: &mut Context<Self>) {
        self.lanes[place].write(place, ctx);
        while let Some(delivery) = self.lanes[place].registry.poll_delivery() {
            self.deliver(place, delivery, ctx);
        }
        // What was ended meanwhile may have been the last that wanted the stream.
        self.lanes[place].write(place, ctx);
        self.arm(place, ctx);
    }

    fn deliver(&mut self, place: usize, delivery: Delivery, ctx: &mut Context<Self>) {
        let Delivery { key, item } = delivery;
        let lane = &mut self.lanes[place];
        let Some(&id) = lane.subscribers.get(&key) else { return };
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        match item {
            Item::Refused { reason } => self.refused(place, id, reason, ctx),
            Item::End(_) => {
                subscriber.feed.push(item);
                lane.subscribers.remove(&key);
                self.subscribers.remove(&id);
            }
            item => {
                if matches!(item, Item::Created { .. } | Item::Resumed) {
                    subscriber.retries = 0;
                }
                if let Some(state) = lane.registry.state(key) {
                    subscriber.feed.state(state);
                }
                let interruption = matches!(item, Item::Interrupted | Item::Resumed);
                if !interruption || subscriber.interruptions {
                    subscriber.feed.push(item);
                }
            }
        }
    }

    /// A refusal may be due to a token that has expired, or is older than the auth store: the server
    /// says "permission denied" of those too. So that is believed only the second time.
    fn refused(&mut self, place: usize, id: u64, reason: String, ctx: &mut Context<Self>) {
        let lane = &mut self.lanes[place];
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        let doubtful = match EtcdError::from_text(&reason) {
            Some(error) if error.wants_token() => true,
            Some(EtcdError::PermissionDenied) => subscriber.retries == 0,
            _ => false,
        };
        let credentials = self.transport.shared.config.credentials.is_some();
        if !doubtful || !credentials || subscriber.retries >= RETRIES {
            lane.registry.end(subscriber.key, End::Refused { reason });
            return;
        }
        subscriber.retries += 1;
        lane.registry.retry(subscriber.key);
        let stale = lane.opened_with().unwrap_or(0);
        self.refresh(place, stale, ctx);
    }

    fn refresh(&mut self, place: usize, stale: u64, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.lanes[place].refreshing, true) {
            return;
        }
        let transport = self.transport.clone();
        let refresh = async move { transport.refresh_token("watch", stale).await };
        ctx.spawn(wrap_future(refresh).map(move |result, actor: &mut Self, ctx| {
            actor.lanes[place].refreshing = false;
            if let Err(error) = result {
                tracing::warn!(%error, "no fresh token for watches");
            }
            actor.lanes[place].reopen(ctx);
            actor.drive(place, ctx);
        }));
    }

    fn arm(&mut self, place: usize, ctx: &mut Context<Self>) {
        let now = self.transport.now();
        let lane = &mut self.lanes[place];
        let Some(next) = lane.next() else { return };
        // A timer that comes too early does no harm; most answers only move it back.
        if let Some((at, handle)) = lane.timer {
            if at <= next {
                return;
            }
            ctx.cancel_future(handle);
        }
        let sleep = next.since(now).min(LONGEST_SLEEP);
        let handle = ctx.run_later(sleep, move |actor, ctx| {
            let now = actor.transport.now();
            actor.lanes[place].timer = None;
            actor.lanes[place].registry.handle_timeout(now);
            actor.drive(place, ctx);
        });
        lane.timer = Some((now + sleep, handle));
    }
}

impl Actor for WatchActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        stop_at_close(self.closing.clone(), ctx);
    }
}

impl StreamHandler<Heard> for WatchActor {
    fn handle(&mut self, heard: Heard, ctx: &mut Context<Self>) {
        let place = heard.lane;
        if let Some(stale) = self.lanes[place].hear(heard, ctx)
            && self.transport.shared.config.credentials.is_some()
        {
            self.refresh(place, stale, ctx);
        }
        self.drive(place, ctx);
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // The error before it said so; the actor goes on.
    }
}

impl Handler<Subscribe> for WatchActor {
    type Result = ();

    fn handle(&mut self, Subscribe { id, request, feed }: Subscribe, ctx: &mut Context<Self>) {
        let place = usize::from(request.require_leader);
        let interruptions = request.interruptions;
        let lane = &mut self.lanes[place];
        let key = lane.registry.add(request.spec());
        lane.subscribers.insert(key, id);
        let subscriber = Subscriber { lane: place, key, feed, interruptions, retries: 0 };
        self.subscribers.insert(id, subscriber);
        self.drive(place, ctx);
    }
}

impl Handler<Unsubscribe> for WatchActor {
    type Result = ();

    fn handle(&mut self, Unsubscribe(id): Unsubscribe, ctx: &mut Context<Self>) {
        let Some(Subscriber { lane: place, key, .. }) = self.subscribers.remove(&id) else {
            return;
        };
        let lane = &mut self.lanes[place];
        lane.subscribers.remove(&key);
        lane.registry.remove(key);
        self.drive(place, ctx);
    }
}

impl Handler<Consumed> for WatchActor {
    type Result = ();

    fn handle(&mut self, Consumed { id, weight }: Consumed, ctx: &mut Context<Self>) {
        let Some(&Subscriber { lane: place, key, .. }) = self.subscribers.get(&id) else { return };
        self.lanes[place].registry.consumed(key, weight);
        self.drive(place, ctx);
    }
}

impl Handler<RequestProgress> for WatchActor {
    type Result = ();

    fn handle(&mut self, _: RequestProgress, ctx: &mut Context<Self>) {
        for place in 0..self.lanes.len() {
            self.lanes[place].registry.request_progress();
            self.drive(place, ctx);
        }
    }
}

impl Handler<WhyNot> for WatchActor {
    type Result = ();

    fn handle(&mut self, WhyNot { id, reply }: WhyNot, _: &mut Context<Self>) {
        let subscriber = self.subscribers.get(&id);
        // Whoever asked may have gone.
        let _ = reply.send(subscriber.and_then(|it| self.lanes[it.lane].trouble.clone()));
    }
}
