//! No log holds the text of a document, or what else a caller sends, at any level, whatever becomes of the call.

mod support;

use std::{
    future::poll_fn,
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full};
use prost::bytes::Bytes;
use rasid::{
    config::ServeSettings,
    proto::v1::{self, stream_tag_request::Message, tagger_service_client::TaggerServiceClient},
    telemetry::Telemetry,
};
use support::{
    keys::{KeysFile, entry, with_key},
    poisoned::{POISONED, poisoned_bundle},
    process::Process,
    settings, text,
};
use tonic::{Code, Request, codec::CompressionEncoding, transport::Channel};
use tower_service::Service;

/// In every field of every request here.
const CANARY: &str = "Quetzalcoatlus";

fn document(body: &str) -> v1::Document {
    let id = format!("id-{CANARY}");
    v1::Document { id, title: format!("Title {CANARY}"), text: body.to_owned(), language_code: String::new() }
}

fn tag(document: v1::Document) -> Request<v1::TagRequest> {
    with_headers(v1::TagRequest { document: Some(document), options: None })
}

fn with_headers<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-request-id", format!("not sane {CANARY}").parse().unwrap());
    metadata.insert("authorization", format!("Bearer {CANARY}").parse().unwrap());
    metadata.insert("traceparent", format!("00-{CANARY}").parse().unwrap());
    metadata.insert("x-other", CANARY.parse().unwrap());
    request
}

/// Single documents: good, and bad in every way.
async fn single(client: &mut TaggerServiceClient<Channel>) -> Vec<Code> {
    let good = format!("{CANARY} spoke in Basra.");
    let mut documents = vec![
        document(&good),
        document(&format!("{POISONED}: {good}")),
        document(&good.repeat(200)),
        v1::Document { title: " ".to_owned(), text: " ".to_owned(), ..document("") },
        v1::Document { id: CANARY.repeat(100), ..document(&good) },
        v1::Document { language_code: CANARY.repeat(10), ..document(&good) },
    ];
    documents.push(v1::Document { text: format!("{CANARY}\u{0}\u{200b}\r\n\u{202e}"), ..document("") });
    let mut codes = Vec::new();
    for document in documents {
        codes.push(client.tag(tag(document)).await.err().map_or(Code::Ok, |status| status.code()));
    }
    let options = [
        v1::TagOptions { topics: vec![CANARY.to_owned()], ..Default::default() },
        v1::TagOptions { entity_types: vec![CANARY.to_owned()], ..Default::default() },
        v1::TagOptions { required_model_version: CANARY.to_owned(), ..Default::default() },
        v1::TagOptions { topic_thresholds: [(CANARY.to_owned(), 2.0)].into(), ..Default::default() },
    ];
    for options in options {
        let request = v1::TagRequest { document: Some(document(&good)), options: Some(options) };
        codes.push(client.tag(with_headers(request)).await.err().map_or(Code::Ok, |status| status.code()));
    }
    codes
}

/// Many documents: batches, streams; given up, expired.
async fn many(client: &mut TaggerServiceClient<Channel>) {
    let good = format!("{CANARY} spoke in Basra.");
    let documents = vec![document(&good), document(" "), document(&format!("{POISONED}, {good}"))];
    let batch = v1::BatchTagRequest { documents, options: None };
    assert_eq!(client.batch_tag(with_headers(batch)).await.unwrap().into_inner().results.len(), 3);
    let message = |document| v1::StreamTagRequest { message: Some(Message::Document(document)) };
    let messages = stream::iter([message(document(&good)), message(document(" "))]);
    let results: Vec<_> = client.stream_tag(with_headers(messages)).await.unwrap().into_inner().collect().await;
    assert_eq!(results.len(), 2);
    // A configuration where none may be.
    let config = v1::StreamTagRequest { message: Some(Message::Config(v1::StreamConfig::default())) };
    let messages = stream::iter([message(document(&good)), config]);
    let results: Vec<_> = client.stream_tag(with_headers(messages)).await.unwrap().into_inner().collect().await;
    assert!(results.last().unwrap().is_err());

    let long = vec![document(&good.repeat(30)); 100];
    let request = |timeout| {
        let mut request = with_headers(v1::BatchTagRequest { documents: long.clone(), options: None });
        request.set_timeout(timeout);
        request
    };
    assert!(client.batch_tag(request(Duration::from_millis(80))).await.is_err());
    let abandoned = client.batch_tag(request(Duration::from_secs(60)));
    assert!(tokio::time::timeout(Duration::from_millis(80), abandoned).await.is_err());
}

