//! A command and whatever it starts: a process group.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use tokio::signal::unix::{self, SignalKind, signal};

/// The group, by the process that leads it: the command.
///
/// The command is not reaped before the group is done with: until then no other group can get its
/// number, and be killed in its place. Dropped before, the whole group is killed.
pub(crate) struct Group {
    leader: Child,
    pid: Pid,
    changes: unix::Signal,
}

impl Group {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let changes = signal(SignalKind::child())?;
        let leader = command.process_group(0).spawn()?;
        let pid = Pid::from_child(&leader);
        Ok(Self { leader, pid, changes })
    }

    pub(crate) fn id(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to all of the group.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match kill_process_group(self.pid, signal) {
            // Darwin says so when there are only dead ones left.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a signal to all of the group, and wakes those that are stopped to see it.
    pub(crate) fn tell(&self, signal: Signal) -> io::Result<()> {
        self.signal(signal)?;
        self.signal(Signal::CONT)
    }

    /// Waits until something happened to the command. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        self.changes.recv().await;
    }

    /// Whether the command has ended.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(self.pid), look)?.is_some())
    }

    /// The signal that stopped the command, once for each time.
    pub(crate) fn stopped_by(&self) -> io::Result<Option<i32>> {
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        match waitid(WaitId::Pid(self.pid), look) {
            // One that has ended cannot be stopped any more.
            Err(Errno::CHILD) => Ok(None),
            status => Ok(status?.and_then(|status| status.stopping_signal())),
        }
    }

    /// Whether a process of the group still runs. Those that a dead parent has not reaped do not.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_alive(&self) -> io::Result<bool> {
        for entry in std::fs::read_dir("/proc")? {
            // A process that ends meanwhile is none.
            let Ok(stat) = std::fs::read(entry?.path().join("stat")) else { continue };
            if let Some((state, group)) = state_and_group(&stat)
                && group == self.pid.as_raw_pid()
                && !matches!(state, b'Z' | b'X')
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a process of the group still runs: not known here, so all are killed, and then
    /// none does.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_alive(&self) -> io::Result<bool> {
        self.signal(Signal::KILL).map(|()| false)
    }

    /// How the command ended; waits for its end.
    pub(crate) fn reap(mut self) -> io::Result<ExitStatus> {
        self.leader.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Reaped already: its number may be another's by now.
        if self.has_ended().is_ok() {
            let _ = self.signal(Signal::KILL);
            let _ = self.leader.wait();
        }
    }
}

/// The third and the fifth field of /proc/<pid>/stat. The second is a name in parentheses with
/// anything in it.
#[cfg(target_os = "linux")]
fn state_and_group(stat: &[u8]) -> Option<(u8, i32)> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some((state, group))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        assert_eq!(state_and_group(b"12 (a) Z 1 (b)) S 7 34 5 0"), Some((b'S', 34)));
        assert_eq!(state_and_group(b"12 (\xff) R 7 -1 5 0"), Some((b'R', -1)));
        assert_eq!(state_and_group(b""), None);
    }
}
