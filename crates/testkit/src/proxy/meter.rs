use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::WriteHalf;
use tokio::time::{Instant, sleep_until};

use super::shared::Shared;

/// What one way of a link delivered, how fast it may, and how much more it will.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    delivered: u64,
    busy_until: Option<Instant>,
    cut_after: Option<u64>,
}

impl Meter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.state().delivered
    }

    pub(crate) fn cut_after(&self, bytes: Option<u64>) {
        self.state().cut_after = bytes;
    }

    /// Writes at the link's rate, up to the cut. At the cut every connection is reset.
    pub(crate) async fn write(
        &self,
        shared: &Shared,
        mut bytes: &[u8],
        to: &mut WriteHalf<'_>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let rate = shared.rules.borrow().rate;
            let length = bytes.len().min(rate.map_or(usize::MAX, piece));
            if let Some(rate) = rate {
                sleep_until(self.book(length, rate)).await;
            }
            let (length, cut) = self.allowed(length);
            to.write_all(&bytes[..length]).await?;
            self.state().delivered += length as u64;
            if cut {
                shared.links.reset(|_| true);
                return Err(ErrorKind::ConnectionReset.into());
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// The instant at which `length` more bytes are through, behind those of other connections.
    fn book(&self, length: usize, rate: NonZeroU64) -> Instant {
        let takes = Duration::from_secs_f64(length as f64 / rate.get() as f64);
        let mut state = self.state();
        let now = Instant::now();
        let through = state.busy_until.map_or(now, |busy| busy.max(now)) + takes;
        state.busy_until = Some(through);
        through
    }

    /// How many of `length` bytes come before the cut, and whether the cut is behind them.
    fn allowed(&self, length: usize) -> (usize, bool) {
        let mut state = self.state();
        let Some(left) = state.cut_after else { return (length, false) };
        match left.checked_sub(length as u64) {
            Some(left) if left > 0 => {
                state.cut_after = Some(left);
                (length, false)
            }
            _ => {
                state.cut_after = None;
                (usize::try_from(left).unwrap_or(length), true)
            }
        }
    }
}

/// A twentieth of a second's worth, so that a slow link is slow, not jerky.
fn piece(rate: NonZeroU64) -> usize {
    usize::try_from(rate.get() / 20).unwrap_or(usize::MAX).max(1)
}
