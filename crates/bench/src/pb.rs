//! Tonic's own client of the project's definitions: the bare peer.

#![allow(dead_code, clippy::all, reason = "generated")]

pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
pub mod authpb {
    tonic::include_proto!("authpb");
}
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
