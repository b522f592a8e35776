//! Calls whose client does nothing do not stay for ever, and are told why; calls that wait for the server stay.

mod support;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use prost::Message;
use rasid::proto::v1;
use support::{
    TestServer,
    keys::{KeysFile, entry, figure, reason, with_key},
    raw::{endless_call, endless_call_with},
    text,
};
use tokio::{net::TcpStream, time::timeout};
use tonic::{Code, Status};

const LONG: Duration = Duration::from_secs(60);

fn document() -> v1::StreamTagRequest {
    v1::StreamTagRequest { message: Some(v1::stream_tag_request::Message::Document(text("Rain in Basra."))) }
}

#[tokio::test]
async fn a_silent_stream_is_aborted() {
    let server = TestServer::start(&["--stream-idle-seconds", "1"]).await;
    let mut client = server.client().await;
    let mut results = client.stream_tag(stream::pending()).await.unwrap().into_inner();
    let status = timeout(LONG, results.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::Aborted, "STREAM_IDLE"), "{status:?}");
    assert_eq!(figure(&status, "limit"), "1");

    // What was sent before is answered.
    let mut results =
        client.stream_tag(stream::iter([document()]).chain(stream::pending())).await.unwrap().into_inner();
    assert!(results.next().await.unwrap().is_ok());
    let status = timeout(LONG, results.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(reason(&status), "STREAM_IDLE");
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_waits_for_the_server_is_not_idle() {
    // The second document must wait for more than two seconds.
    let keys = KeysFile::new(&(entry("slow", "key") + "[limits.slow]\ndocuments_per_second = 0.4\n"));
    let flags = keys.flags();
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--stream-idle-seconds", "1"]);
    let server = TestServer::start(&flags).await;
    let messages = stream::iter([document(), document()]);
    let results = server.client().await.stream_tag(with_key("key", messages)).await.unwrap().into_inner();
    let results: Vec<_> = timeout(LONG, results.collect()).await.unwrap();
    assert!(results.len() == 2 && results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_aborted() {
    let server = TestServer::start(&["--upload-seconds", "1"]).await;
    for method in ["Tag", "BatchTag", "GetModelInfo"] {
        let status = endless_call(&server, &format!("/rasid.v1.TaggerService/{method}"), None).await;
        assert_eq!((status.code(), &*reason(&status)), (Code::Aborted, "UPLOAD_TOO_SLOW"), "{method}: {status:?}");
    }
    let status = endless_call(&server, "/grpc.health.v1.Health/Check", None).await;
    assert_eq!(status.code(), Code::Aborted);
    let deadline = [("grpc-timeout", "500m".to_owned())];
    let status = endless_call_with(&server, "/rasid.v1.TaggerService/Tag", &deadline).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

/// A batch whose answer is far larger than what a client takes that takes nothing.
fn batch() -> Bytes {
    let options = v1::TagOptions { include_all_scores: true, include_embedding: true, ..v1::TagOptions::default() };
    let request = v1::BatchTagRequest { documents: vec![text("Rain in Basra."); 50], options: Some(options) };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(request.encoded_len() as u32);
    request.encode(&mut message).unwrap();
    message.freeze()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_dropped_and_the_client_told() {
    let keys = KeysFile::new(&(entry("one", "key") + "[limits.one]\nconcurrent_calls = 1\n"));
    let flags = keys.flags();
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--stream-idle-seconds", "2"]);
    let server = TestServer::start(&flags).await;

    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut requests, connection) =
        h2::client::Builder::new().initial_window_size(100).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    requests = requests.ready().await.unwrap();
    let request = http::Request::post("http://localhost/rasid.v1.TaggerService/BatchTag")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", "Bearer key");
    let (response, mut body) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(batch(), true).unwrap();
    let mut results = timeout(LONG, response).await.unwrap().unwrap().into_body();
    let first = timeout(LONG, results.data()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.len(), 100);

    // The call counts as open until it is given up; then there is room for another.
    let request = || with_key("key", v1::TagRequest { document: Some(text("Rain.")), options: None });
    let mut client = server.client().await;
    assert_eq!(client.tag(request()).await.unwrap_err().code(), Code::ResourceExhausted);
    let mut served = false;
    for _ in 0..300 {
        served = client.tag(request()).await.is_ok();
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(served, "the call that nobody takes is open for ever");

    // The client comes back: a few chunks, then why there are no more.
    let mut length = first.len();
    let mut unreleased = first.len();
    loop {
        results.flow_control().release_capacity(unreleased).unwrap();
        match timeout(LONG, results.data()).await.unwrap() {
            Some(data) => unreleased = data.unwrap().len(),
            None => break,
        }
        length += unreleased;
    }
    let trailers = timeout(LONG, results.trailers()).await.unwrap().unwrap().unwrap();
    let status = Status::from_header_map(&trailers).unwrap();
    assert_eq!((status.code(), &*reason(&status)), (Code::Aborted, "CLIENT_STALLED"), "{status:?}");
    assert!(length < 40_000, "{length} bytes were kept");
}