/// Bytes that are no message, a method that is none.
async fn malformed(channel: &mut Channel, address: &str, path: &str) {
    // TagRequest{document{text}} whose text begins with the canary and is not UTF-8.
    let mut body = CANARY.as_bytes().to_vec();
    body.push(0xff);
    let length = u8::try_from(body.len()).unwrap();
    let mut frame = vec![0, 0, 0, 0, length + 4, 0x0a, length + 2, 0x1a, length];
    frame.extend(body);
    let request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-other", CANARY)
        .body(tonic::body::Body::new(Full::new(Bytes::from(frame)).map_err(|never| match never {})))
        .unwrap();
    poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let _ = channel.call(request).await.unwrap().into_body().collect().await;
}

async fn log_of_everything(flags: &[&str]) -> String {
    let bundle = poisoned_bundle();
    let model = bundle.path().to_str().unwrap();
    let limits = ["--max-document-bytes", "4000", "--max-request-bytes", "400000", "--model", model];
    let mut server = Process::start(&[flags, &["--log", "trace"], &limits].concat()).await;
    let mut client = server.client().await.send_compressed(CompressionEncoding::Gzip);
    let codes = single(&mut client).await;
    use Code::{FailedPrecondition, Internal, InvalidArgument, Ok};
    let expected = [Ok, Internal, InvalidArgument, InvalidArgument, InvalidArgument, InvalidArgument, Ok];
    assert_eq!(codes[..7], expected);
    assert_eq!(codes[7..], [InvalidArgument, InvalidArgument, FailedPrecondition, InvalidArgument]);
    many(&mut client).await;
    let huge = document(&CANARY.repeat(100_000));
    assert_ne!(client.tag(tag(huge)).await.unwrap_err().code(), Ok);
    let address = server.address.to_string();
    let mut channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    malformed(&mut channel, &address, "/rasid.v1.TaggerService/Tag").await;
    malformed(&mut channel, &address, &format!("/{CANARY}/{CANARY}")).await;
    server.signal("TERM");
    assert!(server.ended().await.success());
    server.log()
}

#[track_caller]
fn assert_silent(log: &str) {
    let told = log.lines().find(|line| line.contains(CANARY));
    assert!(told.is_none(), "{}", told.unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_leaves_its_text_in_the_log() {
    for format in ["text", "json"] {
        let log = log_of_everything(&["--log-format", format]).await;
        // It did log, down to the transport.
        assert!(log.contains("TRACE") && log.contains("internal error") && log.contains("rasid::access"), "{log}");
        assert_silent(&log);
    }
}

/// A key opens everything: it must not be where many may read.
#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_in_the_log() {
    let key = format!("rasid_{CANARY}_{}", "0".repeat(40));
    let keys = KeysFile::new(&entry("newsroom", &key));
    let flags = keys.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).chain(["--log", "trace"]).collect();
    let mut server = Process::start(&flags).await;
    let mut client = server.client().await;
    let request = || v1::TagRequest { document: Some(text("Rain.")), options: None };
    client.tag(with_key(&key, request())).await.unwrap();
    let status = client.tag(with_key(&format!("{key}1"), request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    server.signal("TERM");
    assert!(server.ended().await.success());
    let log = server.log();
    assert!(log.contains("key=\"newsroom\"") && log.contains("key=\"none\"") && log.contains("TRACE"), "{log}");
    assert_silent(&log);
}

/// A panic's own message may hold what was sliced: it must not be logged, its place must.
#[test]
fn a_panic_leaves_no_text_in_the_log() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "panics_over_text", "--ignored", "--nocapture"])
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("a thread panicked") && log.contains("no_text_in_logs.rs"), "{log}");
    assert_silent(&log);
}

#[test]
#[ignore = "a process of its own, started by the test before"]
fn panics_over_text() {
    let ServeSettings { telemetry, .. } = settings(&["--log", "trace"]);
    let _telemetry = Telemetry::start(&telemetry).unwrap();
    let article = text(&format!("{CANARY} قال"));
    let within_a_character = CANARY.len() + 2;
    std::thread::spawn(move || article.text[..within_a_character].len()).join().unwrap_err();
}
