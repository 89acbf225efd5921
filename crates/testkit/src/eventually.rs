use std::panic::Location;
use std::time::Duration;

use tokio::time::{sleep, timeout};

const POLL: Duration = Duration::from_millis(5);

/// What a probe of [`eventually`] may answer: `bool` (true: settled), or `Option<T>`.
pub trait Settles {
    /// What [`eventually`] returns.
    type Value;

    /// The value, or `None` while the state is not there yet.
    fn settled(self) -> Option<Self::Value>;
}

impl Settles for bool {
    type Value = ();

    fn settled(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Settles for Option<T> {
    type Value = T;

    fn settled(self) -> Self {
        self
    }
}

/// Asks `probe` every 5 ms until it answers `true` or `Some(value)`, and returns the value.
///
/// A probe that hangs is given up at the deadline too. Dropping the future stops the asking.
///
/// # Panics
///
/// When the state was not reached by `deadline`; the message holds `what` and the caller's place.
#[track_caller]
pub fn eventually<S: Settles>(
    deadline: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> S,
) -> impl Future<Output = S::Value> {
    let caller = Location::caller();
    async move {
        let settled = timeout(deadline, async {
            loop {
                if let Some(value) = probe().await.settled() {
                    return value;
                }
                sleep(POLL).await;
            }
        });
        let Ok(value) = settled.await else {
            panic!("{caller}: not within {deadline:?}: {what}");
        };
        value
    }
}
