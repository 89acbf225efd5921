use actix::{Actor, Context, Handler, Message, ResponseFuture};

use crate::{
    error::Result,
    ops::{CallOptions, Op, OpResponse},
    runtime::{Closing, Running, stop_at_close},
    transport::Transport,
};

/// Answers operations on the key space, for programs that speak in actix messages.
///
/// The handles do the same without it, on the caller's task.
pub struct KvActor {
    transport: Transport,
    closing: Closing,
    _running: Running,
}

impl KvActor {
    pub(crate) fn new(transport: Transport, closing: Closing, running: Running) -> Self {
        Self { transport, closing, _running: running }
    }
}

impl Actor for KvActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        stop_at_close(self.closing.clone(), ctx);
    }
}

/// Does one operation. The answer comes even if the actor ends meanwhile.
///
/// A mailbox does not hold back its senders; bound what you have in flight.
#[derive(Debug)]
pub struct Execute {
    /// What to do.
    pub op: Op,
    /// How to call.
    pub options: CallOptions,
}

impl Execute {
    /// With the client's default options.
    pub fn new(op: impl Into<Op>) -> Self {
        Self { op: op.into(), options: CallOptions::default() }
    }
}

impl Message for Execute {
    type Result = Result<OpResponse>;
}

impl Handler<Execute> for KvActor {
    type Result = ResponseFuture<Result<OpResponse>>;

    fn handle(&mut self, Execute { op, options }: Execute, _: &mut Context<Self>) -> Self::Result {
        Box::pin(self.transport.clone().execute(op, options))
    }
}
