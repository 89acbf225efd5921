use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, StreamHandler,
    fut::wrap_future,
};
use futures::StreamExt;
use tenure_core::{
    EtcdError, LeaseId, Moment,
    endpoints::Report,
    lease::{self, Kept, LeaseEvent, LeaseSchedule, Reopen},
};
use tokio::sync::oneshot;

use super::{KeepAlive, KeptLease, LeaseCalls, cell::LeaseCell, unanswered};
use crate::{
    client::conversation::Conversation,
    error::{Error, ErrorKind, LossReason, Result},
    runtime::{Closing, Running, stop_at_close},
    transport::{
        Transport,
        lease::{no_lease, renewal, renewed},
    },
    wire::etcdserverpb as pb,
};

/// A wake-up comes at least this often while anything is kept: timers stand still in suspend, the
/// deadlines do not.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Keeps leases alive: one stream and one timer for all of them.
pub(crate) struct LeaseActor {
    transport: Transport,
    closing: Closing,
    _running: Running,
    schedule: LeaseSchedule,
    kept: HashMap<LeaseId, Keeping>,
    /// Who waits for the next answer of a lease.
    waiting: HashMap<LeaseId, Vec<oneshot::Sender<Result<Duration>>>>,
    stream: Conversation<pb::LeaseKeepAliveRequest>,
    /// A fresh token is on its way; no stream is opened until it is there.
    refreshing: bool,
    /// The user was not let in, and nothing was answered since.
    denied: bool,
    timer: Option<(Moment, SpawnHandle)>,
}

struct Keeping {
    cell: Arc<LeaseCell>,
    /// The cluster that granted it, or that answered first.
    cluster_id: Option<u64>,
    /// How many handles want it kept; none where only one renewal was asked for.
    handles: usize,
}

/// Keep a lease alive. The answer is the handle itself: one that cannot be delivered is dropped,
/// and so forgotten.
pub(crate) struct Keep {
    pub(crate) calls: Arc<LeaseCalls>,
    pub(crate) lease: KeptLease,
    pub(crate) give_up_at: Moment,
    pub(crate) reply: oneshot::Sender<KeepAlive>,
}

/// A handle was dropped. The cell tells which life of the lease it belonged to.
pub(crate) struct Forget {
    pub(crate) id: LeaseId,
    pub(crate) cell: Arc<LeaseCell>,
}

/// Renew a lease once, now. Answers with its TTL.
pub(crate) struct RenewOnce {
    pub(crate) id: LeaseId,
    pub(crate) give_up_at: Moment,
    pub(crate) reply: oneshot::Sender<Result<Duration>>,
}

impl Message for Keep {
    type Result = ();
}

impl Message for Forget {
    type Result = ();
}

impl Message for RenewOnce {
    type Result = ();
}

impl LeaseActor {
    pub(crate) fn new(transport: Transport, closing: Closing, running: Running) -> Self {
        Self {
            transport,
            closing,
            _running: running,
            schedule: LeaseSchedule::new(),
            kept: HashMap::new(),
            waiting: HashMap::new(),
            stream: Conversation::new(),
            refreshing: false,
            denied: false,
            timer: None,
        }
    }

    /// Does what the schedule asks for, until it asks for nothing more.
    fn drive(&mut self, ctx: &mut Context<Self>) {
        let now = self.transport.now();
        loop {
            while self.stream.room() > 0
                && let Some(id) = self.schedule.poll_transmit(now)
            {
                if !self.stream.send(renewal(id)) {
                    self.schedule.stream_lost(now);
                    self.stream.fail(now, ctx);
                }
            }
            self.leave_a_bad_stream(now, ctx);
            if !self.wants_to_open() || self.stream.not_before() > now {
                break;
            }
            self.open(now, ctx);
        }
        while let Some(event) = self.schedule.poll_event() {
            self.tell(event);
        }
        if !self.schedule.wants_stream() && self.stream.close(ctx).is_some() {
            self.schedule.stream_lost(now);
        }
        self.arm(now, ctx);
    }

    fn leave_a_bad_stream(&mut self, now: Moment, ctx: &mut Context<Self>) {
        match self.schedule.poll_reopen() {
            None => {}
            Some(Reopen::Silent) => {
                if let Some(link) = self.stream.close(ctx) {
                    tracing::warn!(endpoint = %link.name(), "renewals are not answered");
                    self.transport.report(&link, Report::Slow);
                    self.stream.leave(link);
                }
            }
            Some(Reopen::OutOfOrder) => {
                if let Some(link) = self.stream.fail(now, ctx) {
                    tracing::error!(
                        endpoint = %link.name(), "a renewal was answered out of order"
                    );
                    self.transport.report(&link, Report::Garbled);
                }
            }
        }
    }

