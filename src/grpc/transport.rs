//! How HTTP/2 is spoken: the limits of every connection.

use tonic::transport::Server;

use crate::config::ConnectionSettings;

/// Resets that a connection may have pending before they are looked at: clients with short deadlines reset often, and h2's own limit of 20
/// would cut them off. How many there may be in the long run says [`super::resets`].
const MAX_PENDING_RESETS: usize = 1024;

/// Streams of a connection that may break the protocol. Without this number tonic sets no limit (RUSTSEC-2024-0003).
const MAX_ERROR_RESETS: usize = 1024;

/// Bytes that a client may send ahead on one stream: what a slow stream can hold in memory.
const STREAM_WINDOW: u32 = 64 << 10;

/// Bytes that a client may send ahead on one connection.
///
/// h2 (since 0.4.16) ends a connection whose unread DATA frames under 256 bytes would need more than half of this, counting 256 for each: a
/// stream of headlines waiting for its turn looks like that. With this window a connection holds about a dozen full streams of them.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A server without services, with the limits that are set.
pub fn server(settings: &ConnectionSettings) -> Server {
    let server = Server::builder()
        .http2_keepalive_interval(Some(settings.keepalive()))
        .http2_keepalive_timeout(Some(settings.keepalive_timeout()))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .http2_max_header_list_size(Some(settings.max_header_bytes))
        .max_concurrent_streams(settings.max_streams);
    match settings.age() {
        // Not tonic's grace: with it a connection is not asked to end, only cut off. Our own connections end themselves.
        Some((age, _)) => server.max_connection_age(age),
        None => server,
    }
}
