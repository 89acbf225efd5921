//! What goes wrong by chance, on the embedded server.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{future::pending, io, time::Duration};

use futures::future::{BoxFuture, FutureExt};
use tenure::{Code, Connector, Io};
use tenure_testkit::{
    Call, Embedded, Fault,
    embed::{Data, InProcess},
};
use tokio::{
    io::{copy_bidirectional, duplex},
    sync::watch,
    time::sleep,
};

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a storm has of chance.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    pub(crate) fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

/// The way of one client to the server, which can be cut: nobody hears anything then.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    server: InProcess,
    is_cut: watch::Sender<bool>,
}

impl Link {
    pub(crate) fn to(server: &Embedded) -> Self {
        Self { server: server.connector(), is_cut: watch::Sender::new(false) }
    }
}

impl Connector for Link {
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let (connecting, mut is_cut) = (self.server.connect(authority), self.is_cut.subscribe());
        async move {
            if *is_cut.borrow() {
                return pending().await;
            }
            let mut server = connecting.await?;
            let (client, mut ours) = duplex(64 * 1024);
            tokio::spawn(async move {
                tokio::select! {
                    // That it ends, both sides see.
                    _ = copy_bidirectional(&mut ours, &mut server) => return,
                    () = is_cut.wait_for(|cut| *cut).map(drop) => {}
                }
                // What was under way is lost, which is seen when the link is back.
                let _ = is_cut.wait_for(|cut| !*cut).await;
            });
            Ok(Box::new(client) as Box<dyn Io>)
        }
        .boxed()
    }
}

/// Whether leases are ended from outside, too: then two may believe for a moment, and the fence
/// alone keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Storm {
    OfFaults,
    OfFaultsAndRevocations,
}

/// One thing that goes wrong for a while.
pub(crate) async fn something_goes_wrong(
    server: &Embedded,
    links: &[Link],
    storm: Storm,
    chance: &mut Chance,
) {
    let calls = [Call::Txn, Call::Range, Call::Watch, Call::LeaseKeepAlive, Call::LeaseGrant];
    let call = calls[chance.below(5) as usize];
    let times = 1 + chance.below(3) as usize;
    // Some are longer than the leases.
    let longest = if chance.below(4) == 0 { 20_000 } else { 4_000 };
    let a_while = chance.millis(longest);
    let fault = match chance.below(16) {
        0 => Fault::lose_answer(),
        1 => Fault::lose_request(),
        2 => Fault::silence(),
        3 => Fault::ignore(),
        4 => Fault::delay(chance.millis(3_000)),
        5 => Fault::refuse(Code::Unavailable, "etcdserver: leader changed"),
        6 => return server.cut_connections(),
        7 => return server.cut_streams(),
        8 => {
            server.silence_streams(true);
            sleep(a_while).await;
            return server.silence_streams(false);
        }
        9 => {
            server.lose_leader();
            sleep(a_while).await;
            return server.change_leader();
        }
        10 => {
            server.refuse_connections().await;
            sleep(a_while).await;
            return server.accept_connections().await.unwrap();
        }
        11 => return server.restart(Data::Kept),
        12 if storm == Storm::OfFaultsAndRevocations => {
            let leases = server.client().await.unwrap().leases().await.unwrap().leases;
            let lease = leases.get(chance.below(8) as usize);
            lease.map(|lease| server.expire_lease(*lease));
            return;
        }
        _ => {
            let link = &links[chance.below(links.len() as u64) as usize];
            link.is_cut.send_replace(true);
            sleep(a_while).await;
            link.is_cut.send_replace(false);
            return;
        }
    };
    let injected = server.inject(fault.on(call).times(times));
    sleep(a_while).await;
    drop(injected);
}
