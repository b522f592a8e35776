//! Calls and frames that no client library sends.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tonic::{Status, body::Body, transport::Channel};
use tower_service::Service;

use super::TestServer;

/// A call whose request never comes to an end; the status of its answer.
pub async fn endless_call(server: &TestServer, path: &str, key: Option<&str>) -> Status {
    endless_call_with(server, path, key.map(|key| ("authorization", format!("Bearer {key}"))).as_slice()).await
}

/// The same with headers.
pub async fn endless_call_with(server: &TestServer, path: &str, headers: &[(&str, String)]) -> Status {
    unfinished_call(server.channel().await, path, headers, Vec::new()).await
}

/// A call whose request begins so and never comes to an end; the status of its answer.
pub async fn unfinished_call(channel: Channel, path: &str, headers: &[(&str, String)], begin: Vec<u8>) -> Status {
    let begin = stream::iter([Ok::<_, Status>(Frame::data(bytes::Bytes::from(begin)))]);
    call(channel, path, headers, Body::new(StreamBody::new(begin.chain(stream::pending())))).await
}

/// A call with these bytes as its messages, each with flag and length before it; the status of its answer.
pub async fn call_with_bytes(server: &TestServer, path: &str, headers: &[(&str, String)], bytes: Vec<u8>) -> Status {
    let body = Full::new(bytes::Bytes::from(bytes)).map_err(|never| match never {});
    call(server.channel().await, path, headers, Body::new(body)).await
}

async fn call(mut channel: Channel, path: &str, headers: &[(&str, String)], body: Body) -> Status {
    let mut request = http::Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = channel.call(request.body(body).unwrap());
    let response = tokio::time::timeout(Duration::from_secs(20), response).await.unwrap().unwrap();
    let (head, body) = response.into_parts();
    match Status::from_header_map(&head.headers) {
        Some(status) => status,
        None => Status::from_header_map(body.collect().await.unwrap().trailers().unwrap()).unwrap(),
    }
}

/// What an HTTP/2 client sends first: preface and empty settings.
pub const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Types of frames.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const CONTINUATION: u8 = 9;

/// Flags of frames.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a call, each written out (HPACK without tables).
pub fn call_headers(method: &str) -> Vec<u8> {
    let path = format!("/rasid.v1.TaggerService/{method}");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", &path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}
