//! A claim: keys of a session, each in a queue or in none, from the transaction that puts them to the
//! one that deletes them. What all that is held has in common.

mod acquiring;
mod actor;
mod enter;
mod errand;
mod fenced;
mod held;
mod leave;
mod persist;
mod place;
mod progress;
mod request;
mod rewrite;
mod stage;
mod stand;
mod transfer;

use std::{
    pin::pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{self, BoxFuture, Either};
use tenure_core::{EtcdError, Fence, Moment, Revision, wait_queue::Rule};

pub use self::{
    acquiring::{Acquire, Acquiring},
    actor::ClaimActor,
    held::Held,
    leave::Release,
    stage::ClaimState,
};
pub(crate) use self::{
    actor::Kept,
    errand::Errand,
    persist::persist,
    progress::Progress,
    request::Request,
    stand::{Naming, Stand},
};
use self::{place::Place, rewrite::Writing};
use crate::{
    client::{Client, Waiter},
    error::{Error, LossReason, Result},
    ops::Compare,
    recipes::follow::Seen,
    session::{Holding, Life, Session},
};

/// Keys of one session, put by one transaction, each in its queue.
pub(crate) struct Claim {
    /// What it is called in logs and errors.
    what: &'static str,
    session: Session,
    life: Arc<Life>,
    /// What tells its keys from others of the session; none for a key of an earlier process.
    nonce: Option<u32>,
    places: Vec<Place>,
    errand: Arc<Errand>,
    progress: Arc<Progress>,
    /// The number under which the life remembers it.
    number: OnceLock<u64>,
    /// A copy of the transaction that puts the keys may be under way that nobody waits for.
    unanswered: AtomicBool,
    created: AtomicI64,
    modified: AtomicI64,
    /// Puts of its own, after the first.
    writing: Writing,
    /// Its end is our doing from now on.
    leaving: AtomicBool,
    /// The keys are surely not in etcd any more, and will not be.
    gone: AtomicBool,
    /// In so many queues somebody is still ahead.
    behind: AtomicUsize,
}

/// How long to ask why a key is gone.
const ASKING: Duration = Duration::from_secs(1);

impl Claim {
    fn new(
        what: &'static str,
        session: Session,
        life: Arc<Life>,
        nonce: Option<u32>,
        places: Vec<Place>,
        errand: Arc<Errand>,
        progress: Arc<Progress>,
    ) -> Arc<Self> {
        progress.hangs_on(&life);
        let behind = places.iter().filter(|place| place.queue.is_some()).count();
        let claim = Arc::new(Self {
            what,
            session,
            life,
            nonce,
            places,
            errand,
            progress,
            number: OnceLock::new(),
            unanswered: AtomicBool::new(false),
            created: AtomicI64::new(0),
            modified: AtomicI64::new(0),
            writing: Writing::default(),
            leaving: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            behind: AtomicUsize::new(behind),
        });
        let holding: Weak<dyn Holding> = Arc::downgrade(&claim) as Weak<dyn Holding>;
        claim.number.get_or_init(|| claim.life.hold(holding));
        claim
    }

    pub(crate) fn client(&self) -> &Client {
        self.session.client()
    }

    fn now(&self) -> Moment {
        self.client().now()
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    pub(crate) fn created(&self) -> Revision {
        Revision(self.created.load(Ordering::Acquire))
    }

    pub(crate) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    pub(crate) fn modified(&self) -> Revision {
        Revision(self.modified.load(Ordering::Acquire))
    }

    pub(crate) fn errand(&self) -> &Errand {
        &self.errand
    }

    /// One for each key, in the order of the names.
    pub(crate) fn fences(&self) -> impl Iterator<Item = Fence> + '_ {
        self.places.iter().map(|place| self.fence_of(&place.key))
    }

    fn fence_of(&self, key: &Bytes) -> Fence {
        Fence {
            cluster_id: self.life.cluster_id(),
            key: key.clone(),
            create_revision: self.created(),
            mod_revision: self.modified(),
            lease: self.life.lease,
        }
    }

    /// A claim has one key at least.
    pub(crate) fn fence(&self) -> Fence {
        self.fence_of(&self.places[0].key)
    }

    /// How many permits of a semaphore it is on.
    pub(crate) fn permits(&self) -> u32 {
        let needs = |place: &Place| match place.rule {
            Rule::Room { needs, .. } => needs,
            _ => 0,
        };
        self.places.iter().map(needs).sum()
    }

    /// The keys that are held or asked for.
    fn kept(&self) -> impl Iterator<Item = &Place> + Clone + '_ {
        self.places.iter().filter(|place| !place.given_up.load(Ordering::Acquire))
    }

    /// What holds in etcd for as long as this is held, the keys having been put last then.
    pub(crate) fn ownership(&self, modified: Revision) -> impl Iterator<Item = Compare> + '_ {
        self.kept().flat_map(move |place| {
            [
                Compare::create_revision(place.key.clone()).equal(self.created()),
                Compare::mod_revision(place.key.clone()).equal(modified),
            ]
        })
    }

    /// Why it is not held, if it is not.
    pub(crate) fn loss(&self) -> Option<LossReason> {
        let itself = self.progress.final_loss();
        itself.or_else(|| self.life.loss(self.now())).or_else(|| self.progress.doubt_of())
    }

    pub(crate) fn deadline(&self) -> Moment {
        let over = self.progress.final_loss().or_else(|| self.progress.doubt_of()).is_some();
        if over { Moment::default() } else { self.life.deadline() }
    }

    /// Waits until it is held no longer. Cancel safe.
    pub(crate) async fn lost(&self) -> LossReason {
        let itself = pin!(self.progress.ended());
        match future::select(itself, pin!(self.life.lost())).await {
            Either::Left((reason, _)) | Either::Right((reason, _)) => reason,
        }
    }

    /// It is held no longer, though the session may be.
    fn lose(&self, reason: LossReason) {
        lose(self.what, &self.progress, &self.fence(), reason);
    }

    /// Whether keys of it may still be in etcd, or get there.
    fn is_left_over(&self) -> bool {
        self.life.is_held(self.now()) && !self.gone.load(Ordering::Acquire)
    }

    /// A key of it is gone: was it the key that somebody deleted, or the lease? It is not held from
    /// now on, and the reason is told in a moment.
    fn ask_why(&self) {
        if !self.progress.doubt() {
            return;
        }
        let (client, life) = (self.client().clone(), Arc::clone(&self.life));
        let (what, progress, fence) = (self.what, Arc::clone(&self.progress), self.fence());
        self.client().spawn(async move {
            let asked = pin!(client.lease_keep_alive_once(life.lease));
            let limit = pin!(client.sleep(ASKING));
            let answer = future::select(asked, limit).await;
            if let Either::Left((Err(error), _)) = answer
                && error.etcd_error() == Some(EtcdError::LeaseNotFound)
            {
                life.end(LossReason::Revoked);
            }
            let reason = life.loss(client.now()).unwrap_or(LossReason::KeyDeleted);
            lose(what, &progress, &fence, reason);
        });
    }

    fn leave_queues(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        self.places.iter().for_each(Place::leave_queue);
    }

    /// Takes in what became of its key, which is in no queue.
    pub(in crate::recipes) fn handle(&self, seen: &Seen) {
        let key = &self.places[0].key;
        match seen.of(key) {
            // Of an earlier key of that name.
            Some(Some(kv)) if kv.mod_revision < self.created() => {}
            Some(Some(kv)) if kv.create_revision == self.created() => {
                self.rewritten(key, kv.mod_revision);
            }
            Some(_) => self.deleted(key),
            None => {}
        }
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    fn place(&self, key: &Bytes) -> Option<&Place> {
        self.places.iter().find(|place| place.key == key)
    }
}

