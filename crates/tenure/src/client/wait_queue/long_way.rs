//! Waiting in a long queue: behind one predecessor after the other, so that a release wakes one
//! contender and not all of them.

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tenure_core::{EventKind, KeyRange, Revision, backoff::Outage};

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::{Order, SortBy},
};

/// The key that waits.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) key: Bytes,
    pub(super) created: Revision,
}

/// What the owner has to know.
pub(super) enum Step {
    Turn,
    Deleted,
    Rewritten(Revision),
    Failed(Error),
}

/// Where the walk stands.
enum Stage {
    /// Nobody was asked since the predecessor went.
    Look,
    /// Wait until this key is deleted; it was there at this revision.
    Behind(Bytes, Revision),
    /// The turn was said at this revision: watch the own key.
    Hold(Revision),
    Over,
}

/// Tells when the own key is the oldest, and then what others do to it.
pub(super) fn follow(
    client: Client,
    range: KeyRange,
    own: Own,
    predecessor: Option<Bytes>,
) -> impl Stream<Item = Step> + 'static {
    let stage = match predecessor {
        Some(predecessor) => Stage::Behind(predecessor, own.created),
        None => Stage::Look,
    };
    stream::unfold((client, range, own, stage), |(client, range, own, mut stage)| async move {
        let mut outage: Option<Outage> = None;
        loop {
            let went = match stage {
                Stage::Over => return None,
                Stage::Look => look(&client, &range, &own).await,
                Stage::Behind(ref key, seen) => wait(&client, key, seen).await,
                Stage::Hold(seen) => hold(&client, &own, seen).await,
            };
            let (next, step) = match went {
                Ok(went) => went,
                // What was missed is learnt by looking again.
                Err(error) if error.kind() == ErrorKind::Compacted => (Stage::Look, None),
                Err(error) if for_good(&error) && !matches!(stage, Stage::Hold(_)) => {
                    (Stage::Over, Some(Step::Failed(error)))
                }
                Err(error) => {
                    tracing::warn!(key = ?own.key, %error, "a queue cannot be followed");
                    let now = client.now();
                    let pause = outage.get_or_insert_with(|| Outage::new(now)).pause(now);
                    client.sleep(pause).await;
                    continue;
                }
            };
            stage = next;
            if let Some(step) = step {
                return Some((step, (client, range, own, stage)));
            }
        }
    })
    .boxed()
}

type Went = Result<(Stage, Option<Step>)>;

fn for_good(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::Unauthenticated | ErrorKind::Closed
    )
}

/// Asks, at one revision, whether the own key is there and who is just ahead of it: the two
/// youngest of those that are not younger.
async fn look(client: &Client, range: &KeyRange, own: &Own) -> Went {
    let answer = client
        .get(range.clone())
        .max_create_revision(own.created)
        .sort(SortBy::CreateRevision, Order::Descending)
        .limit(2)
        .keys_only()
        .await?;
    let revision = answer.header.revision;
    let mut found = answer.kvs.into_iter();
    let there = found.next().filter(|kv| kv.key == own.key && kv.create_revision == own.created);
    Ok(match (there, found.next()) {
        (None, _) => (Stage::Over, Some(Step::Deleted)),
        // Somebody resumed the session, and has this key now.
        (Some(kv), _) if kv.mod_revision > own.created => {
            (Stage::Hold(revision), Some(Step::Rewritten(kv.mod_revision)))
        }
        (Some(_), Some(predecessor)) => (Stage::Behind(predecessor.key, revision), None),
        (Some(_), None) => (Stage::Hold(revision), Some(Step::Turn)),
    })
}

/// Waits until a key that was there at `seen` is deleted.
async fn wait(client: &Client, key: &Bytes, seen: Revision) -> Went {
    let from = Revision(seen.0 + 1);
    let mut watch =
        client.watch(key.clone()).start_revision(from).without_puts().require_leader().open();
    while let Some(told) = watch.next().await {
        if !told?.events().is_empty() {
            return Ok((Stage::Look, None));
        }
    }
    Err(client.gone(WHAT))
}

/// Watches the own key, which was there at `seen`, until somebody touches it.
async fn hold(client: &Client, own: &Own, seen: Revision) -> Went {
    let from = Revision(seen.0 + 1);
    let mut watch = client.watch(own.key.clone()).start_revision(from).require_leader().open();
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
    Err(client.gone(WHAT))
}
