//! A queue spoken to in messages, inside an actix System.

use std::time::Duration;

use actix::Actor;
use tenure::{
    ErrorKind, PriorityQueue, Queue, QueuedState,
    actor::{AckJob, EnqueueJob, NackJob, TakeJob, WorkQueueActor},
};
use tenure_testkit::{Server, eventually, on_each_server};

#[path = "support/lock.rs"]
mod lock;
#[path = "support/start.rs"]
mod start;

use lock::{ended, open};
use start::{SOON, start};

#[test]
fn items_are_put_taken_and_settled_by_messages() {
    actix::System::new().block_on(on_each_server(async |server: Server| {
        let (server, _) = start(&server).await;
        let client = server.connect().current_arbiter().connect().await.unwrap();
        let session = open(&client).await;
        let queue = Queue::new(&session, "q").bounded(2);
        let actor = WorkQueueActor::of(queue.clone()).start();
        for value in ["a", "b"] {
            actor.send(EnqueueJob::new(value)).await.unwrap().unwrap();
        }
        let error = actor.send(EnqueueJob::new("c")).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        let a = actor.send(TakeJob::new()).await.unwrap().unwrap();
        let b = actor.send(TakeJob::new()).await.unwrap().unwrap();
        assert_eq!((&a.value[..], a.attempts, &b.value[..]), (&b"a"[..], 1, &b"b"[..]));
        actor.send(AckJob(a.fence.clone())).await.unwrap().unwrap();
        let error = actor.send(AckJob(a.fence)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        actor.send(NackJob(b.fence.clone())).await.unwrap().unwrap();
        let again = actor.send(TakeJob::new()).await.unwrap().unwrap();
        assert_eq!((&again.value[..], again.attempts), (&b"b"[..], 2));
        assert!(again.fence > b.fence);

        // Who gives up gets nothing, and takes nothing.
        let soon = TakeJob::new().timeout(Duration::from_millis(50));
        assert_eq!(actor.send(soon).await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        drop(actor.send(TakeJob::new()));
        actor.do_send(TakeJob::new());
        let waiting = tokio::task::spawn_local(actor.send(TakeJob::new()));
        actor.send(EnqueueJob::new("d")).await.unwrap().unwrap();
        assert_eq!(&ended(waiting).await.unwrap().unwrap().value[..], b"d");

        // With the last address all goes back.
        drop(actor);
        let is_back = async || {
            let items = queue.items().await.unwrap();
            items.len() == 2 && items.iter().all(|item| item.state == QueuedState::Waiting)
        };
        eventually(SOON, "both are back", is_back).await;

        let queue = PriorityQueue::new(&session, "q");
        let actor = WorkQueueActor::of_priorities(queue).start();
        actor.send(EnqueueJob::new("late").priority(2)).await.unwrap().unwrap();
        actor.send(EnqueueJob::new("early").priority(1)).await.unwrap().unwrap();
        let job = actor.send(TakeJob::new()).await.unwrap().unwrap();
        assert_eq!(&job.value[..], b"early");
    }));
}