    fn wants_to_open(&self) -> bool {
        self.schedule.wants_stream() && !self.stream.is_open() && !self.refreshing
    }

    fn open(&mut self, now: Moment, ctx: &mut Context<Self>) {
        match self.transport.keep_alive_stream(self.stream.avoid()) {
            Ok((outgoing, incoming)) => {
                let number = self.stream.next_number();
                let (link, token) = (Arc::clone(&incoming.link), incoming.token);
                let reader = ctx.add_stream(incoming.map(move |answer| (number, answer)));
                self.stream.opened(outgoing, link, token, reader);
                self.schedule.stream_opened(now);
            }
            Err(error) => {
                tracing::warn!(%error, "no stream for renewals");
                self.stream.fail(now, ctx);
            }
        }
    }

    fn tell(&mut self, event: LeaseEvent) {
        match event {
            LeaseEvent::Renewed { id, deadline, ttl } => {
                if let Some(keeping) = self.kept.get(&id) {
                    keeping.cell.renewed(deadline, ttl);
                    if keeping.handles == 0 {
                        self.drop_lease(id);
                    }
                }
                self.answer(id, Ok(ttl));
            }
            LeaseEvent::Jeopardy { id, until } => {
                tracing::warn!(lease = %id, "the renewal of a lease is overdue");
                if let Some(keeping) = self.kept.get(&id) {
                    keeping.cell.endangered(until);
                }
            }
            LeaseEvent::Lost { id, reason } => {
                let (reason, error) = match reason {
                    lease::LossReason::Gone => {
                        let error = Error::etcd("lease keep alive", EtcdError::LeaseNotFound);
                        (LossReason::Revoked, error)
                    }
                    lease::LossReason::Expired if self.denied => {
                        (LossReason::AuthDenied, unanswered())
                    }
                    lease::LossReason::Expired => (LossReason::Expired, unanswered()),
                    lease::LossReason::Unanswered => (LossReason::Unanswered, unanswered()),
                };
                tracing::warn!(lease = %id, ?reason, "a lease is lost");
                if let Some(keeping) = self.kept.remove(&id) {
                    keeping.cell.lost(reason);
                }
                self.answer(id, Err(error));
            }
        }
    }

    /// A lease of another cluster is another lease, whatever its number.
    fn is_of(&mut self, id: LeaseId, cluster_id: u64) {
        let Some(keeping) = self.kept.get_mut(&id) else { return };
        let known = keeping.cluster_id.replace(cluster_id);
        if known.is_some_and(|known| known != cluster_id) {
            tracing::warn!(lease = %id, "another cluster answers a renewal");
            keeping.cell.lost(LossReason::ClusterChanged);
        }
    }

    fn answer(&mut self, id: LeaseId, result: Result<Duration>) {
        for waiting in self.waiting.remove(&id).into_iter().flatten() {
            // Whoever is gone has dropped its handle, which is told apart.
            let _ = waiting.send(result.clone());
        }
    }

    fn drop_lease(&mut self, id: LeaseId) {
        if let Some(keeping) = self.kept.remove(&id) {
            keeping.cell.lost(LossReason::Orphaned);
        }
        self.schedule.forget(id);
    }

    fn release(&mut self, id: LeaseId) {
        let Some(keeping) = self.kept.get_mut(&id) else { return };
        keeping.handles = keeping.handles.saturating_sub(1);
        if keeping.handles == 0 && !self.waiting.contains_key(&id) {
            self.drop_lease(id);
        }
    }

    fn arm(&mut self, now: Moment, ctx: &mut Context<Self>) {
        let reopen = self.wants_to_open().then(|| self.stream.not_before());
        let Some(next) = self.schedule.poll_timeout().into_iter().chain(reopen).min() else {
            return;
        };
        // A timer that comes too early does no harm; most answers only move it back.
        if let Some((at, handle)) = self.timer {
            if at <= next {
                return;
            }
            ctx.cancel_future(handle);
        }
        let sleep = next.since(now).min(LONGEST_SLEEP);
        let handle = ctx.run_later(sleep, |actor, ctx| {
            actor.timer = None;
            actor.schedule.handle_timeout(actor.transport.now());
            actor.drive(ctx);
        });
        self.timer = Some((now + sleep, handle));
    }

