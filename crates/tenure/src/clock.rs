//! The clock that deadlines are counted on.

use std::{fmt, sync::Arc};

use tenure_core::Moment;

/// Tells the time since an origin of its own.
///
/// A lease runs out on the server while this machine sleeps, so the default clock counts suspend:
/// `CLOCK_BOOTTIME` on Linux and Android. Elsewhere it is [`std::time::Instant`], which on some
/// systems stands still in suspend; there only the fence of a guard protects after a suspend.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Boot,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    Monotonic(std::time::Instant),
    Tokio(Arc<tokio::time::Instant>),
    Other(Arc<dyn Fn() -> Moment + Send + Sync>),
}

impl Clock {
    /// The clock of the machine, suspend included where the system can tell.
    pub fn boot() -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return Self(Source::Boot);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        return Self(Source::Monotonic(std::time::Instant::now()));
    }

    /// Tokio's clock, for tests that pause it. It stands still while the machine sleeps: not for
    /// production.
    pub fn tokio() -> Self {
        Self(Source::Tokio(Arc::new(tokio::time::Instant::now())))
    }

    /// Any clock that never goes back: of a simulator, or of a system whose suspend-counting clock
    /// this crate does not know. Deadlines are as right as it is.
    pub fn from_fn(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Source::Other(Arc::new(now)))
    }

    /// The time now. About 30 ns.
    pub fn now(&self) -> Moment {
        match &self.0 {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Source::Boot => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
                let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
                Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
            }
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Source::Monotonic(origin) => Moment::default() + origin.elapsed(),
            Source::Tokio(origin) => Moment::default() + origin.elapsed(),
            Source::Other(now) => now(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.0 {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Source::Boot => "boot",
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Source::Monotonic(_) => "monotonic",
            Source::Tokio(_) => "tokio",
            Source::Other(_) => "other",
        };
        f.debug_tuple("Clock").field(&source).finish()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::boot()
    }
}
