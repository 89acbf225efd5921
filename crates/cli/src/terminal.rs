//! The terminal, which only one process group at a time can read.

use std::io::{IsTerminal, stdin, stdout};

use nix::sys::signal::{SigSet, Signal as Blocked};
use rustix::{
    io::Errno,
    process::{Pid, Signal, getpgrp, kill_process_group, test_kill_process_group},
    termios::{tcgetpgrp, tcsetpgrp},
};

/// The terminal that we were started from, if the command may have it. Taken back on drop.
pub(crate) struct Terminal {
    ours: Pid,
    alone: bool,
    lent_to: Option<Pid>,
}

impl Terminal {
    pub(crate) fn of_stdin() -> Option<Self> {
        let alone = stdout().is_terminal();
        stdin().is_terminal().then(|| Self { ours: getpgrp(), alone, lent_to: None })
    }

    /// Whether nobody else of our group needs it: a pager behind us in a pipeline would.
    pub(crate) fn is_ours_alone(&self) -> bool {
        self.alone
    }

    /// Gives it to a group, if we are in the foreground. Whoever of the group wanted it too early
    /// was stopped, and goes on.
    pub(crate) fn lend(&mut self, group: Pid) -> bool {
        let lent = tcgetpgrp(stdin()) == Ok(self.ours) && tcsetpgrp(stdin(), group).is_ok();
        if lent {
            self.lent_to = Some(group);
            // Nobody there any more: nobody to wake.
            let _ = kill_process_group(group, Signal::CONT);
        }
        lent
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.lent_to.is_some()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let Ok(holder) = tcgetpgrp(stdin()) else { return };
        let deserted = || test_kill_process_group(holder) == Err(Errno::SRCH);
        // A shell that has it by now keeps it.
        if self.is_lent() && (Some(holder) == self.lent_to || deserted()) {
            let mut background = SigSet::empty();
            background.add(Blocked::SIGTTOU);
            // Unblocked, the system would stop us for asking from the background.
            if background.thread_block().is_ok() {
                let _ = tcsetpgrp(stdin(), self.ours);
                let _ = background.thread_unblock();
            }
        }
    }
}
