//! Words on stderr that never hold anybody up.
//!
//! Whoever reads them may stand still (a pager, a full pipe), and neither the killing of a command
//! nor the renewal of its lock can wait for that. So a thread of its own writes, and what it
//! cannot keep up with is left out.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// How many lines may lie unwritten.
const LINES: usize = 256;

static QUEUE: OnceLock<SyncSender<Line>> = OnceLock::new();

enum Line {
    Text(Vec<u8>),
    /// The last one: answered when all before it is written.
    End(SyncSender<()>),
}

/// What [`start`] began.
pub(crate) struct Console;

/// Starts the thread.
pub(crate) fn start() -> Console {
    let (queue, lines) = sync_channel(LINES);
    if thread::Builder::new().name("stderr".into()).spawn(move || write_all(&lines)).is_ok() {
        // It is started once.
        let _ = QUEUE.set(queue);
    }
    Console
}

fn write_all(lines: &Receiver<Line>) {
    while let Ok(line) = lines.recv() {
        match line {
            // A stderr that is closed is what somebody wanted.
            Line::Text(text) => drop(io::stderr().write_all(&text)),
            Line::End(done) => drop(done.try_send(())),
        }
    }
}

impl Console {
    /// Waits until all is written, but not longer than `patience`.
    pub(crate) fn finish(self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if let Some(queue) = QUEUE.get()
            && queue.try_send(Line::End(done)).is_ok()
        {
            let _ = written.recv_timeout(patience);
        }
    }
}

/// Logs up to this level, from now on.
pub(crate) fn log(level: LevelFilter) {
    // What others log (the transport, above all) helps nobody here.
    let ours = Targets::new().with_target("tenure", level);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Writer);
    tracing_subscriber::registry().with(lines).with(ours).init();
}

/// Says something to the person who ran the command.
pub(crate) fn say(text: impl AsRef<str>) {
    let line = format!("tenure: {}\n", text.as_ref());
    // Never the thread's own business to fail.
    let _ = Writer.write(line.as_bytes());
}

/// Writes the lines of the log.
pub(crate) struct Writer;

impl Write for Writer {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if let Some(queue) = QUEUE.get() {
            // Full: left out.
            let _ = queue.try_send(Line::Text(text.to_vec()));
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