fn lose(what: &'static str, progress: &Progress, fence: &Fence, reason: LossReason) {
    if progress.lost(reason) {
        tracing::warn!(%fence, %reason, "{what} lost");
    }
}

impl Waiter for Claim {
    fn turn(&self, key: &Bytes) {
        let first = self.place(key).is_some_and(|it| !it.has_turn.swap(true, Ordering::AcqRel));
        if first && self.behind.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.progress.turn();
        }
    }

    fn deleted(&self, _: &Bytes) {
        if !self.is_leaving() && !self.writing.is_deleted_by_us() {
            self.ask_why();
        }
    }

    fn rewritten(&self, _: &Bytes, revision: Revision) {
        if !self.is_leaving() && self.is_not_ours(revision) {
            self.lose(LossReason::TakenOver);
        }
    }

    fn failed(&self, error: Error) {
        self.progress.failed(error);
    }

    fn is_observed(&self) -> bool {
        self.progress.is_observed()
    }

    fn ahead(&self, key: &Bytes, count: usize) {
        if let Some(place) = self.place(key) {
            place.ahead.store(count, Ordering::Relaxed);
            let most = self.places.iter().map(|place| place.ahead.load(Ordering::Relaxed)).max();
            most.filter(|most| *most < usize::MAX).into_iter().for_each(|n| self.progress.ahead(n));
        }
    }
}

impl Holding for Claim {
    fn name(&self) -> String {
        match self.created() {
            Revision::NONE => format!("{:?}, waiting", self.places[0].key),
            _ => self.fence().to_string(),
        }
    }

    fn give_back(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            if !self.gone.load(Ordering::Acquire) {
                self.leave().await?;
            }
            Ok(())
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(number) = self.number.get() {
            self.life.drop_holding(*number);
        }
        // What left already may have its key's name in use again.
        if !self.gone.load(Ordering::Acquire) {
            self.leave_queues();
        }
    }
}
