//! A connection that has said what it is.

use std::{
    fmt,
    io::{self, IoSlice},
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use governor::{DefaultDirectRateLimiter, Quota};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::seats::{Seat, Standing};
use crate::{config::ConnectionSettings, metrics::security as metrics};

/// What every HTTP/2 connection begins with.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Seconds' worth of resets that may come at once.
const RESET_BURST: u32 = 10;

/// On what terms connections are held.
#[derive(Debug)]
pub struct Terms {
    /// Time for the handshake.
    pub handshake: Duration,
    /// Most handshakes at a time.
    pub max_handshakes: usize,
    /// When a connection is closed at the latest.
    end: Option<Duration>,
    /// Calls that may be cancelled on it.
    resets: Option<Quota>,
}

impl Terms {
    /// As they are set.
    pub fn new(settings: &ConnectionSettings) -> Self {
        let per_second = settings.max_resets_per_second;
        let burst = NonZeroU32::new(per_second.saturating_mul(RESET_BURST));
        let resets = NonZeroU32::new(per_second).zip(burst);
        Self {
            handshake: settings.handshake(),
            max_handshakes: settings.max_handshakes,
            end: settings.age().map(|(_, end)| end),
            resets: resets.map(|(per_second, burst)| Quota::per_second(per_second).allow_burst(burst)),
        }
    }
}

/// Who is at the other end, as the calls of a connection know it.
#[derive(Debug, Clone)]
pub struct Peer {
    info: TcpConnectInfo,
    resets: Option<Arc<DefaultDirectRateLimiter>>,
    standing: Arc<Standing>,
}

impl Peer {
    /// The addresses of both ends.
    pub fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }

    /// Notes that a call was admitted.
    pub fn note_admitted(&self) {
        self.standing.admitted.store(true, Ordering::Relaxed);
    }

    /// Counts a call that was cancelled right after it began, and closes the connection if there are too many.
    pub fn note_reset(&self) {
        metrics::reset();
        let close = &self.standing.close;
        if self.resets.as_ref().is_some_and(|resets| resets.check().is_err()) && !close.is_cancelled() {
            close.cancel();
            metrics::connection_closed("resets");
            // Not louder: who does this comes again, and must not fill the disk.
            tracing::debug!(peer = ?self.info.remote_addr, "a connection cancelled too many calls and is closed");
        }
    }
}

/// A connection; it gives its seat back when dropped.
pub struct Connection {
    io: Io,
    /// What of the preface, which has been read, the server has yet to see.
    preface: &'static [u8],
    peer: Peer,
    /// Done when the connection must end, whatever goes on in it.
    end: BoxFuture<'static, ()>,
    has_ended: bool,
    _seat: Seat,
}

impl Connection {
    /// Of what has said what it is.
    pub fn new(io: Io, info: TcpConnectInfo, seat: Seat, terms: &Terms) -> Self {
        let resets = terms.resets.map(|quota| Arc::new(DefaultDirectRateLimiter::direct(quota)));
        let peer = Peer { info, resets, standing: seat.settle() };
        let (close, end) = (peer.standing.close.clone(), terms.end);
        let end = Box::pin(async move {
            let of_age = async {
                match end {
                    Some(end) => tokio::time::sleep(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = close.cancelled() => {}
                () = of_age => metrics::connection_closed("age"),
            }
        });
        Self { io, preface: PREFACE, peer, end, has_ended: false, _seat: seat }
    }

    /// The bytes below, unless the connection must end.
    fn io(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut Io>> {
        if !self.has_ended {
            self.has_ended = self.end.as_mut().poll(context).is_ready();
        }
        if self.has_ended { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(Pin::new(&mut self.io)) }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.preface.is_empty() {
            let (now, later) = self.preface.split_at(self.preface.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.preface = later;
            return Poll::Ready(Ok(()));
        }
        self.io(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io(context)?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io(context)?.poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// The bytes of a connection.
#[derive(Debug)]
pub enum Io {
    /// As they are.
    Plain(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the same with either.
macro_rules! either {
    ($io:expr, $stream:ident => $work:expr) => {
        match $io {
            Io::Plain($stream) => $work,
            Io::Tls($stream) => $work,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }
}
