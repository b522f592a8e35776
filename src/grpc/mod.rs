//! The service over gRPC: wire format, conversion both ways, statuses, calls, server.

mod call;
pub mod codec;
mod deadline;
mod hold;
mod observe;
mod reload;
pub(crate) mod request;
pub(crate) mod response;
mod server;
mod service;
mod shared;
pub(crate) mod status;
mod stream;

pub use self::{
    server::{ServeError, serve},
    status::ERROR_DOMAIN,
};
