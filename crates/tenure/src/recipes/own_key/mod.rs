//! A key of a session that stands for itself, in no queue: from the transaction that puts it to the
//! one that deletes it.

mod fenced;
mod held;
mod leave;
mod put;

use std::{
    pin::pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{self, BoxFuture, Either};
use serde::Serialize;
use tenure_core::{EtcdError, Event, Fence, KeyRange, Moment, Revision};
use uuid::Uuid;

pub use self::held::HeldKey;
use super::{claim::Progress, follow::Seen, holder::Holder};
use crate::{
    client::Client,
    error::{Error, LossReason, Result},
    ops::Compare,
    session::{Holding, Life, Session},
};

/// What is to be put, and what it is called in logs and errors.
pub(super) struct Spec {
    pub(super) what: &'static str,
    pub(super) key: Bytes,
    /// What tells the key from others of the session, if it is called by one.
    pub(super) nonce: Option<u32>,
    /// A key that is deleted with this one, by whomever it was put.
    pub(super) with_it: Option<Bytes>,
    pub(super) with_last: Option<WithLast>,
}

/// A key that goes with the last of a range.
pub(super) struct WithLast {
    pub(super) range: KeyRange,
    pub(super) key: Bytes,
}

/// A key of one session.
pub(crate) struct OwnKey {
    session: Session,
    life: Arc<Life>,
    spec: Spec,
    /// Who put it, for people to read; nobody else writes the same.
    value: String,
    progress: Arc<Progress>,
    /// The number under which the life remembers it.
    number: OnceLock<u64>,
    /// A copy of the transaction that puts the key may be under way that nobody waits for.
    unanswered: AtomicBool,
    created: AtomicI64,
    /// Its end is our doing from now on.
    leaving: AtomicBool,
    /// The key is surely not in etcd any more, and will not be.
    gone: AtomicBool,
}

/// How long to ask why a key is gone.
const ASKING: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Record {
    #[serde(flatten)]
    holder: Holder,
    id: String,
}

impl OwnKey {
    pub(super) fn new(
        session: &Session,
        life: &Arc<Life>,
        spec: Spec,
        progress: Arc<Progress>,
    ) -> Arc<Self> {
        progress.hangs_on(life);
        let record = Record { holder: Holder::of(session), id: Uuid::new_v4().to_string() };
        let own = Arc::new(Self {
            session: session.clone(),
            life: Arc::clone(life),
            spec,
            // Strings and numbers can always be written.
            value: serde_json::to_string(&record).unwrap_or(record.id),
            progress,
            number: OnceLock::new(),
            unanswered: AtomicBool::new(false),
            created: AtomicI64::new(0),
            leaving: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        let holding: Weak<dyn Holding> = Arc::downgrade(&own) as Weak<dyn Holding>;
        own.number.get_or_init(|| own.life.hold(holding));
        own
    }

    pub(super) fn what(&self) -> &'static str {
        self.spec.what
    }

    pub(super) fn client(&self) -> &Client {
        self.session.client()
    }

    fn now(&self) -> Moment {
        self.client().now()
    }

    pub(super) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    pub(super) fn key(&self) -> &Bytes {
        &self.spec.key
    }

    pub(super) fn created(&self) -> Revision {
        Revision(self.created.load(Ordering::Acquire))
    }

    /// What holds in etcd for as long as the key is as it was put.
    pub(super) fn ownership(&self) -> [Compare; 2] {
        let (key, created) = (self.key(), self.created());
        [Compare::create_revision(key).equal(created), Compare::mod_revision(key).equal(created)]
    }

    pub(super) fn fence(&self) -> Fence {
        Fence {
            cluster_id: self.life.cluster_id(),
            key: self.key().clone(),
            create_revision: self.created(),
            mod_revision: self.created(),
            lease: self.life.lease,
        }
    }

    /// It is ours as of now, if it still is.
    pub(super) fn hold(&self) -> Result<()> {
        self.progress.turn();
        let loss = match self.loss() {
            None if self.progress.held(self.fence()) => return Ok(()),
            loss => loss.or_else(|| self.loss()).unwrap_or(LossReason::KeyDeleted),
        };
        Err(Error::lost(self.what(), loss))
    }

    /// Why it is not held, if it is not.
    pub(super) fn loss(&self) -> Option<LossReason> {
        let itself = self.progress.final_loss();
        itself.or_else(|| self.life.loss(self.now())).or_else(|| self.progress.doubt_of())
    }

    fn deadline(&self) -> Moment {
        let over = self.progress.final_loss().or_else(|| self.progress.doubt_of()).is_some();
        if over { Moment::default() } else { self.life.deadline() }
    }

    /// Waits until it is held no longer. Cancel safe.
    pub(super) async fn lost(&self) -> LossReason {
        let itself = pin!(self.progress.ended());
        match future::select(itself, pin!(self.life.lost())).await {
            Either::Left((reason, _)) | Either::Right((reason, _)) => reason,
        }
    }

    fn lose(&self, reason: LossReason) {
        lose(self.what(), &self.progress, &self.fence(), reason);
    }

    /// Takes in what became of the key itself.
    pub(super) fn handle(&self, seen: &Seen) {
        if self.leaving.load(Ordering::Acquire) {
            return;
        }
        let (created, key) = (self.created(), self.key());
        let is = match seen {
            Seen::All { revision, .. } if *revision < created => None,
            Seen::All { kvs, .. } => Some(kvs.iter().find(|kv| kv.key == key)),
            // What is older is about one that was called so before.
            Seen::Changes(events) => {
                let ours = |event: &&Event| event.kv.key == key && event.kv.mod_revision >= created;
                let last = events.iter().rev().find(ours);
                last.map(|event| Some(&event.kv))
            }
        };
        match is {
            Some(Some(kv)) if kv.mod_revision == created => {}
            Some(Some(kv)) if kv.create_revision == created => self.lose(LossReason::TakenOver),
            Some(_) => self.ask_why(),
            None => {}
        }
    }

    /// The key is gone: was it the key that somebody deleted, or the lease? It is not held from now
    /// on, and the reason is told in a moment.
    pub(super) fn ask_why(&self) {
        if !self.progress.doubt() {
            return;
        }
        let (client, life) = (self.client().clone(), Arc::clone(&self.life));
        let (what, progress, fence) = (self.what(), Arc::clone(&self.progress), self.fence());
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

    /// Whether the key may still be in etcd, or get there.
    fn is_left_over(&self) -> bool {
        self.life.is_held(self.now()) && !self.gone.load(Ordering::Acquire)
    }

    /// Takes the key out of etcd, in the background.
    pub(super) fn withdraw(self: &Arc<Self>) {
        if self.is_left_over() {
            self.session.give_back(&self.life, Arc::clone(self) as Arc<dyn Holding>);
        }
    }
}

fn lose(what: &'static str, progress: &Progress, fence: &Fence, reason: LossReason) {
    if progress.lost(reason) {
        tracing::warn!(%fence, %reason, "{what} lost");
    }
}

impl Holding for OwnKey {
    fn name(&self) -> String {
        match self.created() {
            Revision::NONE => format!("{:?}, asked for", self.key()),
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

impl Drop for OwnKey {
    fn drop(&mut self) {
        if let Some(number) = self.number.get() {
            self.life.drop_holding(*number);
        }
    }
}
