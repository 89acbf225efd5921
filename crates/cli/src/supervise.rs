//! A command that runs for as long as something is held, and not longer.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::Signal;
use tenure::{ClaimState, Clock, Held, Moment};

use crate::{console::say, group::Group, signals::Signals, terminal::Terminal};

/// Timers only wake: the machine may have slept, and the clock of a lock counts that.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How often to look whether the rest of a group has ended, which nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why a command was stopped before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The lock was held until the end, and nobody could say for how much longer.
    InDanger,
    /// The lock was lost.
    Lost,
}

/// What to do about a command now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, before then.
    WaitUntil(Moment),
    AskToEnd,
    Kill,
}

/// At twice the grace before the deadline a command is asked to end, and once the grace is over,
/// or the deadline that near, killed. A lost lock has its deadline in the past.
fn step(now: Moment, deadline: Moment, grace: Duration, asked_at: Option<Moment>) -> Step {
    let last = deadline - grace;
    let kill_at = asked_at.map_or(last, |at| last.min(at + grace));
    if now >= kill_at {
        return Step::Kill;
    }
    match asked_at {
        Some(_) => Step::WaitUntil(kill_at),
        None if now >= last - grace => Step::AskToEnd,
        None => Step::WaitUntil(last - grace),
    }
}

/// What is watched over.
pub(crate) struct Supervision<'a> {
    /// What it is called for a person: `lock "jobs"`.
    pub(crate) what: String,
    pub(crate) guard: &'a Held,
    pub(crate) clock: &'a Clock,
    pub(crate) grace: Duration,
    pub(crate) terminal: Option<Terminal>,
}

/// How far the end of a group has come.
#[derive(Default)]
struct Ending {
    asked_at: Option<Moment>,
    killed: bool,
    why: Option<Stopped>,
}

impl Supervision<'_> {
    /// Waits until no process of the group runs any more, and sees to it that none outlives the
    /// lock. Signals go on to the group.
    pub(crate) async fn run(
        mut self,
        mut group: Group,
        signals: &mut Signals,
    ) -> io::Result<(ExitStatus, Option<Stopped>)> {
        let mut ending = Ending::default();
        loop {
            let command_ended = group.has_ended()?;
            if command_ended && !group.is_alive()? {
                break;
            }
            if command_ended && ending.asked_at.is_none() {
                // What it left behind would go on without the lock.
                self.ask_to_end(&group, &mut ending);
            }
            let wake_at = self.act(&group, &mut ending);
            self.mind_the_terminal(&group)?;
            let limit = if command_ended { LOOK_AGAIN } else { LONGEST_SLEEP };
            let nap = wake_at.since(self.clock.now()).min(limit);
            tokio::select! {
                () = group.changed(), if !command_ended => {}
                signal = signals.next() => group.tell(signal)?,
                _ = self.guard.lost(), if !ending.killed => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
        if let ClaimState::Lost { reason } = self.guard.state()
            && ending.why != Some(Stopped::Lost)
        {
            ending.why = Some(Stopped::Lost);
            say(format!("the {} was lost while the command ran: {reason}", self.what));
        }
        Ok((group.reap()?, ending.why))
    }

    /// Does what is due, and tells when there may be more to do.
    fn act(&self, group: &Group, ending: &mut Ending) -> Moment {
        let now = self.clock.now();
        match step(now, self.guard.deadline(), self.grace, ending.asked_at) {
            Step::WaitUntil(moment) => moment,
            Step::AskToEnd => {
                self.ask_to_end(group, ending);
                ending.why = Some(Stopped::InDanger);
                let left = self.guard.deadline().since(now);
                say(format!(
                    "etcd does not answer: the {} is lost in {left:.1?} if that lasts; the command \
                     is told to end (SIGTERM)",
                    self.what
                ));
                now
            }
            Step::Kill => {
                self.kill(group, ending);
                Moment::FAR_FUTURE
            }
        }
    }

    fn ask_to_end(&self, group: &Group, ending: &mut Ending) {
        // Whom a signal does not reach is told below, when it is killed.
        let _ = group.tell(Signal::TERM);
        ending.asked_at = Some(self.clock.now());
    }

    fn kill(&self, group: &Group, ending: &mut Ending) {
        // First of all, before any word of it. Again and again is the same.
        let killed = group.signal(Signal::KILL);
        if std::mem::replace(&mut ending.killed, true) {
            return;
        }
        let how = match killed {
            Ok(()) => "killed (SIGKILL)".to_owned(),
            Err(error) => format!("NOT all killed: {error}"),
        };
        let what = &self.what;
        say(match (self.guard.state(), ending.why) {
            (ClaimState::Lost { reason }, _) => {
                ending.why = Some(Stopped::Lost);
                format!("the {what} is lost: {reason}; the command was {how}")
            }
            (_, Some(_)) => format!("the command was {how} before the {what} could be lost"),
            (_, None) => format!("what the command left behind was {how}"),
        });
    }

    fn mind_the_terminal(&mut self, group: &Group) -> io::Result<()> {
        let stop = group.stopped_by()?.and_then(Signal::from_named_raw);
        let Some(terminal) = &mut self.terminal else { return Ok(()) };
        match stop {
            Some(Signal::TSTP) if terminal.is_lent() => {
                group.signal(Signal::CONT)?;
                say("the command goes on: it cannot be suspended while what it runs under is held");
            }
            Some(Signal::TTIN | Signal::TTOU) if !terminal.lend(group.id()) => {
                say("the command is stopped: it wants the terminal, which is not ours now");
            }
            _ if terminal.is_ours_alone() => drop(terminal.lend(group.id())),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_command_is_asked_then_killed_before_the_deadline() {
        let (deadline, grace) = (at(100), Duration::from_secs(5));
        let step_at = |now, asked_at| step(at(now), deadline, grace, asked_at);
        assert_eq!(step_at(50, None), Step::WaitUntil(at(90)));
        assert_eq!(step_at(90, None), Step::AskToEnd);
        assert_eq!(step_at(90, Some(at(90))), Step::WaitUntil(at(95)));
        assert_eq!(step_at(95, Some(at(90))), Step::Kill);
        // Nobody was awake in between.
        assert_eq!(step_at(97, None), Step::Kill);
        assert_eq!(step_at(1000, None), Step::Kill);
    }

    #[test]
    fn whoever_was_asked_has_the_grace_and_no_more() {
        let grace = Duration::from_secs(5);
        // Renewed after all, or only asked because the command is over.
        assert_eq!(step(at(92), at(200), grace, Some(at(90))), Step::WaitUntil(at(95)));
        assert_eq!(step(at(95), at(200), grace, Some(at(90))), Step::Kill);
        // Asked late.
        assert_eq!(step(at(94), at(100), grace, Some(at(93))), Step::WaitUntil(at(95)));
    }

    #[test]
    fn a_lost_lock_kills() {
        let lost = Moment::default();
        assert_eq!(step(at(1), lost, Duration::from_secs(5), None), Step::Kill);
        assert_eq!(step(at(1), lost, Duration::from_secs(5), Some(at(1))), Step::Kill);
    }
}
