//! Compiles the contract, without protoc: protox is a protobuf compiler in Rust.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const CONTRACT: &str = "proto/rasid/v1/tagger_service.proto";
const ADMIN: &str = "proto/rasid/admin/v1/admin_service.proto";
const DETAILS: &str = "proto/google/rpc/error_details.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Apart, so that the public server does not tell of the other.
    for (name, file) in [("rasid.v1.binpb", CONTRACT), ("rasid.admin.v1.binpb", ADMIN)] {
        fs::write(out.join(name), protox::compile([file, DETAILS], ["proto"])?.encode_to_vec())?;
    }
    let descriptors = protox::compile([CONTRACT, ADMIN, DETAILS], ["proto"])?;
    tonic_prost_build::configure()
        // tonic-types has these messages, and the code that packs them into a status.
        .extern_path(".google.rpc", "::tonic_types::pb")
        .codec_path("crate::grpc::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
