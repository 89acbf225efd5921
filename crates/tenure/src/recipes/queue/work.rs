//! What producers and consumers of one queue share.

use std::{collections::HashMap, sync::Arc};

use tenure_core::Revision;
use tokio::sync::Mutex;

use super::{layout::Layout, receipts::Receipts};
use crate::{
    client::{Client, Queue as Line},
    error::{Error, Result},
    recipes::claim::{Acquire, Held, Request, Stand},
    session::Session,
};

/// A queue, as one handle sees it.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) base: Arc<Base>,
    /// So many items may wait.
    pub(super) bound: Option<u64>,
    /// A job that failed so often is a dead letter.
    pub(super) max_attempts: Option<u32>,
}

pub(super) struct Base {
    pub(super) session: Session,
    pub(super) layout: Layout,
    pub(super) receipts: Receipts,
    /// Where each priority ends, as far as is known. Whoever appends has it meanwhile.
    pub(super) tails: Mutex<HashMap<u16, Tail>>,
    idle: Arc<Line>,
    full: Arc<Line>,
}

/// The end of the items of one priority.
#[derive(Clone, Copy, Default)]
pub(super) struct Tail {
    /// When the last one was appended.
    pub(super) moved: Revision,
    /// The number of the next.
    pub(super) next: u64,
}

/// What a wait for something to take or for room is called.
const PLACE: &str = "place in line";

impl Work {
    pub(super) fn new(session: &Session, layout: Layout) -> Self {
        let client = session.client();
        let line = |prefix| client.queues().of(client, &prefix);
        let base = Base {
            session: session.clone(),
            receipts: Receipts::default(),
            tails: Mutex::default(),
            idle: line(layout.idle()),
            full: line(layout.full()),
            layout,
        };
        Self { base: Arc::new(base), bound: None, max_attempts: None }
    }

    pub(super) fn session(&self) -> &Session {
        &self.base.session
    }

    pub(super) fn client(&self) -> &Client {
        self.base.session.client()
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.base.layout
    }

    /// Stands in line with other consumers that have nothing to do, until it is the first.
    pub(super) async fn first_of_the_idle(&self) -> Result<Held> {
        self.first_in(&self.base.idle).await
    }

    /// Stands in line with other producers that have no room, until it is the first.
    pub(super) async fn first_of_the_full(&self) -> Result<Held> {
        self.first_in(&self.base.full).await
    }

    async fn first_in(&self, line: &Arc<Line>) -> Result<Held> {
        // Places of an earlier process, with nobody in them, would stop all who are behind.
        let life = self.session().living(PLACE).await?;
        while let Some(left) = life.oldest_inherited(line.prefix()) {
            self.session().delete_inherited(&life, &left).await?;
        }
        let stand = Stand { one_by_one: true, ..Stand::in_line(Arc::clone(line)) };
        let request = Request::new(PLACE, self.session(), vec![stand]);
        Acquire::new(Ok(request), |held| held.ok_or_else(crate::ops::other_kind)).await
    }
}

/// The queue's settings that a handle was made with, or why it is of no use.
pub(super) fn bounded(work: Result<Work>, most: u64) -> Result<Work> {
    match (work, most) {
        (Ok(_), 0) => Err(Error::invalid("bound", "a queue must have room for one item")),
        (Ok(work), most) => Ok(Work { bound: Some(most), ..work }),
        (error, _) => error,
    }
}

pub(super) fn limited(work: Result<Work>, attempts: u32) -> Result<Work> {
    match (work, attempts) {
        (Ok(_), 0) => Err(Error::invalid("attempts", "there must be one at least")),
        (Ok(work), most) => Ok(Work { max_attempts: Some(most), ..work }),
        (error, _) => error,
    }
}
