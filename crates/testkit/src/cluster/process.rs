use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A program that is started again and again with the same arguments, or not running.
#[derive(Debug)]
pub(crate) struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    paused: bool,
}

impl State {
    fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.paused = false;
        Ok(())
    }
}

impl Process {
    pub(crate) fn new(program: PathBuf, arguments: Vec<String>, log: PathBuf) -> Self {
        Self { program, arguments, log, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the program, after killing the one that runs.
    pub(crate) fn start(&self) -> io::Result<()> {
        let mut state = self.state();
        state.kill()?;
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        // etcd takes each flag from its environment too.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        state.child = Some(child);
        Ok(())
    }

    /// SIGKILL, which ends a paused process too, and waits for the end.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.state().kill()
    }

    /// SIGTERM. [`exited`](Self::exited) tells when it is done.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(&self.state(), Signal::TERM).map(drop)
    }

    /// SIGSTOP, and waits until the process stands still.
    pub(crate) fn pause(&self) -> io::Result<()> {
        let mut state = self.state();
        let pid = self.signal(&state, Signal::STOP)?;
        let seen = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), seen)?;
        state.paused = true;
        Ok(())
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) -> io::Result<()> {
        let mut state = self.state();
        self.signal(&state, Signal::CONT)?;
        state.paused = false;
        Ok(())
    }

    fn signal(&self, state: &State, signal: Signal) -> io::Result<Pid> {
        let child = state.child.as_ref().ok_or_else(|| io::Error::other("it does not run"))?;
        let pid = Pid::from_child(child);
        kill_process(pid, signal)?;
        Ok(pid)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.state().child.as_ref().map(Child::id)
    }

    /// Started, not known to have ended, and not paused.
    pub(crate) fn is_running(&self) -> bool {
        let state = self.state();
        state.child.is_some() && !state.paused
    }

    /// How it ended by itself, if it did. From then on it does not run.
    pub(crate) fn exited(&self) -> io::Result<Option<ExitStatus>> {
        let mut state = self.state();
        let Some(child) = &mut state.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            *state = State::default();
        }
        Ok(status)
    }

    /// All that it has printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure.
        let _ = self.kill();
    }
}
