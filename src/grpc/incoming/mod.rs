//! Connections: who gets one, for how long, and what it must say first.
//!
//! A connection takes a seat when it is accepted, says in a task of its own what it is (TLS handshake, if there are certificates; HTTP/2
//! preface), and only then comes to the server. Who is slow at that holds nobody up.

mod connection;
mod handshakes;
mod seats;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::transport::server::TcpIncoming;

pub use self::connection::{Connection, Peer};
use self::{
    connection::Terms,
    handshakes::{Handshakes, shake_hands},
    seats::Seats,
};
use super::tls::Certificates;
use crate::{config::ConnectionSettings, metrics::security as metrics};

/// A connection on which nothing moves is probed after this long, for peers that vanish before HTTP/2's own pings.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Connections that the server has yet to take up.
const READY: usize = 16;

/// Pause after the machine could not accept: it has no file descriptor or memory left, and will not have one at once.
const BACKOFF: Duration = Duration::from_millis(100);

/// Accepts connections until the stream of them is dropped, which closes the listener, too.
///
/// Must be called within a runtime.
pub fn accept(
    listener: TcpListener,
    settings: &ConnectionSettings,
    certificates: Option<Arc<Certificates>>,
) -> ReceiverStream<Result<Connection, Infallible>> {
    let (ready, connections) = mpsc::channel(READY);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE));
    let seats = Seats::new(settings.max_connections, settings.max_connections_per_ip);
    tokio::spawn(accept_all(incoming, seats, Arc::new(Terms::new(settings)), certificates, ready));
    ReceiverStream::new(connections)
}

type Ready = mpsc::Sender<Result<Connection, Infallible>>;

async fn accept_all(
    mut incoming: TcpIncoming,
    seats: Seats,
    terms: Arc<Terms>,
    certificates: Option<Arc<Certificates>>,
    ready: Ready,
) {
    let mut handshakes = Handshakes::new(terms.max_handshakes);
    loop {
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = incoming.next() => accepted,
        };
        match accepted {
            Some(Ok(stream)) => {
                let Some(seat) = stream.peer_addr().ok().and_then(|peer| seats.take(peer.ip())) else { continue };
                let (terms, certificates, ready) = (Arc::clone(&terms), certificates.clone(), ready.clone());
                handshakes.spawn(async move {
                    let shaken = shake_hands(stream, certificates.as_deref(), terms.handshake).await;
                    if let Some((io, info)) = shaken {
                        // Not sent if the server has stopped.
                        let _ = ready.send(Ok(Connection::new(io, info, seat, &terms))).await;
                    }
                });
            }
            Some(Err(error)) if is_of_the_connection(&error) => {}
            Some(Err(error)) => {
                metrics::accept_failed();
                tracing::error!(%error, "cannot accept connections");
                tokio::time::sleep(BACKOFF).await;
            }
            None => return,
        }
    }
}

/// Whether the peer went away before it was accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