    fn stream_failed(&mut self, error: &Error, ctx: &mut Context<Self>) {
        let now = self.transport.now();
        tracing::debug!(%error, "the stream of renewals ended");
        let token = self.stream.opened_with().unwrap_or(0);
        self.denied |= is_denial(error);
        self.schedule.stream_lost(now);
        self.stream.fail(now, ctx);
        let stale = error.etcd_error().is_some_and(EtcdError::wants_token);
        if stale && self.transport.shared.config.credentials.is_some() && !self.refreshing {
            self.refreshing = true;
            let transport = self.transport.clone();
            let refresh = async move { transport.refresh_token("lease keep alive", token).await };
            ctx.spawn(wrap_future(refresh).map(|result, actor: &mut Self, ctx| {
                actor.refreshing = false;
                if let Err(error) = result {
                    tracing::warn!(%error, "no fresh token for renewals");
                    actor.denied |= is_denial(&error);
                }
                actor.drive(ctx);
            }));
        }
    }
}

/// Whether it is the user that is refused, rather than a token that is old.
fn is_denial(error: &Error) -> bool {
    let stale = error.etcd_error().is_some_and(EtcdError::wants_token);
    !stale && matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::PermissionDenied)
}

impl Actor for LeaseActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        stop_at_close(self.closing.clone(), ctx);
    }
}

impl Drop for LeaseActor {
    fn drop(&mut self) {
        let closing = self.closing.is_closing();
        let reason = if closing { LossReason::Closed } else { LossReason::Failed };
        for keeping in self.kept.values() {
            keeping.cell.lost(reason);
        }
    }
}

impl StreamHandler<(u64, Result<pb::LeaseKeepAliveResponse>)> for LeaseActor {
    fn handle(
        &mut self,
        (number, answer): (u64, Result<pb::LeaseKeepAliveResponse>),
        ctx: &mut Context<Self>,
    ) {
        if !self.stream.is_current(number) {
            return;
        }
        match answer {
            Ok(answer) => match renewed(&answer) {
                Some((id, ttl, cluster_id)) => {
                    self.stream.answered();
                    self.denied = false;
                    self.is_of(id, cluster_id);
                    self.schedule.handle_answer(self.transport.now(), id, ttl);
                }
                None => self.stream_failed(&no_lease("lease keep alive"), ctx),
            },
            Err(error) => self.stream_failed(&error, ctx),
        }
        self.drive(ctx);
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // The error before it said so; the actor goes on.
    }
}

impl Handler<Keep> for LeaseActor {
    type Result = ();

    fn handle(&mut self, keep: Keep, ctx: &mut Context<Self>) {
        let Keep { calls, lease: KeptLease { id, granted, cluster_id }, give_up_at, reply } = keep;
        let now = self.transport.now();
        let cell = match self.kept.get_mut(&id) {
            Some(keeping) => {
                keeping.handles += 1;
                Arc::clone(&keeping.cell)
            }
            None => {
                let cell = Arc::new(LeaseCell::new());
                let kept = match granted {
                    // What is left of an old grant, only the server knows.
                    Some((sent_at, ttl)) if lease::local_deadline(sent_at, ttl) > now => {
                        cell.renewed(lease::local_deadline(sent_at, ttl), ttl);
                        Kept::Granted { sent_at, ttl }
                    }
                    _ => Kept::Unknown { give_up_at },
                };
                let keeping = Keeping { cell: Arc::clone(&cell), cluster_id, handles: 1 };
                self.kept.insert(id, keeping);
                self.schedule.keep(now, id, kept);
                cell
            }
        };
        // Whoever is gone has the handle dropped here.
        let _ = reply.send(KeepAlive::new(calls, id, cell));
        self.drive(ctx);
    }
}

impl Handler<Forget> for LeaseActor {
    type Result = ();

    fn handle(&mut self, Forget { id, cell }: Forget, ctx: &mut Context<Self>) {
        if self.kept.get(&id).is_some_and(|keeping| Arc::ptr_eq(&keeping.cell, &cell)) {
            self.release(id);
            self.drive(ctx);
        }
    }
}

impl Handler<RenewOnce> for LeaseActor {
    type Result = ();

    fn handle(&mut self, once: RenewOnce, ctx: &mut Context<Self>) {
        let RenewOnce { id, give_up_at, reply } = once;
        let now = self.transport.now();
        match self.kept.entry(id) {
            Entry::Occupied(_) => self.schedule.renew_now(now, id),
            Entry::Vacant(vacant) => {
                let cell = Arc::new(LeaseCell::new());
                vacant.insert(Keeping { cell, cluster_id: None, handles: 0 });
                self.schedule.keep(now, id, Kept::Unknown { give_up_at });
            }
        }
        let waiting = self.waiting.entry(id).or_default();
        waiting.retain(|asked| !asked.is_closed());
        waiting.push(reply);
        self.drive(ctx);
    }
}
