use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{Claim, Errand, Naming, Stand, enter::Patience};
use crate::{error::Result, session::Session};

/// What to claim, and how.
pub(crate) struct Request {
    /// What it is called in logs and errors.
    pub(super) what: &'static str,
    pub(super) session: Session,
    pub(super) stands: Vec<Stand>,
    /// What the keys say; by default, who we are.
    pub(super) value: Option<Bytes>,
    pub(super) patience: Patience,
    pub(super) timeout: Option<Duration>,
    pub(super) errand: Arc<Errand>,
    /// What must be done before.
    pub(super) first: Option<First>,
    /// What must be waited for besides, the keys being there.
    pub(super) then: Option<Then>,
}

impl Request {
    pub(crate) fn new(what: &'static str, session: &Session, stands: Vec<Stand>) -> Self {
        Self::on(what, session, stands)
    }

    /// A key in no queue. Whoever has it [says](Claim::handle) what becomes of it.
    pub(crate) fn alone(
        what: &'static str,
        session: &Session,
        home: Bytes,
        naming: Naming,
        value: Bytes,
    ) -> Self {
        Self::on(what, session, vec![Stand::alone(home, naming)]).value(value)
    }

    fn on(what: &'static str, session: &Session, stands: Vec<Stand>) -> Self {
        let (session, patience) = (session.clone(), Patience::Wait);
        let errand = Arc::default();
        let (value, timeout, first, then) = (None, None, None, None);
        Self { what, session, stands, value, patience, timeout, errand, first, then }
    }

    /// What the keys say, in place of who we are.
    pub(crate) fn value(mut self, value: Bytes) -> Self {
        self.value = Some(value);
        self
    }

    /// What must be done before.
    pub(crate) fn first<F>(mut self, first: impl FnOnce() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.first = Some(Box::new(|| Box::pin(first())));
        self
    }

    /// What must be waited for besides, the keys being there.
    pub(crate) fn then<F>(
        mut self,
        then: impl FnOnce(Arc<Claim>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.then = Some(Box::new(|claim| Box::pin(then(claim))));
        self
    }

    /// What else is done when the key comes and goes.
    pub(crate) fn errand(mut self, errand: Errand) -> Self {
        self.errand = Arc::new(errand);
        self
    }

    /// Asks only whether it can be had at once.
    pub(crate) fn only_try(mut self) -> Self {
        self.patience = Patience::Try;
        self
    }
}

type First = Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send + Sync>;
type Then = Box<dyn FnOnce(Arc<Claim>) -> BoxFuture<'static, Result<()>> + Send + Sync>;
