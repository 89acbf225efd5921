use std::num::NonZeroU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The half of a link that a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Requests and answers.
    Both,
    /// Requests only.
    ToServer,
    /// Answers only: the server does what it was asked, and the client does not hear of it.
    ToClient,
}

/// The way of one pump's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flow {
    #[default]
    Pass,
    Hold,
    Swallow,
}

/// What a link does to bytes now. The default is a clean link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) to_server: Flow,
    pub(crate) to_client: Flow,
    pub(crate) delay: Duration,
    pub(crate) rate: Option<NonZeroU64>,
}

impl Rules {
    pub(crate) fn set(&mut self, direction: Direction, flow: Flow) {
        if direction != Direction::ToClient {
            self.to_server = flow;
        }
        if direction != Direction::ToServer {
            self.to_client = flow;
        }
    }

    pub(crate) fn flow(&self, way: Way) -> Flow {
        match way {
            Way::ToServer => self.to_server,
            Way::ToClient => self.to_client,
        }
    }
}

/// Waits until what was read at `read_at` may go on. False: it is to be swallowed.
pub(crate) async fn released(
    rules: &mut watch::Receiver<Rules>,
    way: Way,
    read_at: Instant,
) -> bool {
    loop {
        let now = rules.borrow_and_update().clone();
        let due = read_at + now.delay;
        match now.flow(way) {
            Flow::Swallow => return false,
            Flow::Pass if due <= Instant::now() => return true,
            flow => {
                tokio::select! {
                    () = sleep_until(due), if flow == Flow::Pass => return true,
                    changed = rules.changed() => if changed.is_err() { return false },
                }
            }
        }
    }
}

/// Waits until the link swallows no more of this way.
pub(crate) async fn open_again(rules: &mut watch::Receiver<Rules>, way: Way) {
    // An error means that the proxy is gone, and this task with it.
    let _ = rules.wait_for(|rules| rules.flow(way) != Flow::Swallow).await;
}
