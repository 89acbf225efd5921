//! The embedded server under test: the one place that knows how it is started.

use std::net::Ipv4Addr;

use tenure_embed::{Data, Embedded, EtcdFlags};

use super::cases::Timing;

/// Starts one with an empty store. `flags` are etcd's, each `--name=value`.
pub(crate) async fn start(flags: &[String], timing: Timing) -> Embedded {
    let builder = Embedded::builder().listen((Ipv4Addr::LOCALHOST, 0).into());
    let builder = match timing {
        Timing::Any => builder.fast(),
        Timing::Default => builder,
    };
    EtcdFlags::read(builder, flags).unwrap().builder.start().await.unwrap()
}

pub(crate) fn endpoint(embedded: &Embedded) -> String {
    embedded.endpoints().remove(0)
}

/// Ends it at once, and starts it again on the same port with its data.
pub(crate) fn restart(embedded: &Embedded) {
    embedded.restart(Data::Kept);
}
