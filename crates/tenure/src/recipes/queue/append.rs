//! Where the end of a queue is.

use std::collections::HashMap;

use bytes::Bytes;
use tenure_core::Revision;
use tokio::sync::MutexGuard;

use super::{
    layout::{Discipline, Layout, by_clock, by_number, number_of},
    receipts::Applied,
    work::{Tail, Work},
};
use crate::{
    error::{Error, ErrorKind, Result},
    ops::{Compare, Count, Get, GetResponse, Op, OpResponse, Put, SortBy, Txn},
};

/// The end of a queue, for one who appends.
pub(super) enum End<'a> {
    /// etcd's own order is the queue's.
    Newest,
    /// The order is that of the names, so that one appends after the other.
    After(u16, MutexGuard<'a, HashMap<u16, Tail>>),
}

/// A key that is the last if `when` holds, and what belongs to it.
#[derive(Default)]
pub(super) struct Spot {
    pub(super) key: Bytes,
    pub(super) when: Vec<Compare>,
    /// To be done with the put.
    pub(super) also: Vec<Op>,
    /// To be read if it does not hold, for [`End::moved`].
    pub(super) look: Vec<Op>,
}

impl End<'_> {
    pub(super) fn spot(&self, layout: &Layout, failures: u32) -> Spot {
        let (name, mut when, also, look) = match self {
            Self::Newest => (by_clock(failures), vec![], vec![], vec![]),
            Self::After(priority, tails) => {
                let tail = tails.get(priority).copied().unwrap_or_default();
                let book = layout.bookkeeping(*priority);
                let when = vec![Compare::mod_revision(book.clone()).equal(tail.moved)];
                let last = Get::new(layout.of_priority(*priority)).last(SortBy::Key);
                let look = vec![Get::new(book.clone()).keys_only(), last.keys_only()];
                let look = look.into_iter().map(Op::from).collect();
                let name = by_number(*priority, tail.next, failures);
                (name, when, vec![Put::new(book, "").into()], look)
            }
        };
        let key = layout.item(&name);
        when.push(Compare::missing(key.clone()));
        Spot { key, when, also, look }
    }

    /// The spot was taken by us, at this revision.
    pub(super) fn appended(&mut self, revision: Revision) {
        if let Self::After(priority, tails) = self {
            let tail = tails.entry(*priority).or_default();
            *tail = Tail { moved: revision, next: tail.next.saturating_add(1) };
        }
    }

    /// The end is elsewhere, as was read.
    pub(super) fn moved(&mut self, read: impl IntoIterator<Item = OpResponse>) -> Result<()> {
        let Self::After(priority, tails) = self else { return Ok(()) };
        let mut read = read.into_iter().filter_map(OpResponse::into_get).map(GetResponse::into_kv);
        let (Some(book), Some(last)) = (read.next(), read.next()) else {
            return Err(crate::ops::other_kind());
        };
        let next = match last {
            None => 0,
            Some(last) => number_of(&last.key).ok_or_else(no_item)?.saturating_add(1),
        };
        let moved = book.map_or(Revision::NONE, |kv| kv.mod_revision);
        tails.insert(*priority, Tail { moved, next });
        Ok(())
    }
}

fn no_item() -> Error {
    Error::new(ErrorKind::Protocol, "priority queue", "the last key of a priority has no number")
}

impl Work {
    pub(super) async fn end(&self, priority: u16) -> End<'_> {
        match self.layout().discipline {
            Discipline::Fifo => End::Newest,
            Discipline::Priority => End::After(priority, self.base.tails.lock().await),
        }
    }

    /// Puts an item at the end, and says where; nothing if the queue has no room.
    ///
    /// Not cancel safe: dropped, it may or may not be there.
    pub(super) async fn append(
        &self,
        what: &'static str,
        item: &Draft,
        bound: Option<u64>,
    ) -> Result<Option<Bytes>> {
        let life = self.session().living(what).await?;
        let mut end = self.end(item.priority).await;
        let mut counted = match bound {
            Some(_) => {
                let answer = self.client().count(self.layout().items()).await?;
                Some((answer.count, answer.header.revision))
            }
            None => None,
        };
        loop {
            if let (Some(most), Some((count, _))) = (bound, counted)
                && count >= most
            {
                return Ok(None);
            }
            let Spot { key, when, also, look } = end.spot(self.layout(), item.failures);
            // Nobody else has added anything since it was counted.
            let room = counted.map(|(_, at)| {
                Compare::create_revision(self.layout().items()).less(Revision(at.0 + 1))
            });
            let txn = Txn::new()
                .when(when.into_iter().chain(room))
                .and_then([Put::new(key.clone(), item.value.clone())])
                .and_then(also)
                .or_else(look)
                .or_else(room_look(self.layout(), bound));
            match self.base.receipts.apply(what, self.session(), &life, &txn).await? {
                Applied::Done(revision) => {
                    end.appended(revision);
                    return Ok(Some(key));
                }
                Applied::Refused(header, mut read) => {
                    if bound.is_some() {
                        let count = read.pop().and_then(OpResponse::into_get);
                        let count = count.ok_or_else(crate::ops::other_kind)?.count;
                        counted = Some((count, header.revision));
                    }
                    end.moved(read)?;
                }
            }
        }
    }
}

fn room_look(layout: &Layout, bound: Option<u64>) -> Option<Count> {
    bound.map(|_| Count::new(layout.items()))
}

/// An item that is to be put.
pub(super) struct Draft {
    /// What a queue without priorities does not look at.
    pub(super) priority: u16,
    pub(super) failures: u32,
    pub(super) value: Bytes,
}
