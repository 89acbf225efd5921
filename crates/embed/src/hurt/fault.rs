use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tenure::Code;

use super::Call;

/// Something that goes wrong with a call. Each applies to all calls, for ever, unless told
/// otherwise; of several that fit, the one injected first is it.
///
/// ```
/// use tenure::Code;
/// use tenure_embed::{Call, Embedded, Fault};
///
/// # async fn faults(server: Embedded) {
/// // The next put is applied, and nobody is told.
/// let lost = server.inject(Fault::lose_answer().on(Call::Put).times(1));
/// // Reads fail until the handle is dropped.
/// let refused = server.inject(
///     Fault::refuse(Code::Unavailable, "etcdserver: leader changed").on(Call::Range),
/// );
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it happens once it is injected"]
pub struct Fault {
    harm: Harm,
    call: Option<Call>,
    times: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Harm {
    Delay(Duration),
    Refuse(Code, String),
    LoseRequest,
    LoseAnswer,
    Ignore,
    Silence,
}

impl Fault {
    /// The call is carried out only after so long: also when its client has given it up by then.
    pub fn delay(time: Duration) -> Self {
        Self::new(Harm::Delay(time))
    }

    /// The call is not carried out: this is its answer.
    pub fn refuse(code: Code, text: impl Into<String>) -> Self {
        Self::new(Harm::Refuse(code, text.into()))
    }

    /// The connection breaks before the call is carried out.
    pub fn lose_request() -> Self {
        Self::new(Harm::LoseRequest)
    }

    /// The call is carried out, and the connection breaks in place of the answer.
    pub fn lose_answer() -> Self {
        Self::new(Harm::LoseAnswer)
    }

    /// The call is not carried out, and no answer comes: the connection lives.
    pub fn ignore() -> Self {
        Self::new(Harm::Ignore)
    }

    /// The call is carried out, and no answer comes: the connection lives.
    pub fn silence() -> Self {
        Self::new(Harm::Silence)
    }

    /// Only with this call.
    pub fn on(mut self, call: Call) -> Self {
        self.call = Some(call);
        self
    }

    /// Only so many times.
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    fn new(harm: Harm) -> Self {
        Self { harm, call: None, times: None }
    }

    /// What becomes of this call, which counts as one time.
    fn strike(&mut self, path: &str) -> Option<Harm> {
        if self.call.is_some_and(|call| call.path() != path) || self.times == Some(0) {
            return None;
        }
        self.times = self.times.map(|times| times - 1);
        Some(self.harm.clone())
    }
}

/// A fault that was injected; dropping it ends it.
#[derive(Debug)]
#[must_use = "dropping it ends the fault"]
pub struct Injected {
    id: u64,
    faults: Weak<Mutex<Active>>,
}

impl Injected {
    /// Leaves the fault there when the handle is gone.
    pub fn forget(mut self) {
        self.faults = Weak::new();
    }

    /// Whether it has happened as often as it was to.
    pub fn is_spent(&self) -> bool {
        let Some(faults) = self.faults.upgrade() else { return false };
        let active = lock(&faults);
        active.all.iter().any(|(id, fault)| *id == self.id && fault.times == Some(0))
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        if let Some(faults) = self.faults.upgrade() {
            lock(&faults).all.retain(|(id, _)| *id != self.id);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Active>>);

#[derive(Debug, Default)]
struct Active {
    next_id: u64,
    all: Vec<(u64, Fault)>,
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) -> Injected {
        let mut active = lock(&self.0);
        let id = active.next_id;
        active.next_id += 1;
        active.all.push((id, fault));
        Injected { id, faults: Arc::downgrade(&self.0) }
    }

    pub(crate) fn strike(&self, path: &str) -> Option<Harm> {
        lock(&self.0).all.iter_mut().find_map(|(_, fault)| fault.strike(path))
    }
}

fn lock(active: &Mutex<Active>) -> MutexGuard<'_, Active> {
    active.lock().unwrap_or_else(PoisonError::into_inner)
}
