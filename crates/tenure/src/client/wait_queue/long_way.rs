//! Waiting behind one predecessor after the other, so that a release wakes one contender and not all
//! of them: in a long queue, and in one whose every event would wake too many.

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tenure_core::{
    Event, EventKind, KeyRange, KeyValue, Revision, backoff::Outage, wait_queue::Rule,
};

use super::{Own, WHAT, room_key, room_of};
use crate::{
    client::{Client, WatchResponse},
    error::{Error, ErrorKind, Result},
    ops::{Get, Op, OpResponse, Order, SortBy},
};

/// What the owner has to know.
pub(super) enum Step {
    Turn,
    Deleted,
    Rewritten(Revision),
    Failed(Error),
}

/// Where the walk stands.
pub(super) enum Stage {
    /// Nobody was asked since the predecessor went.
    Look,
    /// Wait until something happens to this key; it was there, and waiting, at this revision.
    Behind(Bytes, Revision),
    /// Whoever is just ahead has its permits: wait for any that come back.
    Head(Ahead),
    /// The turn was said at this revision: watch the own key.
    Hold(Revision),
    Over,
}

/// One contender on its way.
pub(super) struct Walk {
    client: Client,
    /// The prefix of the queue.
    prefix: Bytes,
    own: Own,
    /// The newest put of the own key that its owner knows of.
    put: Revision,
}

impl Walk {
    pub(super) fn new(client: Client, prefix: Bytes, own: Own) -> Self {
        let put = own.created;
        Self { client, prefix, own, put }
    }

    /// Tells when it is the turn of the own key, and then what others do to it.
    pub(super) fn steps(self, stage: Stage) -> impl Stream<Item = Step> + 'static {
        stream::unfold((self, stage), |(mut walk, mut stage)| async move {
            let mut outage: Option<Outage> = None;
            loop {
                if let Stage::Hold(_) = stage {
                    // Whatever changes for those who wait.
                    walk.own.rule = Rule::Nobody;
                }
                let went = match stage {
                    Stage::Over => return None,
                    Stage::Look => walk.look().await,
                    Stage::Behind(ref key, seen) => walk.wait(key, seen).await,
                    Stage::Head(ref ahead) => walk.head(ahead.clone()).await,
                    Stage::Hold(seen) => walk.hold(seen).await,
                };
                let (next, step) = match went {
                    Ok(went) => went,
                    // What was missed is learnt by looking again.
                    Err(error) if error.kind() == ErrorKind::Compacted => (Stage::Look, None),
                    Err(error) if for_good(&error) && !matches!(stage, Stage::Hold(_)) => {
                        (Stage::Over, Some(Step::Failed(error)))
                    }
                    Err(error) => {
                        tracing::warn!(key = ?walk.own.key, %error, "a queue cannot be followed");
                        let now = walk.client.now();
                        let pause = outage.get_or_insert_with(|| Outage::new(now)).pause(now);
                        walk.client.sleep(pause).await;
                        continue;
                    }
                };
                stage = next;
                if let Some(step) = step {
                    return Some((step, (walk, stage)));
                }
            }
        })
        .boxed()
    }

    /// Asks, at one revision, whether the own key is there and who is ahead of it.
    async fn look(&mut self) -> Went {
        let own = &self.own;
        let mut reads: Vec<Op> = vec![Get::new(own.key.clone()).keys_only().into()];
        match &own.rule {
            Rule::Nobody => {}
            Rule::Everybody => reads.push(self.youngest(&self.prefix).into()),
            Rule::Under(prefix) => reads.push(self.youngest(prefix).into()),
            Rule::Room { under, .. } => {
                reads.push(Get::new(room_key(&self.prefix)).into());
                let all = self.older(under).sort(SortBy::CreateRevision, Order::Ascending);
                reads.push(all.into());
            }
        }
        let answer = self.client.txn().and_then(reads).await?;
        let revision = answer.header.revision;
        let mut read = answer.responses.into_iter().filter_map(OpResponse::into_get);
        let there = read.next().and_then(|get| get.into_kv());
        let there = there.filter(|kv| kv.create_revision == own.created);
        let Some(kv) = there else { return Ok((Stage::Over, Some(Step::Deleted))) };
        if kv.mod_revision > self.put {
            self.put = kv.mod_revision;
            return Ok((Stage::Look, Some(Step::Rewritten(kv.mod_revision))));
        }
        let ahead = match &own.rule {
            Rule::Room { .. } => {
                let room = read.next().and_then(|get| get.into_kv());
                let room = room.and_then(|kv| Some((kv.mod_revision, room_of(&kv.value)?)));
                let older = read.next().map(|get| get.kvs).unwrap_or_default();
                whom_to_follow(&own.rule, &older, room, revision)
            }
            _ => {
                read.next().and_then(|get| get.into_kv()).map(|kv| Stage::Behind(kv.key, revision))
            }
        };
        Ok(match ahead {
            Some(stage) => (stage, None),
            None => (Stage::Hold(revision), Some(Step::Turn)),
        })
    }

    /// Those under this prefix that are older.
    fn older(&self, prefix: &Bytes) -> Get {
        let before = Revision(self.own.created.0 - 1);
        Get::new(KeyRange::prefix(prefix.clone())).max_create_revision(before).keys_only()
    }

    fn youngest(&self, prefix: &Bytes) -> Get {
        self.older(prefix).sort(SortBy::CreateRevision, Order::Descending).limit(1)
    }

    /// Waits until something happens to a key that was there at `seen`: it is deleted, or, where
    /// permits are given, put again by an owner that has them now.
    async fn wait(&mut self, key: &Bytes, seen: Revision) -> Went {
        let watch = self.client.watch(key.clone());
        let watch = match self.own.rule {
            Rule::Room { .. } => watch,
            _ => watch.without_puts(),
        };
        let watch = match self.own.one_by_one {
            // In a short queue the predecessor may go at once, and etcd serves a watch that
            // begins in the past only every 100 ms.
            true => watch.created_notify(),
            false => watch.start_revision(Revision(seen.0 + 1)),
        };
        let mut watch = watch.require_leader().open();
        while let Some(told) = watch.next().await {
            match told? {
                WatchResponse::Created { revision } if revision > seen => {
                    match self.look().await? {
                        (Stage::Behind(ahead, _), None) if ahead == key => {}
                        went => return Ok(went),
                    }
                }
                WatchResponse::Events { .. } => return Ok((Stage::Look, None)),
                _ => {}
            }
        }
        Err(self.client.gone(WHAT))
    }

    /// Waits until enough permits come back, or there are more of them. The watches begin now and
    /// not in the past.
    async fn head(&mut self, mut ahead: Ahead) -> Went {
        let Rule::Room { under, .. } = &self.own.rule else { return Ok((Stage::Look, None)) };
        let returned = self.client.watch(KeyRange::prefix(under.clone())).without_puts();
        let resized = self.client.watch(room_key(&self.prefix));
        let [returned, resized] =
            [returned, resized].map(|watch| watch.require_leader().created_notify().open());
        let mut told = stream::select(returned, resized);
        let (mut opened, mut newest) = (0, ahead.seen);
        while let Some(told) = told.next().await {
            match told? {
                WatchResponse::Created { revision } => {
                    (opened, newest) = (opened + 1, newest.max(revision));
                    // Something may have happened since it looked.
                    if opened >= 2 && newest > ahead.seen {
                        ahead = match self.look().await? {
                            (Stage::Head(ahead), None) => ahead,
                            went => return Ok(went),
                        };
                    }
                }
                WatchResponse::Events { events, .. } if opened >= 2 => {
                    let seen = ahead.seen;
                    for event in events.iter().filter(|event| event.kv.mod_revision > seen) {
                        if event.kv.key == self.own.key {
                            return Ok((Stage::Over, Some(Step::Deleted)));
                        }
                        ahead.hear(event);
                        if ahead.admits(&self.own.rule) {
                            // The other watch may be behind: all of it as of one revision.
                            return Ok((Stage::Look, None));
                        }
                    }
                }
                WatchResponse::Events { .. } => newest = Revision(newest.0 + 1),
                _ => {}
            }
        }
        Err(self.client.gone(WHAT))
    }

    /// Watches the own key, which was there at `seen`, until somebody touches it.
    async fn hold(&self, seen: Revision) -> Went {
        let from = Revision(seen.0 + 1);
        let watch = self.client.watch(self.own.key.clone()).start_revision(from);
        let mut watch = watch.require_leader().open();
        while let Some(told) = watch.next().await {
            if let Some(event) = told?.events().last() {
                return Ok(match event.kind {
                    EventKind::Delete => (Stage::Over, Some(Step::Deleted)),
                    EventKind::Put => {
                        let revision = event.kv.mod_revision;
                        (Stage::Hold(revision), Some(Step::Rewritten(revision)))
                    }
                });
            }
        }
        Err(self.client.gone(WHAT))
    }
}

