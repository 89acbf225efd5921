//! Compiles `proto/` in Rust (protox), so that no protoc is needed on the machine.

use std::{env, error::Error, fs, path::PathBuf};

const ROOTS: [&str; 3] = ["etcd/rpc.proto", "etcd/v3lock.proto", "etcd/v3election.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(ROOTS)?;

    // The test of the wire table reads this; `compile_fds` would not write it.
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("etcd.fds"), compiler.encode_file_descriptor_set())?;

    // The client calls by path (transport::rpc), so generated client stubs would be dead code.
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(env::var_os("CARGO_FEATURE_SERVER_STUBS").is_some())
        .build_transport(false)
        .bytes(".")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
