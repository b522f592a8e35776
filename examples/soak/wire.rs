//! Connections that no client library makes: frames that break HTTP/2, ends by RST.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use prost::Message;
use rasid::proto::v1;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::{
    Failure,
    books::{Books, Kind, Method},
    server::{NAME, Server, key},
    texts,
};

/// What an HTTP/2 client sends first: preface and empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Longest frame that may be sent unless the server says otherwise.
const MOST_BYTES: usize = 16_384;

/// Ways to break the protocol.
pub const WAYS: [&str; 4] =
    ["oversized frames", "headers on stream 0", "continuations without headers", "garbage for frames"];

/// A frame with all flags that end something.
fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, 0x5]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn broken_frame(way: usize, rng: &mut Rng) -> Vec<u8> {
    match way {
        0 => frame(DATA, 1, &vec![0; MOST_BYTES + 1]),
        // :method GET, from the static table.
        1 => frame(HEADERS, 0, &[0x82]),
        2 => frame(CONTINUATION, 1, &[0x82]),
        // A length that no frame may have, whatever follows.
        _ => [0xff].into_iter().chain((0..rng.usize(64..4096)).map(|_| rng.u8(..))).collect(),
    }
}

/// Breaks the protocol behind the preface; whether the server closed the connection, as it must.
pub async fn break_protocol(server: &Server, way: usize, rng: &mut Rng) -> Result<bool, Failure> {
    const MOST: Duration = Duration::from_secs(20);
    let mut stream = secure(server).await?;
    stream.write_all(HELLO).await?;
    // Not written to the end if it is closed meanwhile.
    let _ = stream.write_all(&broken_frame(way, rng)).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    // A reset is an end, too.
    Ok(tokio::time::timeout(MOST, stream.read_to_end(&mut answer)).await.is_ok())
}

/// A connection through TLS on which HTTP/2 has been agreed.
async fn secure(server: &Server) -> Result<TlsStream<TcpStream>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.authority.0.as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.address).await?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME)?, stream);
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    Ok(tokio::time::timeout(Duration::from_secs(10), connecting).await.map_err(late)??)
}

/// A message as gRPC sends it: not compressed, its length before it.
fn message(request: &impl Message) -> Bytes {
    let body = request.encode_to_vec();
    [&[0][..], &(body.len() as u32).to_be_bytes(), &body].concat().into()
}

fn first_message(method: Method, document: v1::Document) -> Bytes {
    match method {
        Method::StreamTag => {
            let document = v1::stream_tag_request::Message::Document(document);
            message(&v1::StreamTagRequest { message: Some(document) })
        }
        _ => message(&v1::TagRequest { document: Some(document), options: None }),
    }
}

/// Opens calls and cuts the connection with RST, without a word of TLS or HTTP/2.
pub async fn reset(server: &Server, books: &Arc<Books>, rng: &mut Rng) -> Result<(), Failure> {
    let stream = secure(server).await?;
    stream.get_ref().0.set_zero_linger()?;
    let (mut requests, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(async move { drop(connection.await) });
    let mut calls = Vec::new();
    for _ in 0..8 {
        requests = requests.ready().await?;
        let method = if rng.bool() { Method::StreamTag } else { Method::Tag };
        let request = http::Request::post(format!("https://{NAME}/rasid.v1.TaggerService/{method:?}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", key("gamma")));
        let open = books.open(Kind::Attack, method, false, 1);
        let (answer, mut body) = requests.send_request(request.body(())?, false)?;
        // A stream may have more to send.
        body.send_data(first_message(method, texts::document(rng, books.id())), method == Method::Tag)?;
        calls.push((open, answer, body));
    }
    tokio::time::sleep(Duration::from_millis(rng.u64(0..300))).await;
    // With the task goes the socket; what the calls still hold cannot send any more.
    connection.abort();
    let _ = connection.await;
    drop(calls);
    Ok(())
}
