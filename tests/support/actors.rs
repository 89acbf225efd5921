//! What tests of actors begin with. It wants `support/start.rs` as `start`.

use actix::{Actor, Addr, Context, Handler, Message, Recipient};
use tenure::Client;
use tenure_testkit::{Server, TestServer, on_each_server};
use tokio::{sync::mpsc, time::timeout};

use crate::start::{SOON, start};

/// Runs `test` on each server, in a System, with all actors of the client in it.
pub(crate) fn in_actix(test: impl AsyncFn(&TestServer, Client)) {
    actix::System::new().block_on(on_each_server(async |server: Server| {
        let (server, _) = start(&server).await;
        let client = server.connect().current_arbiter().connect().await.unwrap();
        test(&server, client).await;
    }));
}

/// Keeps what it is told.
struct Ear<M>(mpsc::UnboundedSender<M>);

impl<M: Unpin + 'static> Actor for Ear<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Ear<M> {
    type Result = ();

    fn handle(&mut self, told: M, _: &mut Context<Self>) {
        // The test may have heard enough.
        let _ = self.0.send(told);
    }
}

/// Who listens, and what was heard.
pub(crate) struct Heard<M: Message<Result = ()> + Unpin + Send + 'static> {
    ear: Addr<Ear<M>>,
    told: mpsc::UnboundedReceiver<M>,
}

impl<M: Message<Result = ()> + Unpin + Send + 'static> Heard<M> {
    pub(crate) fn new() -> Self {
        let (sender, told) = mpsc::unbounded_channel();
        Self { ear: Ear(sender).start(), told }
    }

    pub(crate) fn recipient(&self) -> Recipient<M> {
        self.ear.clone().recipient()
    }

    pub(crate) async fn next(&mut self) -> M {
        timeout(SOON, self.told.recv()).await.expect("something is told").expect("it listens")
    }
}
