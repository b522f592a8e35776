//! The contracts, generated from `proto/rasid`, and the JSON form of the public one.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, ReflectMessage, SerializeOptions};

/// Package `rasid.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("rasid.v1");
}

/// Packages under `rasid.admin`.
pub mod admin {
    /// Package `rasid.admin.v1`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("rasid.admin.v1");
    }
}

/// The contract as an encoded `google.protobuf.FileDescriptorSet`, with all it imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rasid.v1.binpb"));

/// The contract of `rasid.admin.v1` likewise, which the public server does not tell of.
pub const ADMIN_FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rasid.admin.v1.binpb"));

/// The contract's descriptors; includes `google.rpc` error details, so that `Any` in a status has a JSON form.
static POOL: LazyLock<Result<DescriptorPool, prost_reflect::DescriptorError>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET));

/// A failure to read or write the JSON form of a message.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The contract has no such message.
    #[error("the contract has no message {0}")]
    UnknownMessage(&'static str),
    /// The JSON is not that of the message.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The message does not fit its own descriptor.
    #[error("{0}")]
    Decode(#[from] prost::DecodeError),
}

fn dynamic(name: &'static str) -> Result<DynamicMessage, JsonError> {
    let pool = POOL.as_ref().map_err(|_| JsonError::UnknownMessage(name))?;
    let descriptor = pool.get_message_by_name(name).ok_or(JsonError::UnknownMessage(name))?;
    Ok(DynamicMessage::new(descriptor))
}

/// A message of type `rasid.v1.NAME` in proto3 JSON, on one line, fields at their default written too, so that every line has the same.
///
/// # Errors
/// If the contract has no such message.
pub fn to_json(name: &'static str, message: &impl Message) -> Result<String, JsonError> {
    let mut dynamic = dynamic(name)?;
    dynamic.transcode_from(message)?;
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    dynamic.serialize_with_options(&mut serializer, &SerializeOptions::new().skip_default_fields(false))?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

/// Reads a message of type `rasid.v1.NAME` from proto3 JSON; unknown fields are errors.
///
/// # Errors
/// If the text is not JSON, or not that of the message.
pub fn from_json<M: Message + Default>(name: &'static str, json: &str) -> Result<M, JsonError> {
    let descriptor = dynamic(name)?.descriptor();
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let dynamic = DynamicMessage::deserialize_with_options(descriptor, &mut deserializer, &DeserializeOptions::new())?;
    deserializer.end()?;
    Ok(dynamic.transcode_to()?)
}
