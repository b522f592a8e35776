//! Compiles the contract, without protoc: protox is a protobuf compiler in Rust.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const CONTRACT: &str = "proto/rasid/v1/tagger_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([CONTRACT, "proto/google/rpc/error_details.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("rasid.v1.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // tonic-types has these messages, and the code that packs them into a status.
        .extern_path(".google.rpc", "::tonic_types::pb")
        .codec_path("crate::grpc::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
