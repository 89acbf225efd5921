//! A lock by hand, on the generated code: two transactions, and one watch that stands. It checks
//! nothing that a lock must; it is there to show how far the server lets anybody get.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;

use crate::{
    Order,
    pb::{
        etcdserverpb::{
            Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
            TxnRequest, WatchCreateRequest, WatchRequest, compare::TargetUnion,
            kv_client::KvClient, lease_client::LeaseClient, request_op::Request,
            response_op::Response, watch_client::WatchClient, watch_request::RequestUnion,
        },
        mvccpb::event::EventType,
    },
    peers,
};

/// One contender's key.
pub struct BareLock {
    kv: KvClient<Channel>,
    queue: Arc<Queue>,
    key: Vec<u8>,
    lease: i64,
}

/// The keys of one name in the order of their creation, from one watch.
struct Queue {
    prefix: Vec<u8>,
    state: Mutex<State>,
    /// Kept, or the watch ends.
    _requests: Option<mpsc::UnboundedSender<WatchRequest>>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<i64, Vec<u8>>,
    waiting: BTreeMap<i64, oneshot::Sender<()>>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_first(&mut self) {
        let first = self.keys.keys().next();
        if let Some(waiter) = first.and_then(|first| self.waiting.remove(first)) {
            // Nobody of these gives up.
            let _ = waiter.send(());
        }
    }
}

/// A lock for each of these names; a watch only where somebody else may have the name, too.
pub async fn locks(order: &Order, names: &[String]) -> anyhow::Result<Vec<BareLock>> {
    let channel = peers::tonic(order).await?;
    let kv = KvClient::new(channel.clone());
    let shared = order.work != "lock";
    let mut queue = None;
    let mut locks = Vec::with_capacity(names.len());
    for (number, name) in names.iter().enumerate() {
        let prefix = format!("{name}/").into_bytes();
        let queue = match (&queue, shared) {
            (Some(queue), true) => Arc::clone(queue),
            (_, watched) => {
                let made = Queue::new(&channel, prefix, watched).await?;
                Arc::clone(queue.insert(made))
            }
        };
        let grant = LeaseGrantRequest { ttl: 300, id: 0 };
        let lease = LeaseClient::new(channel.clone()).lease_grant(grant).await?.into_inner().id;
        let key = format!("{name}/{lease:x}-{number}").into_bytes();
        locks.push(BareLock { kv: kv.clone(), queue, key, lease });
    }
    Ok(locks)
}

impl Queue {
    async fn new(channel: &Channel, prefix: Vec<u8>, watched: bool) -> anyhow::Result<Arc<Self>> {
        let state = Mutex::default();
        if !watched {
            return Ok(Arc::new(Self { prefix, state, _requests: None }));
        }
        let (sender, mut requests) = mpsc::unbounded_channel();
        let create = WatchCreateRequest {
            key: prefix.clone(),
            range_end: end_of(&prefix),
            ..WatchCreateRequest::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        sender.send(WatchRequest { request_union })?;
        let requests = futures::stream::poll_fn(move |cx| requests.poll_recv(cx));
        let mut stream = WatchClient::new(channel.clone()).watch(requests).await?.into_inner();
        stream.message().await?.context("no watch")?;
        let queue = Arc::new(Self { prefix, state, _requests: Some(sender) });
        let follower = Arc::downgrade(&queue);
        tokio::spawn(async move {
            while let Ok(Some(response)) = stream.message().await {
                let Some(queue) = follower.upgrade() else { return };
                let mut state = queue.lock();
                for event in response.events {
                    let kind = event.r#type();
                    let Some(kv) = event.kv else { continue };
                    match kind {
                        EventType::Put => drop(state.keys.insert(kv.create_revision, kv.key)),
                        EventType::Delete => state.keys.retain(|_, key| *key != kv.key),
                    }
                }
                state.wake_first();
            }
        });
        Ok(queue)
    }
}

/// The first key after all that begin so; a prefix of ours ends in a slash.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    end.pop();
    end.push(b'/' + 1);
    end
}

impl BareLock {
    pub async fn cycle(&mut self) -> anyhow::Result<()> {
        let (created, first) = self.enter().await?;
        if !first {
            let turn = {
                let mut state = self.queue.lock();
                let (sender, turn) = oneshot::channel();
                state.waiting.insert(created, sender);
                state.wake_first();
                turn
            };
            turn.await?;
        }
        let delete = DeleteRangeRequest { key: self.key.clone(), ..DeleteRangeRequest::default() };
        self.kv.delete_range(delete).await?;
        Ok(())
    }

    /// Puts the key; tells its revision, and whether it is the oldest.
    async fn enter(&mut self) -> anyhow::Result<(i64, bool)> {
        let missing = Compare {
            key: self.key.clone(),
            target: 1,
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        };
        let put = PutRequest { key: self.key.clone(), lease: self.lease, ..PutRequest::default() };
        let oldest = RangeRequest {
            key: self.queue.prefix.clone(),
            range_end: end_of(&self.queue.prefix),
            limit: 1,
            sort_order: 1,
            sort_target: 2,
            ..RangeRequest::default()
        };
        let requests = [Request::RequestPut(put), Request::RequestRange(oldest)];
        let success = requests.map(|request| RequestOp { request: Some(request) }).into();
        let txn = TxnRequest { compare: vec![missing], success, failure: Vec::new() };
        let answer = self.kv.txn(txn).await?.into_inner();
        let created = answer.header.context("no header")?.revision;
        let oldest = answer.responses.into_iter().find_map(|response| match response.response? {
            Response::ResponseRange(range) => range.kvs.into_iter().next(),
            _ => None,
        });
        Ok((created, oldest.context("no oldest key")?.create_revision == created))
    }
}
