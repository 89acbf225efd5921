//! One leader at a time, who says something of itself.

mod actor;
mod bound;
mod campaigner;
mod lead;
mod leadership;
mod leading;
mod observer;
mod reign;
mod work;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use tenure_core::Key;

pub use self::{
    actor::{Campaign, ElectionActor, LeadershipChanged, Proclaim, Resign, SubscribeLeadership},
    bound::{LeaderBound, RunningActor, StepDown},
    lead::Lead,
    leadership::{Leadership, TransferError},
    leading::{Health, LeadState, Leading},
    observer::{Leader, Observer},
    reign::Reign,
};
use super::{
    Contender,
    claim::{Acquire, Request, Stand},
    name::Kind,
};
use crate::{client::Queue, error::Result, ops::IntoValue, session::Session};

const KIND: Kind = Kind { path: "election", name: "election name", prefix: "election prefix" };
const WHAT: &str = "leadership";

/// An election: one of the candidates leads, among all processes that use the same etcd.
///
/// Whoever asked first leads first; the others wait in line. Each leader has a *term*, a number
/// higher than those of all leaders before, and a value that it may change and all can
/// [observe](Self::observe).
///
/// ```no_run
/// use tenure::{Election, Session};
///
/// # async fn example(session: Session) -> tenure::Result<()> {
/// let election = Election::new(&session, "scheduler");
/// let leadership = election.campaign("10.0.0.7:8080").await?;
/// println!("leading in term {}", leadership.term());
/// leadership.kv().put("scheduler/epoch", "7").await?; // refused once another one leads
/// leadership.resign().await?;
/// # Ok(())
/// # }
/// ```
///
/// Work that is to run only while leading is best left to [`lead`](Self::lead).
///
/// # Guarantees
///
/// Those of [`Mutex`](crate::Mutex): a leadership ends, by this process's own clock, before its
/// lease can expire in etcd, and its [fence](crate::Fence) is refused after. A candidate whose
/// session is lost is told so and never wins.
///
/// # Keys
///
/// `tenure/election/<name>/<lease>-<nonce>`, or a raw prefix ([`at`](Self::at)); the layout is that
/// of Go's `concurrency` package, `etcdctl elect` and etcd's own election service, so all of them
/// take part in one election. The value is the candidate's.
#[derive(Clone)]
pub struct Election {
    session: Session,
    queue: Result<Arc<Queue>>,
}

impl Election {
    /// The election of this name. Names are independent of one another, whatever is in them.
    ///
    /// A bad name (empty, or with a NUL) is told by [`campaign`](Self::campaign).
    pub fn new(session: &Session, name: impl AsRef<str>) -> Self {
        Self::on(session, KIND.prefix_of(name.as_ref()))
    }

    /// The election on a raw prefix, to share with programs in other languages: all keys under
    /// `<prefix>/` are candidates, as for Go's client and `etcdctl elect <prefix>`.
    pub fn at(session: &Session, prefix: impl Into<Key>) -> Self {
        Self::on(session, KIND.raw_prefix(prefix.into()))
    }

    fn on(session: &Session, prefix: Result<Bytes>) -> Self {
        let client = session.client();
        let queue = prefix.map(|prefix| client.queues().of(client, &prefix));
        Self { session: session.clone(), queue }
    }

    /// Stands as a candidate, with a value that all can read, and waits until it leads.
    /// [`timeout`](Acquire::timeout) limits the waiting; without it only the session does.
    ///
    /// In a session that was [resumed](Session::resume), the candidacy of the earlier process is
    /// continued: a leader still leads, in the same term, and with this value.
    ///
    /// Cancel safe: whoever drops the future either led, and resigns in the background, or never
    /// leads; its key is withdrawn.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name or a value that cannot be written, else those of
    /// [`Mutex::acquire`](crate::Mutex::acquire).
    pub fn campaign(&self, value: impl IntoValue) -> Acquire<Leadership> {
        Acquire::new(self.request(value), |held| {
            held.map(Leadership::new).ok_or_else(crate::ops::other_kind)
        })
    }

    /// Leads if there is no candidate; `None` otherwise, and nothing is left behind. Errors are
    /// those of [`campaign`](Self::campaign).
    pub fn try_campaign(&self, value: impl IntoValue) -> Acquire<Option<Leadership>> {
        let request = self.request(value).map(Request::only_try);
        Acquire::new(request, |held| Ok(held.map(Leadership::new)))
    }

    fn request(&self, value: impl IntoValue) -> Result<Request> {
        let value = value.into_value()?;
        let stand = Stand::in_line(self.queue.clone()?);
        Ok(Request::new(WHAT, &self.session, vec![stand]).value(value))
    }

    /// Runs `work` whenever this process leads, and at no other time.
    ///
    /// The work begins when the election is won. It is to end when
    /// [`Reign::stopping`] says so: because [`Leading::stop`] was called, or because renewals are
    /// overdue and the leadership may soon be lost. It has a while to ([`Lead::stop_within`]);
    /// then it is aborted. Only then does `is_leader` turn false, and only then is the leadership
    /// resigned, so that the next leader's work does not begin before this one has ended. When the
    /// leadership is lost without a warning (its key was deleted), the work is aborted at once.
    ///
    /// Work that returns or panics steps down, and so does work that does not end when told to:
    /// then the process stands again, after a pause that grows while its terms are short, and not
    /// before the old work is gone: never do two run in one process.
    ///
    /// ```no_run
    /// use tenure::{Election, Session};
    ///
    /// # async fn example(session: Session) -> tenure::Result<()> {
    /// let election = Election::new(&session, "scheduler");
    /// let leading = election
    ///     .lead(|reign| async move {
    ///         while !reign.is_stopping() {
    ///             // One step of the work, with `reign.kv()` for what it writes.
    ///         }
    ///     })
    ///     .value("10.0.0.7:8080")
    ///     .start()?;
    /// // When the process ends: the work first, the leadership then, the session last.
    /// leading.stop().await?;
    /// session.close().await
    /// # }
    /// ```
    pub fn lead<F, W>(&self, work: F) -> Lead<F>
    where
        F: FnMut(Arc<Reign>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let budget = Duration::from_secs(5);
        Lead { election: self.clone(), value: Ok(Bytes::new()), work, budget, once: false }
    }

    /// Who leads now, if anybody does.
    ///
    /// # Errors
    ///
    /// Those of [`Client::get`](crate::Client::get).
    pub async fn leader(&self) -> Result<Option<Leader>> {
        self.observer().leader().await
    }

    /// Who leads, from now on; see [`Observer::observe`].
    pub fn observe(&self) -> impl Stream<Item = Result<Option<Leader>>> + Send + Unpin + use<> {
        self.observer().observe()
    }

    /// The candidates in the order of their turns. The first leads.
    ///
    /// # Errors
    ///
    /// Those of [`Client::get`](crate::Client::get).
    pub async fn candidates(&self) -> Result<Vec<Contender>> {
        self.observer().candidates().await
    }

    /// The same election, for those who only look.
    pub fn observer(&self) -> Observer {
        let prefix = self.queue.clone().map(|queue| queue.prefix().clone());
        Observer::on(self.session.client(), prefix)
    }

    /// The session it is used with.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.queue.as_ref().map(|queue| queue.prefix().clone());
        f.debug_struct("Election").field("prefix", &prefix).finish_non_exhaustive()
    }
}