/// Who was ahead of a claim on permits, and how many there were.
#[derive(Clone)]
pub(super) struct Ahead {
    /// As of this revision.
    seen: Revision,
    older: Vec<Bytes>,
    room: Option<u64>,
}

impl Ahead {
    fn admits(&self, rule: &Rule) -> bool {
        rule.admits(self.older.iter(), self.room)
    }

    /// Permits came back, or their number changed.
    fn hear(&mut self, event: &Event) {
        match event.kind {
            EventKind::Delete => self.older.retain(|key| *key != event.kv.key),
            EventKind::Put => self.room = room_of(&event.kv.value),
        }
    }
}

type Went = Result<(Stage, Option<Step>)>;

fn for_good(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::Unauthenticated | ErrorKind::Closed
    )
}

/// Of all that are older, the oldest first, the one to wait for; none if there is room.
fn whom_to_follow(
    rule: &Rule,
    older: &[KeyValue],
    room: Option<(Revision, u64)>,
    seen: Revision,
) -> Option<Stage> {
    let (resized, room) = room.unzip();
    let keys = older.iter().map(|kv| kv.key.clone()).collect();
    let ahead = Ahead { seen, older: keys, room };
    if ahead.admits(rule) {
        return None;
    }
    let Some((last, before)) = older.split_last() else { return Some(Stage::Head(ahead)) };
    let has_its_own = rule.of(&last.key).admits(before.iter().map(|kv| &kv.key), room);
    // It says that it has its permits by putting its key again; and it may have had them when there
    // were more.
    let may_have = last.mod_revision > last.create_revision || resized > Some(last.create_revision);
    Some(match has_its_own || may_have {
        true => Stage::Head(ahead),
        false => Stage::Behind(last.key.clone(), seen),
    })
}
