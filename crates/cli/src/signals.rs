//! The signals that ask us to end.

use std::{io, task::Poll};

use futures::future::poll_fn;
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

use crate::exit::{self, Failure};

const ASK_TO_END: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT, from when this is made.
pub(crate) struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
    /// The last that can mean nothing but the end; SIGHUP can.
    told_to_end: Option<Signal>,
}

impl Signals {
    /// Those that whoever started us has ignored (`nohup`, a shell's `&`) stay ignored: here, and
    /// by what we start.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let ignored = ignored();
        let heeded = ASK_TO_END.into_iter().filter(|signal| ignored & bit(*signal) == 0);
        let streams = heeded.map(|heeded| {
            let stream = signal(SignalKind::from_raw(heeded.as_raw()))?;
            Ok((heeded, stream))
        });
        let streams = streams.collect::<io::Result<_>>().map_err(|error| {
            Failure::new(exit::OTHER, format!("cannot listen to signals: {error}"))
        })?;
        Ok(Self { streams, told_to_end: None })
    }

    /// The next one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        let signal = poll_fn(|cx| {
            let mut came = self.streams.iter_mut().filter_map(|(signal, stream)| {
                matches!(stream.poll_recv(cx), Poll::Ready(Some(()))).then_some(*signal)
            });
            came.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        if signal != Signal::HUP {
            self.told_to_end = Some(signal);
        }
        signal
    }

    /// Whether we were told to end, whatever was done about it.
    pub(crate) fn told_to_end(&self) -> Option<Signal> {
        self.told_to_end
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// Linux tells it in /proc; elsewhere none is taken for ignored.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
