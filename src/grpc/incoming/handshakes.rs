//! What a connection must say before it is one: in time, and not too many at once.

use std::{collections::VecDeque, future::Future, io, time::Duration};

use thiserror::Error;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use tonic::transport::server::{Connected, TcpConnectInfo};

use super::connection::{Io, PREFACE};
use crate::{grpc::tls::Certificates, metrics::security as metrics};

/// Handshakes on their way.
#[derive(Debug)]
pub struct Handshakes {
    tasks: JoinSet<()>,
    /// From the oldest to the newest.
    order: VecDeque<AbortHandle>,
    most: usize,
}

impl Handshakes {
    /// None yet, and so many at a time.
    pub fn new(most: usize) -> Self {
        Self { tasks: JoinSet::new(), order: VecDeque::new(), most }
    }

    /// Begins one more. If there are too many the oldest is ended: one that is meant well is done in a moment, so that the oldest is
    /// probably one that holds its place on purpose.
    pub fn spawn(&mut self, handshake: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        if self.order.len() >= self.most {
            self.order.retain(|task| !task.is_finished());
        }
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
            metrics::handshake_failed("displaced");
        }
        self.order.push_back(self.tasks.spawn(handshake));
    }
}

/// Hears what a connection has to say first; `None` if it is not that.
pub async fn shake_hands(
    stream: TcpStream,
    certificates: Option<&Certificates>,
    limit: Duration,
) -> Option<(Io, TcpConnectInfo)> {
    let info = stream.connect_info();
    let handshake = async {
        let mut io = match certificates {
            Some(certificates) => Io::Tls(Box::new(certificates.accept(stream).await.map_err(Failure::Tls)?)),
            None => Io::Plain(stream),
        };
        read_preface(&mut io).await?;
        Ok(io)
    };
    match timeout(limit, handshake).await.unwrap_or(Err(Failure::Timeout)) {
        Ok(io) => Some((io, info)),
        Err(failure) => {
            metrics::handshake_failed(failure.reason());
            tracing::debug!(peer = ?info.remote_addr, %failure, "no connection");
            None
        }
    }
}

async fn read_preface(io: &mut Io) -> Result<(), Failure> {
    let mut read = [0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() {
        match io.read(&mut read[length..]).await.map_err(Failure::Closed)? {
            0 => return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into())),
            more => length += more,
        }
        // Not waiting for the rest of what is something else.
        if !PREFACE.starts_with(&read[..length]) {
            return Err(Failure::NotHttp2);
        }
    }
    Ok(())
}

/// Why there is no connection.
#[derive(Debug, Error)]
enum Failure {
    #[error("the TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("the peer went away: {0}")]
    Closed(io::Error),
    #[error("this is not HTTP/2")]
    NotHttp2,
    #[error("the peer took too long")]
    Timeout,
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::Tls(_) => "tls",
            Self::Closed(_) => "closed",
            Self::NotHttp2 => "not_http2",
            Self::Timeout => "timeout",
        }
    }
}
