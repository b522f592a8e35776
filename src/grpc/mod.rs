//! The service over gRPC: wire format, conversion both ways, statuses, calls, server.

mod admin;
mod auth;
mod call;
pub mod codec;
mod deadline;
mod decompress;
mod farewell;
mod hold;
mod idle;
mod incoming;
mod limits;
mod observe;
mod reload;
pub(crate) mod request;
mod resets;
pub(crate) mod response;
mod server;
mod service;
mod shared;
mod stall;
pub(crate) mod status;
mod stream;
mod tls;
mod transport;
mod upload;

pub use self::{
    server::{ServeError, serve},
    status::ERROR_DOMAIN,
    tls::TlsError,
};
