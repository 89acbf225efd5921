//! Transactions that are done once, however often they are sent.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tenure_core::{EtcdError, Revision};
use tokio::sync::Semaphore;

use crate::{
    error::{Error, ErrorKind, LossReason, Result},
    ops::{Compare, Get, Header, OpResponse, Put, Txn, TxnResponse},
    recipes::claim::persist,
    session::{Life, Session},
};

/// So many transactions at once; more wait for one another.
const AT_ONCE: usize = 64;

/// Keys of the session, each of which is put by one transaction after the other: when it was put
/// last tells whether a transaction whose answer was lost was done, and a second copy of it is
/// refused.
///
/// There are as many as there were transactions at once, and they go with the session.
pub(super) struct Receipts {
    free: Mutex<Vec<Receipt>>,
    turns: Semaphore,
}

impl Default for Receipts {
    fn default() -> Self {
        Self { free: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

/// What a receipt says.
const DONE: &str = "done";
const VOID: &str = "void";

struct Receipt {
    life: Arc<Life>,
    key: Bytes,
    last: Revision,
}

/// What became of a transaction.
pub(super) enum Applied {
    Done(Revision),
    /// Its conditions do not hold; what its other branch read.
    Refused(Header, Vec<OpResponse>),
}

impl Receipts {
    /// Does a transaction at most once, and says whether it was done.
    ///
    /// Not cancel safe: dropped, it may or may not be done.
    ///
    /// # Errors
    ///
    /// `Lost` if the session is lost before anything was done, `Indeterminate` if that is not
    /// known then; what etcd refuses.
    pub(super) async fn apply(
        &self,
        what: &'static str,
        session: &Session,
        life: &Arc<Life>,
        txn: &Txn,
    ) -> Result<Applied> {
        let _turn = self.turns.acquire().await.map_err(|_| Error::closed(what))?;
        let mut receipt = self.receipt(life);
        let unanswered = AtomicBool::new(false);
        let call = Call { what, session, life, unanswered: &unanswered };
        let applied = match call.send(&mut receipt, txn, DONE).await? {
            Applied::Refused(header, read) if unanswered.load(Ordering::Acquire) => {
                // No copy that is under way can be done once the receipt is put.
                match call.send(&mut receipt, &Txn::new(), VOID).await? {
                    Applied::Refused(..) => Applied::Refused(header, read),
                    done => done,
                }
            }
            applied => applied,
        };
        self.pool().push(receipt);
        Ok(applied)
    }

    fn receipt(&self, life: &Arc<Life>) -> Receipt {
        let mut free = self.pool();
        free.retain(|receipt| Arc::ptr_eq(&receipt.life, life));
        free.pop().unwrap_or_else(|| {
            let key = format!("tenure/session/{}/{:x}", life.lease, life.nonce()).into();
            Receipt { life: Arc::clone(life), key, last: Revision::NONE }
        })
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Receipt>> {
        // Nothing in here can panic while it is held.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipt {
    /// The transaction, if none was done since the last one of this receipt.
    fn stamp(&self, txn: &Txn, mark: &'static str) -> Txn {
        let put = Put::new(self.key.clone(), mark).lease(self.life.lease);
        txn.clone()
            .when([Compare::mod_revision(self.key.clone()).equal(self.last)])
            .and_then([put])
            .or_else([Get::new(self.key.clone())])
    }
}

fn done(mark: &[u8], header: Header) -> Applied {
    if mark == DONE.as_bytes() {
        Applied::Done(header.revision)
    } else {
        Applied::Refused(header, Vec::new())
    }
}

/// A transaction as it is sent.
struct Call<'a> {
    what: &'static str,
    session: &'a Session,
    life: &'a Life,
    unanswered: &'a AtomicBool,
}

impl Call<'_> {
    async fn send(&self, receipt: &mut Receipt, txn: &Txn, mark: &'static str) -> Result<Applied> {
        loop {
            let answer = self.persist(&receipt.stamp(txn, mark)).await?;
            let header = answer.header;
            if answer.succeeded {
                receipt.last = header.revision;
                return Ok(done(mark.as_bytes(), header));
            }
            let mut read = answer.responses;
            let found = read.pop().and_then(OpResponse::into_get);
            let found = found.ok_or_else(crate::ops::other_kind)?.into_kv();
            let last = found.as_ref().map_or(Revision::NONE, |kv| kv.mod_revision);
            if last == receipt.last {
                return Ok(Applied::Refused(header, read));
            }
            let before = std::mem::replace(&mut receipt.last, last);
            match found {
                // An earlier copy was done.
                Some(kv) if last > before => {
                    return Ok(done(&kv.value, Header { revision: last, ..header }));
                }
                _ if self.unanswered.load(Ordering::Acquire) => return Err(self.unknown()),
                // Somebody deleted the receipt; nothing was done.
                _ => {}
            }
        }
    }

    async fn persist(&self, txn: &Txn) -> Result<TxnResponse> {
        let client = self.session.client();
        let lives = |_: &Error| self.life.is_held(client.now());
        let answer = persist(client, txn, self.unanswered, lives).await;
        match answer {
            Ok(answer) => {
                self.life.check_cluster(answer.header.cluster_id);
                match self.life.loss(client.now()) {
                    Some(reason) if !answer.succeeded => Err(Error::lost(self.what, reason)),
                    _ => Ok(answer),
                }
            }
            Err(error) if error.etcd_error() == Some(EtcdError::LeaseNotFound) => {
                self.life.end(LossReason::Revoked);
                match self.unanswered.load(Ordering::Acquire) {
                    true => Err(self.unknown()),
                    false => Err(Error::lost(self.what, LossReason::Revoked)),
                }
            }
            Err(_) if self.unanswered.load(Ordering::Acquire) => Err(self.unknown()),
            Err(error) => match self.life.loss(client.now()) {
                Some(reason) => Err(Error::lost(self.what, reason)),
                None => Err(error),
            },
        }
    }

    fn unknown(&self) -> Error {
        let text = "no answer came while the session lived";
        Error::new(ErrorKind::Indeterminate, self.what, text)
    }
}
